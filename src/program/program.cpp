#include "program/program.h"

#include <algorithm>

#include "quant/packing.h"

namespace bitstrata::program {
namespace {

int64_t reduction(const Program& program, const Op& op) {
  const Dims& dims = program.tensors[static_cast<size_t>(op.inputs[0])].dims;
  if (const auto* conv = std::get_if<Conv>(&op.kind)) {
    return dims[0] / conv->groups * conv->window.kernel_h * conv->window.kernel_w;
  }
  return std::holds_alternative<Linear>(op.kind) ? dims.back() : 0;
}

const CodeWeights* code_weights(const Op& op) noexcept {
  if (const auto* conv = std::get_if<Conv>(&op.kind)) return std::get_if<CodeWeights>(&conv->weights);
  if (const auto* linear = std::get_if<Linear>(&op.kind)) return std::get_if<CodeWeights>(&linear->weights);
  return nullptr;
}

}  // namespace

bool is_arithmetic(const Kind& kind) noexcept {
  return std::holds_alternative<Conv>(kind) || std::holds_alternative<Linear>(kind) ||
         std::holds_alternative<AveragePool>(kind) || std::holds_alternative<ReduceMean>(kind) ||
         std::holds_alternative<Elementwise>(kind) || std::holds_alternative<Lookup>(kind) ||
         std::holds_alternative<Softmax>(kind) || std::holds_alternative<MatMul>(kind);
}

const char* to_string(const Kind& kind) noexcept {
  struct Name {
    const char* operator()(const Conv&) const { return "conv"; }
    const char* operator()(const Linear&) const { return "linear"; }
    const char* operator()(const AveragePool&) const { return "average-pool"; }
    const char* operator()(const ReduceMean&) const { return "reduce-mean"; }
    const char* operator()(const Elementwise&) const { return "elementwise"; }
    const char* operator()(const Lookup&) const { return "lookup"; }
    const char* operator()(const Softmax&) const { return "softmax"; }
    const char* operator()(const MatMul&) const { return "matmul"; }
    const char* operator()(const MaxPool&) const { return "max-pool"; }
    const char* operator()(const Concat&) const { return "concat"; }
    const char* operator()(const Slice&) const { return "slice"; }
    const char* operator()(const Pad&) const { return "pad"; }
    const char* operator()(const Transpose&) const { return "transpose"; }
    const char* operator()(const Reshape&) const { return "reshape"; }
    const char* operator()(const Gather&) const { return "gather"; }
  };
  return std::visit(Name{}, kind);
}

const char* to_string(StepKind kind) noexcept {
  switch (kind) {
    case StepKind::kAdd:
      return "add";
    case StepKind::kSubtract:
      return "subtract";
    case StepKind::kReverseSubtract:
      return "reverse-subtract";
    case StepKind::kMultiply:
      return "multiply";
    case StepKind::kDivide:
      return "divide";
    case StepKind::kAffine:
      return "affine";
    case StepKind::kClip:
      return "clip";
    case StepKind::kLeakyRelu:
      return "leaky-relu";
    case StepKind::kPRelu:
      return "prelu";
    case StepKind::kHardSigmoid:
      return "hard-sigmoid";
    case StepKind::kHardSwish:
      return "hard-swish";
    case StepKind::kFunction:
      return "function";
  }
  return "unknown";
}

int64_t elements(const Dims& dims) noexcept {
  int64_t product = 1;
  for (int64_t dim : dims) product *= dim;
  return product;
}

int64_t macs(const Program& program, const Op& op) {
  return elements(program.tensors[static_cast<size_t>(op.outputs[0])].dims) * reduction(program, op);
}

int64_t accumulator_bound(const Program& program, const Op& op) {
  const CodeWeights* weights = code_weights(op);
  if (weights == nullptr) return 0;
  const quant::CodeType& code = *program.tensors[static_cast<size_t>(op.inputs[0])].code;
  const int64_t lowest = code.zero, highest = code.zero + code.max_code();
  const auto per_channel = static_cast<size_t>(reduction(program, op));
  const size_t channels = weights->packed.size() * 8 / static_cast<size_t>(weights->bits) / per_channel;
  const std::vector<uint8_t> codes =
      quant::unpack_codes(weights->packed, channels * per_channel, weights->bits);
  int64_t bound = 0;
  for (size_t o = 0; o < channels; ++o) {
    int64_t smallest = 0, largest = 0;
    for (size_t i = 0; i < per_channel; ++i) {
      const int64_t w = weights->grid.at(codes[o * per_channel + i]);
      smallest += std::min(w * lowest, w * highest);
      largest += std::max(w * lowest, w * highest);
    }
    bound = std::max({bound, -smallest, largest});
  }
  return bound;
}

}  // namespace bitstrata::program
