#include "problem.h"

namespace bitstrata::cli {

std::optional<kernels::ConvProblem> conv_problem(const program::Program& program, const program::Op& op) {
  const auto* weights = weights_of(op);
  const auto* codes = weights ? std::get_if<program::CodeWeights>(weights) : nullptr;
  if (!codes) return std::nullopt;
  const program::Tensor& in = program.tensors[static_cast<size_t>(op.inputs.front())];
  const program::Dims& out_dims = program.tensors[static_cast<size_t>(op.outputs.front())].dims;
  kernels::ConvProblem problem;
  problem.w_bits = codes->bits;
  problem.grid = codes->grid;
  problem.a_bits = in.code->bits;
  problem.a_zero = in.code->zero;
  if (const auto* conv = std::get_if<program::Conv>(&op.kind)) {
    problem.ic = static_cast<int>(in.dims[0]);
    problem.ih = static_cast<int>(in.dims[1]);
    problem.iw = static_cast<int>(in.dims[2]);
    problem.oc = conv->oc;
    problem.oh = static_cast<int>(out_dims[1]);
    problem.ow = static_cast<int>(out_dims[2]);
    problem.groups = conv->groups;
    problem.window = conv->window;
  } else {
    problem.ic = static_cast<int>(in.dims.back());
    problem.oc = static_cast<int>(out_dims.back());
    problem.iw = problem.ow = static_cast<int>(program::elements(in.dims) / in.dims.back());
  }
  return problem;
}

}  // namespace bitstrata::cli
