#include "problem.h"

namespace bitstrata::cli {
namespace {

const program::Weights* weights_of(const program::Op& op) {
  if (const auto* conv = std::get_if<program::Conv>(&op.kind)) return &conv->weights;
  if (const auto* linear = std::get_if<program::Linear>(&op.kind)) return &linear->weights;
  return nullptr;
}

}  // namespace

OpBits op_bits(const program::Program& program, const program::Op& op) {
  OpBits bits;
  if (const auto* weights = weights_of(op)) {
    const auto* codes = std::get_if<program::CodeWeights>(weights);
    bits.w_bits = codes ? codes->bits : 32;
  }
  const auto& input = program.tensors[static_cast<size_t>(op.inputs.front())];
  if (input.code) bits.a_bits = input.code->bits;
  return bits;
}

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

size_t weight_bytes(const program::Op& op) {
  const auto* weights = weights_of(op);
  if (!weights) return 0;
  if (const auto* codes = std::get_if<program::CodeWeights>(weights)) return codes->packed.size();
  return std::get<program::FloatWeights>(*weights).values.size() * sizeof(float);
}

size_t weight_elems(const program::Program& program, const program::Op& op) {
  const auto& in = program.tensors[static_cast<size_t>(op.inputs.front())].dims;
  if (const auto* conv = std::get_if<program::Conv>(&op.kind)) {
    return static_cast<size_t>(conv->oc) *
           static_cast<size_t>(in[0] / conv->groups * conv->window.kernel_h * conv->window.kernel_w);
  }
  if (const auto* linear = std::get_if<program::Linear>(&op.kind))
    return static_cast<size_t>(linear->out) * static_cast<size_t>(in.back());
  return 0;
}

}  // namespace bitstrata::cli
