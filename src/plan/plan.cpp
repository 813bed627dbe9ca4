#include "plan/plan.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/error.h"
#include "plan/scheme.h"
#include "quant/packing.h"

namespace bitstrata::plan {
namespace {

using graph::Graph;
using graph::Node;

size_t weight_elems(const graph::Kind& kind) {
  if (const auto* conv = std::get_if<graph::Conv>(&kind)) return conv->weights.size();
  if (const auto* linear = std::get_if<graph::Linear>(&kind)) return linear->weights.size();
  return 0;
}

/// Splits "70KB" into 70 and "KB".
double parse_number(std::string_view text, std::string_view whole, std::string_view& suffix) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || !(value > 0) || !std::isfinite(value)) {
    fail(ErrorCode::kInvalidArgument, "--target {}: expected a number > 0 behind '='", printable(std::string(whole)));
  }
  suffix = std::string_view(end, static_cast<size_t>(text.data() + text.size() - end));
  return value;
}

}  // namespace

Target parse_target(std::string_view text) {
  const auto equals = text.find('=');
  std::string_view suffix;
  const std::string_view kind = text.substr(0, equals);
  const auto bad = [&]() {
    fail(ErrorCode::kInvalidArgument,
         "--target {}: expected avg-bits=N, size=Nx, size=N(B|KB|MB), bitops=N(M|G), bitops=WxA, latency=Nms, latency=Nx or drop=N",
         printable(std::string(text)));
  };
  if (equals == std::string_view::npos) bad();
  const double value = parse_number(text.substr(equals + 1), text, suffix);
  if (kind == "avg-bits" && suffix.empty()) return {Target::Kind::kAvgBits, value};
  if (kind == "drop" && suffix.empty()) return {Target::Kind::kDrop, value};
  if (kind == "size" && suffix == "x") return {Target::Kind::kCompression, value};
  if (kind == "size" && (suffix.empty() || suffix == "B")) return {Target::Kind::kSizeBytes, value};
  if (kind == "size" && suffix == "KB") return {Target::Kind::kSizeBytes, value * 1e3};
  if (kind == "size" && suffix == "MB") return {Target::Kind::kSizeBytes, value * 1e6};
  if (kind == "bitops" && suffix.empty()) return {Target::Kind::kBitOps, value};
  const auto is_width = [](std::string_view digit) { return digit.size() == 1 && digit[0] >= '1' && digit[0] <= '8'; };
  if (kind == "bitops" && suffix.starts_with('x') && is_width(suffix.substr(1)) && is_width(text.substr(equals + 1, 1)) &&
      text.size() == equals + 4) {
    return {Target::Kind::kUniformBitOps, value, suffix[1] - '0'};
  }
  if (kind == "bitops" && suffix == "M") return {Target::Kind::kBitOps, value * 1e6};
  if (kind == "bitops" && suffix == "G") return {Target::Kind::kBitOps, value * 1e9};
  if (kind == "latency" && suffix == "ms") return {Target::Kind::kLatencyMs, value};
  if (kind == "latency" && suffix == "x") return {Target::Kind::kLatencyRatio, value};
  bad();
  return {Target::Kind::kAvgBits, 0};
}

std::string to_string(const Target& target) {
  switch (target.kind) {
    case Target::Kind::kAvgBits: return fmt::format("avg-bits={}", target.value);
    case Target::Kind::kSizeBytes: return fmt::format("size={}B", target.value);
    case Target::Kind::kCompression: return fmt::format("size={}x", target.value);
    case Target::Kind::kBitOps: return fmt::format("bitops={}", target.value);
    case Target::Kind::kUniformBitOps: return fmt::format("bitops={}x{}", target.value, target.activation_bits);
    case Target::Kind::kLatencyMs: return fmt::format("latency={}ms", target.value);
    case Target::Kind::kLatencyRatio: return fmt::format("latency={}x", target.value);
    case Target::Kind::kDrop: return fmt::format("drop={}", target.value);
  }
  return "";
}

const LayerPlan* Plan::find_layer(std::string_view name) const noexcept {
  const auto found = std::find_if(layers.begin(), layers.end(), [&](const LayerPlan& layer) { return layer.name == name; });
  return found == layers.end() ? nullptr : &*found;
}

const StreamPlan* Plan::find_stream(std::string_view value) const noexcept {
  const auto found = std::find_if(streams.begin(), streams.end(), [&](const StreamPlan& stream) { return stream.value == value; });
  return found == streams.end() ? nullptr : &*found;
}

