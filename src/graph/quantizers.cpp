#include <algorithm>

#include "graph/graph.h"

namespace bitstrata::graph {

namespace {

using Code = std::optional<quant::CodeType>;

/// The narrowest type that holds the values of both; empty when their scales differ or 8 bits do not.
Code joined(const Code& a, const Code& b) {
  if (!a || !b || a->scale != b->scale) return std::nullopt;
  const int zero = std::min(a->zero, b->zero);
  const int top = std::max(a->zero + a->max_code(), b->zero + b->max_code());
  for (int bits = 1; bits <= 8; ++bits) {
    if (top - zero < 1 << bits) return quant::CodeType{bits, zero, a->scale};
  }
  return std::nullopt;
}

bool has_integers(const Kind& kind) noexcept {
  const auto* conv = std::get_if<Conv>(&kind);
  const auto* linear = std::get_if<Linear>(&kind);
  return (conv && conv->integers) || (linear && linear->integers);
}

}  // namespace

bool has_quantizers(const Graph& graph) noexcept {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(), [](const Node& node) {
    return std::holds_alternative<Quantize>(node.kind) ||
           std::holds_alternative<program::Lookup>(node.kind) || has_integers(node.kind);
  });
}

Code carried_code(const Node& node, const std::vector<Code>& inputs) {
  if (const auto* quantize = std::get_if<Quantize>(&node.kind)) return quantize->code;
  if (!is_data_movement(node.kind) || inputs.empty()) return std::nullopt;
  Code code = inputs[0];
  for (size_t i = 1; i < inputs.size() && code; ++i) code = joined(code, inputs[i]);
  const auto* pad = std::get_if<program::Pad>(&node.kind);
  if (pad && code && quant::dequantize(quant::quantize(pad->value, *code), *code) != pad->value)
    return std::nullopt;
  return code;
}

}  // namespace bitstrata::graph
