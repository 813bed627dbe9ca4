#include "compile/choices.h"

#include <algorithm>
#include <cstdlib>

#include "core/error.h"

namespace bitstrata::compile {

namespace {

using graph::Node;
using graph::ValueId;
using plan::EdgeRole;

/// The grid of fewest bits that holds all of `values`; of equal ones the first that kernels like best.
std::optional<quant::QuantizedWeights> fewest_bits(const std::vector<int32_t>& values) {
  const auto [low, high] = std::ranges::minmax(values);
  const bool all_odd = std::ranges::all_of(values, [](int32_t w) { return w % 2 != 0; });
  for (int bits = 1; bits <= 8; ++bits) {
    const int half = 1 << (bits - 1);
    for (const quant::IntegerGrid grid : {quant::IntegerGrid{1, -half}, quant::IntegerGrid{2, 1 - 2 * half},
                                          quant::IntegerGrid{1, 1 - half}}) {
      if (low < grid.at(0) || high > grid.at(2 * half - 1) || (grid.mul == 2 && !all_odd)) continue;
      quant::QuantizedWeights weights{bits, grid, {}, {}};
      for (int32_t w : values) weights.codes.push_back(static_cast<uint8_t>((w - grid.offset) / grid.mul));
      return weights;
    }
  }
  return std::nullopt;
}

/// Largest sum of products over all inputs, as program::validate bounds it.
bool fits_accumulator(const quant::QuantizedWeights& weights, const quant::CodeType& input,
                      size_t reduction) {
  const int64_t max_weight =
      std::max(std::abs(weights.grid.at(0)), std::abs(weights.grid.at((1 << weights.bits) - 1)));
  const int64_t max_value = std::max(-input.zero, input.zero + input.max_code());
  return static_cast<int64_t>(reduction) < (int64_t{1} << 31) / std::max<int64_t>(max_weight * max_value, 1);
}

}  // namespace

Form PlannedChoices::form_of_edge(const Node& n, EdgeRole role, ValueId v) const {
  if (role == EdgeRole::kLayerInput) {
    const plan::LayerPlan& layer = *plan_.find_layer(n.name);
    if (layer.is_float()) return std::nullopt;
    const auto found = quantizers_.layers.find(n.name);
    if (found == quantizers_.layers.end() || found->second.input.bits != layer.activation_bits) {
      fail(ErrorCode::kBadInput,
           "layer '{}': its input quantizer is missing or has other bits than the plan's {}",
           printable(n.name), layer.activation_bits);
    }
    return found->second.input;
  }
  if (role == EdgeRole::kStream) {
    const plan::StreamPlan& stream = *plan_.find_stream(graph_.values[static_cast<size_t>(v)].name);
    if (stream.bits == 0) return std::nullopt;
    const auto found = quantizers_.streams.find(stream.value);
    if (found == quantizers_.streams.end() || found->second.bits != stream.bits) {
      fail(ErrorCode::kBadInput, "stream '{}': its quantizer is missing or has other bits than the plan's {}",
           printable(stream.value), stream.bits);
    }
    return found->second;
  }
  return std::nullopt;
}

std::optional<quant::QuantizedWeights> PlannedChoices::weights_of(const Node& layer) const {
  const plan::LayerPlan& plan = *plan_.find_layer(layer.name);
  if (plan.is_float()) return std::nullopt;
  const auto quantized = [&](const std::vector<float>& weights, int channels) {
    return quant::quantize_weights(plan.policy, plan.weight_bits, weights, channels,
                                   quantizers_.layers.at(layer.name).weight_params);
  };
  if (const auto* conv = std::get_if<graph::Conv>(&layer.kind)) return quantized(conv->weights, conv->oc);
  const auto& linear = std::get<graph::Linear>(layer.kind);
  return quantized(linear.weights, linear.out);
}

OwnChoices::OwnChoices(const graph::Graph& graph) : carried_(graph.values.size()) {
  for (const Node& node : graph.nodes) {
    std::vector<Form> inputs;
    for (ValueId v : node.inputs) inputs.push_back(carried_[static_cast<size_t>(v)]);
    carried_[static_cast<size_t>(node.output)] = graph::carried_code(node, inputs);
    if (const auto* conv = std::get_if<graph::Conv>(&node.kind))
      choose(node, conv->weights.size(), conv->integers);
    if (const auto* linear = std::get_if<graph::Linear>(&node.kind))
      choose(node, linear->weights.size(), linear->integers);
  }
}

void OwnChoices::choose(const Node& layer, size_t weights,
                        const std::optional<graph::ScaledIntegers>& integers) {
  const Form& input = carried_[static_cast<size_t>(layer.inputs[0])];
  const auto stays_float = [&](std::string reason) {
    float_layers_.push_back({layer.name, std::move(reason)});
  };
  if (!integers) return stays_float("its weights have no quantizer with one scale per output channel");
  if (!input) return stays_float("its input has no quantizer");
  auto quantized = fewest_bits(integers->values);
  if (!quantized) {
    const auto [low, high] = std::ranges::minmax(integers->values);
    return stays_float(
        fmt::format("its weights are the integers {} to {} times a scale, which 8 bits do not "
                    "hold; quantize them symmetrically",
                    low, high));
  }
  if (!fits_accumulator(*quantized, *input, weights / integers->scale.size()))
    return stays_float("its sums may reach 2^31");
  quantized->scale = integers->scale;
  layers_.emplace(layer.name, std::move(*quantized));
}

Form OwnChoices::form_of_edge(const Node& node, EdgeRole role, ValueId value) const {
  const bool wants_codes =
      role == EdgeRole::kStream || (role == EdgeRole::kLayerInput && layers_.contains(node.name));
  return wants_codes ? carried_[static_cast<size_t>(value)] : std::nullopt;
}

std::optional<quant::QuantizedWeights> OwnChoices::weights_of(const Node& layer) const {
  const auto found = layers_.find(layer.name);
  return found == layers_.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace bitstrata::compile