Plan uniform_plan(const Graph& graph, int weight_bits, int activation_bits, quant::Policy policy, bool per_channel) {
  Plan plan;
  for (const Node& node : graph.nodes) {
    if (weight_elems(node.kind) == 0) continue;
    const int input_bits = weight_bits == 0 ? 0 : (is_graph_input(graph, node.inputs.at(0)) ? 8 : activation_bits);
    plan.layers.push_back({node.name, weight_bits, input_bits, policy, per_channel});
  }
  for (graph::ValueId value : stream_values(graph, derive_scheme(graph))) {
    plan.streams.push_back({graph.values[static_cast<size_t>(value)].name, weight_bits == 0 ? 0 : 8});
  }
  return plan;
}

Figures figures(const Graph& graph, const Plan& plan) {
  Figures sum;
  double weight_bits = 0, activation_bits = 0, activations = 0;
  sum.bitops = 0;
  for (const Node& node : graph.nodes) {
    const size_t elems = weight_elems(node.kind);
    if (elems == 0) continue;
    const LayerPlan* layer = plan.find_layer(node.name);
    if (layer == nullptr) fail(ErrorCode::kBadInput, "plan: layer '{}' is missing", printable(node.name));
    const int w = layer->is_float() ? 32 : layer->weight_bits, a = layer->is_float() ? 32 : layer->activation_bits;
    const auto inputs = static_cast<double>(program::elements(graph.values[static_cast<size_t>(node.inputs[0])].dims));
    sum.weights += static_cast<int64_t>(elems);
    sum.weight_bytes += static_cast<int64_t>(layer->is_float() ? 4 * elems : quant::packed_bytes(elems, w));
    weight_bits += static_cast<double>(elems) * w;
    activations += inputs;
    activation_bits += inputs * a;
    sum.bitops += static_cast<double>(graph::macs(graph, node)) * w * a;
  }
  if (sum.weights > 0) {
    sum.compression = 4.0 * static_cast<double>(sum.weights) / static_cast<double>(sum.weight_bytes);
    sum.avg_weight_bits = weight_bits / static_cast<double>(sum.weights);
    sum.avg_activation_bits = activation_bits / activations;
  }
  return sum;
}

void check_plan(const Graph& graph, const Plan& plan) {
  const auto fits = [](int bits) { return bits >= 1 && bits <= 8; };
  const auto layers = quantizable_layers(graph);
  for (const std::string& name : layers) {
    if (plan.find_layer(name) == nullptr) {
      fail(ErrorCode::kBadInput, "plan: layer '{}' of the network is missing; add it or make the plan from this network", printable(name));
    }
  }
  for (const LayerPlan& layer : plan.layers) {
    if (std::find(layers.begin(), layers.end(), layer.name) == layers.end()) {
      fail(ErrorCode::kBadInput, "plan: layer '{}' is not in the network; is it the plan of another one?", printable(layer.name));
    }
    const bool is_float = layer.weight_bits == 0 && layer.activation_bits == 0;
    if (!is_float && !(fits(layer.weight_bits) && fits(layer.activation_bits))) {
      fail(ErrorCode::kBadInput, "plan: layer '{}': found weight_bits {} and activation_bits {}, expected both in 1..8, or both 0 for float",
           printable(layer.name), layer.weight_bits, layer.activation_bits);
    }
  }
  if (plan.layers.size() != layers.size()) fail(ErrorCode::kBadInput, "plan: found {} layers, the network has {}; one is listed twice", plan.layers.size(), layers.size());
  const auto values = stream_values(graph, derive_scheme(graph));
  for (graph::ValueId value : values) {
    const std::string& name = graph.values[static_cast<size_t>(value)].name;
    const StreamPlan* stream = plan.find_stream(name);
    if (stream == nullptr) fail(ErrorCode::kBadInput, "plan: stream '{}' of the network is missing", printable(name));
    if (stream->bits != 0 && !fits(stream->bits)) {
      fail(ErrorCode::kBadInput, "plan: stream '{}': found {} bits, expected 1 to 8, or 0 for float", printable(name), stream->bits);
    }
  }
  if (plan.streams.size() != values.size()) {
    fail(ErrorCode::kBadInput, "plan: found {} streams, the network has {}", plan.streams.size(), values.size());
  }
}

}  // namespace bitstrata::plan
