#include <algorithm>
#include <cmath>
#include <optional>

#include "graph/graph.h"

namespace bitstrata::graph {

namespace {

/// y = x * mul + add per output channel, in double so that folding rounds once.
struct ChannelMap {
  std::vector<double> mul, add;
};

ChannelMap to_map(const BatchNorm& bn) {
  ChannelMap map;
  for (size_t c = 0; c < bn.gamma.size(); ++c) {
    const double mul = bn.gamma[c] / std::sqrt(static_cast<double>(bn.variance[c]) + bn.epsilon);
    map.mul.push_back(mul);
    map.add.push_back(bn.beta[c] - bn.mean[c] * mul);
  }
  return map;
}

ChannelMap to_map(const Affine& affine, size_t channels) {
  ChannelMap map;
  for (size_t c = 0; c < channels; ++c) {
    map.mul.push_back(affine.mul.size() == 1 ? affine.mul[0] : affine.mul[c]);
    map.add.push_back(affine.add.size() == 1 ? affine.add[0] : affine.add[c]);
  }
  return map;
}

bool is_uniform(const ChannelMap& map) {
  return std::all_of(map.mul.begin(), map.mul.end(), [&](double v) { return v == map.mul[0]; }) &&
         std::all_of(map.add.begin(), map.add.end(), [&](double v) { return v == map.add[0]; });
}

/// The map of `node` over the `channels` outputs of the layer before it; empty when it is none.
std::optional<ChannelMap> channel_map(const Graph& graph, const Node& node, bool layer_is_conv,
                                      size_t channels) {
  const Dims& dims = graph.values[node.output].dims;
  std::optional<ChannelMap> map;
  if (const auto* bn = std::get_if<BatchNorm>(&node.kind)) map = to_map(*bn);
  if (const auto* affine = std::get_if<Affine>(&node.kind)) map = to_map(*affine, dims[0]);
  if (!map || layer_is_conv || dims.size() == 1) return map;
  // The channels of a Linear are the last dim, those of its map the first: only one common factor can move
  // over.
  if (!is_uniform(*map)) return std::nullopt;
  return ChannelMap{std::vector<double>(channels, map->mul[0]), std::vector<double>(channels, map->add[0])};
}

void apply(const ChannelMap& map, std::vector<float>& weights, std::vector<float>& bias) {
  const size_t channels = map.mul.size();
  const size_t per_channel_elems = weights.size() / channels;
  bias.resize(channels, 0.0f);
  for (size_t o = 0; o < channels; ++o) {
    for (size_t i = 0; i < per_channel_elems; ++i) {
      float& w = weights[o * per_channel_elems + i];
      w = static_cast<float>(w * map.mul[o]);
    }
    bias[o] = static_cast<float>(bias[o] * map.mul[o] + map.add[o]);
  }
}

}  // namespace

void fold_batch_norms(Graph& graph) {
  const auto readers = consumers(graph);
  std::vector<NodeId> layer_of(graph.values.size(), -1);
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    const auto* conv = std::get_if<Conv>(&node.kind);
    const auto* linear = std::get_if<Linear>(&node.kind);
    if ((conv && !conv->integers) || (linear && !linear->integers))
      layer_of[node.output] = static_cast<NodeId>(i);
  }
  const auto is_output = [&](ValueId v) {
    return std::find(graph.outputs.begin(), graph.outputs.end(), v) != graph.outputs.end();
  };
  for (Node& node : graph.nodes) {
    const NodeId layer_id = layer_of[node.inputs[0]];
    if (layer_id < 0) continue;
    Node& layer = graph.nodes[layer_id];
    if (readers[node.inputs[0]].size() != 1 || is_output(node.inputs[0])) continue;
    auto* conv = std::get_if<Conv>(&layer.kind);
    auto* linear = std::get_if<Linear>(&layer.kind);
    const auto map = channel_map(graph, node, conv != nullptr, conv != nullptr ? conv->oc : linear->out);
    if (!map) continue;
    if (conv != nullptr) {
      apply(*map, conv->weights, conv->bias);
    } else {
      apply(*map, linear->weights, linear->bias);
    }
    // The layer writes the map's output; the map becomes dead, and a second map behind it may fold too.
    layer_of[node.output] = layer_id;
    layer_of[node.inputs[0]] = -1;
    std::swap(layer.output, node.output);
  }
  remove_dead_nodes(graph);
}

}  // namespace bitstrata::graph
