#include "program/layer.h"

namespace bitstrata::program {

const Weights* weights_of(const Op& op) noexcept {
  if (const auto* conv = std::get_if<Conv>(&op.kind)) return &conv->weights;
  if (const auto* linear = std::get_if<Linear>(&op.kind)) return &linear->weights;
  return nullptr;
}

OpBits op_bits(const Program& program, const Op& op) noexcept {
  OpBits bits;
  if (const auto* weights = weights_of(op)) {
    const auto* codes = std::get_if<CodeWeights>(weights);
    bits.w_bits = codes ? codes->bits : 32;
  }
  const auto& input = program.tensors[static_cast<size_t>(op.inputs.front())];
  if (input.code) bits.a_bits = input.code->bits;
  return bits;
}

size_t weight_bytes(const Op& op) noexcept {
  const auto* weights = weights_of(op);
  if (!weights) return 0;
  if (const auto* codes = std::get_if<CodeWeights>(weights)) return codes->packed.size();
  return std::get_if<FloatWeights>(weights)->values.size() * sizeof(float);
}

size_t weight_elems(const Program& program, const Op& op) noexcept {
  const auto& in = program.tensors[static_cast<size_t>(op.inputs.front())].dims;
  if (const auto* conv = std::get_if<Conv>(&op.kind)) {
    return static_cast<size_t>(conv->oc) *
           static_cast<size_t>(in[0] / conv->groups * conv->window.kernel_h * conv->window.kernel_w);
  }
  if (const auto* linear = std::get_if<Linear>(&op.kind))
    return static_cast<size_t>(linear->out) * static_cast<size_t>(in.back());
  return 0;
}

}  // namespace bitstrata::program
