#include "evaluators/layer_terms.h"

#include <algorithm>
#include <map>
#include <set>

#include "core/error.h"

namespace bitstrata::evaluators {
namespace {

using graph::ValueId;
using plan::EdgeRole;
using torch::Tensor;

/// Walks back along fused and moved values to the layers they come from.
class Origins {
 public:
  Origins(const graph::Graph& graph, const search::Space& space)
      : graph_(graph), scheme_(plan::derive_scheme(graph)) {
    for (size_t l = 0; l < space.layers.size(); ++l) layers_[space.layers[l].name] = l;
  }

  const plan::Scheme& scheme() const noexcept { return scheme_; }

  std::set<size_t> of(ValueId value) const {
    const graph::NodeId id = graph::producer(graph_, value);
    if (id < 0) return {};
    const graph::Node& node = graph_.nodes[static_cast<size_t>(id)];
    if (const auto layer = layers_.find(node.name); layer != layers_.end()) return {layer->second};
    std::set<size_t> found;
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const EdgeRole role = scheme_.role(id, i);
      if (role == EdgeRole::kRunning || role == EdgeRole::kThrough) found.merge(of(node.inputs[i]));
    }
    return found;
  }

 private:
  const graph::Graph& graph_;
  plan::Scheme scheme_;
  std::map<std::string, size_t> layers_;
};

/// The value that data movement with one input made `value` from.
ValueId unmoved(const graph::Graph& graph, ValueId value) {
  const graph::NodeId id = graph::producer(graph, value);
  if (id < 0) return value;
  const graph::Node& node = graph.nodes[static_cast<size_t>(id)];
  return graph::is_data_movement(node.kind) && node.inputs.size() == 1 ? unmoved(graph, node.inputs[0])
                                                                       : value;
}

Tensor squared_distance(const Tensor& a, const Tensor& b, double unit) {
  return (a - b).square().mean() / (unit * unit);
}

/// Takes a network's hook away again, and brings its batch norms' momentum back.
class Watch {
 public:
  Watch(train::Network& network, train::Network::EdgeHook hook) : network_(network) {
    network.set_edge_hook(std::move(hook));
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch() {
    network_.set_edge_hook({});
    network_.set_batch_norm_momentum(kMomentum);
  }

 private:
  static constexpr double kMomentum = 0.1;  // train::Network's
  train::Network& network_;
};

}  // namespace

LayerTerms::LayerTerms(const graph::Graph& graph, const search::Space& space)
    : graph_(graph), layers_(space.layers.size()) {
  const Origins origins(graph, space);
  const auto as_list = [](const std::set<size_t>& set) {
    return std::vector<size_t>(set.begin(), set.end());
  };
  std::set<ValueId> seen;
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const graph::Node& node = graph.nodes[n];
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const EdgeRole role = origins.scheme().roles[n][i];
      const ValueId value = node.inputs[i];
      if (graph.values[static_cast<size_t>(value)].is_constant()) continue;
      if (role != EdgeRole::kLayerInput && role != EdgeRole::kStream) continue;
      const bool compared = !plan::is_graph_input(graph, value) && seen.insert(unmoved(graph, value)).second;
      edges_.push_back(
          {static_cast<graph::NodeId>(n), role, value, as_list(origins.of(value)), compared, 0, 1});
    }
  }
  output_layers_ = as_list(origins.of(graph.outputs.at(0)));
}

void LayerTerms::set_ranges(const compile::Quantizers& quantizers) {
  for (Edge& edge : edges_) {
    const std::string& name = edge.role == EdgeRole::kLayerInput
                                  ? graph_.nodes[static_cast<size_t>(edge.node)].name
                                  : graph_.values[static_cast<size_t>(edge.value)].name;
    const quant::CodeType& type =
        edge.role == EdgeRole::kLayerInput ? quantizers.layers.at(name).input : quantizers.streams.at(name);
    edge.low = static_cast<double>(type.scale) * type.zero;
    edge.high = static_cast<double>(type.scale) * (type.zero + (1 << type.bits) - 1);
  }
}

QuantizedPass LayerTerms::run_quantized(train::Network& quantized, const Tensor& x) const {
  QuantizedPass pass;
  const Watch watch(quantized,
                    [&](const graph::Node&, EdgeRole, ValueId, const Tensor& before, const Tensor& after) {
                      pass.before.push_back(before);
                      pass.after.push_back(after.detach());
                      return pass.after.back();
                    });
  pass.logits = quantized.forward(x).detach();
  return pass;
}

Distances LayerTerms::compare(train::Network& network, const Tensor& x, const QuantizedPass& pass) const {
  std::vector<Tensor> sums(layers_);
  std::vector<int> counts(layers_, 0);
  Distances distances;
  distances.norms = torch::zeros({}, pass.logits.options());
  const auto add = [&](const std::vector<size_t>& layers, const Tensor& distance) {
    for (size_t l : layers) {
      sums[l] = counts[l]++ == 0 ? distance : sums[l] + distance;
    }
  };
  size_t next = 0;
  const auto compare_edge = [&](const graph::Node&, EdgeRole, ValueId value, const Tensor& before,
                                const Tensor&) {
    const Edge& edge = edges_.at(next);
    if (edge.value != value)
      fail(ErrorCode::kInternal, "layer terms: the two networks read different values");
    const Tensor& quantized = pass.after.at(next);
    if (edge.compared) {
      const Tensor mine = torch::clamp(before, edge.low, edge.high);
      const Tensor unrounded = torch::clamp(pass.before[next], edge.low, edge.high);
      add(edge.layers, squared_distance(mine, quantized, edge.high - edge.low));
      distances.norms = distances.norms + squared_distance(unrounded, mine.detach(), edge.high - edge.low);
    }
    ++next;
    return quantized;
  };
  const Watch watch(network, compare_edge);
  network.set_batch_norm_momentum(0);
  const Tensor logits = network.forward(x);
  add(output_layers_, (logits - pass.logits).square().mean() / pass.logits.square().mean().clamp_min(1e-12));
  for (size_t l = 0; l < layers_; ++l) {
    distances.layers.push_back(counts[l] > 0 ? sums[l] / counts[l] : torch::zeros({}, pass.logits.options()));
  }
  return distances;
}

}  // namespace bitstrata::evaluators
