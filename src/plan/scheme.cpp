#include "plan/scheme.h"

#include <algorithm>

namespace bitstrata::plan {
namespace {

using graph::Graph;
using graph::Node;
using graph::NodeId;
using graph::ValueId;

bool is_layer(const graph::Kind& kind) {
  return std::holds_alternative<graph::Conv>(kind) || std::holds_alternative<graph::Linear>(kind);
}

bool is_float_only(const graph::Kind& kind) {
  return std::holds_alternative<program::Softmax>(kind) || std::holds_alternative<program::MatMul>(kind);
}

/// Elementwise nodes that are exact float steps; functions (sigmoid, ...) are tables of codes instead and start an op of their own.
bool is_step(const graph::Kind& kind) {
  if (const auto* activation = std::get_if<graph::Activation>(&kind)) {
    return activation->step.kind != program::StepKind::kFunction;
  }
  return std::holds_alternative<graph::BatchNorm>(kind) || std::holds_alternative<graph::Affine>(kind) ||
         std::holds_alternative<graph::Binary>(kind);
}

class Deriver {
 public:
  explicit Deriver(const Graph& graph) : graph_(graph), uses_(graph::consumers(graph)), producers_(graph.values.size(), -1) {
    for (size_t n = 0; n < graph.nodes.size(); ++n) producers_[static_cast<size_t>(graph.nodes[n].output)] = static_cast<NodeId>(n);
  }

  Scheme run() const {
    Scheme scheme;
    for (const Node& node : graph_.nodes) scheme.roles.push_back(roles_of(node));
    return scheme;
  }

 private:
  bool may_run_on(ValueId value, const Node& node) const {
    const NodeId from = producers_[static_cast<size_t>(value)];
    if (from < 0 || uses_[static_cast<size_t>(value)].size() != 1) return false;
    if (std::find(graph_.outputs.begin(), graph_.outputs.end(), value) != graph_.outputs.end()) return false;
    const auto& kind = graph_.nodes[static_cast<size_t>(from)].kind;
    return !graph::is_data_movement(kind) && !std::holds_alternative<graph::Quantize>(kind) && graph_.values[static_cast<size_t>(value)].dims == graph_.values[static_cast<size_t>(node.output)].dims;
  }

  std::vector<EdgeRole> roles_of(const Node& node) const {
    const size_t inputs = node.inputs.size();
    if (is_layer(node.kind)) return std::vector<EdgeRole>(inputs, EdgeRole::kLayerInput);
    if (is_float_only(node.kind)) return std::vector<EdgeRole>(inputs, EdgeRole::kFloat);
    if (graph::is_data_movement(node.kind) || std::holds_alternative<graph::Quantize>(node.kind)) return std::vector<EdgeRole>(inputs, EdgeRole::kThrough);
    std::vector<EdgeRole> roles(inputs, EdgeRole::kStream);
    int running = -1;
    for (size_t i = 0; i < inputs; ++i) {
      const ValueId value = node.inputs[i];
      if (graph_.values[static_cast<size_t>(value)].is_constant()) {
        roles[i] = EdgeRole::kFloat;
      } else if (is_step(node.kind) && may_run_on(value, node) &&
                 (running < 0 || producers_[static_cast<size_t>(value)] > producers_[static_cast<size_t>(node.inputs[static_cast<size_t>(running)])])) {
        running = static_cast<int>(i);
      }
    }
    if (running >= 0) roles[static_cast<size_t>(running)] = EdgeRole::kRunning;
    return roles;
  }

  const Graph& graph_;
  std::vector<std::vector<NodeId>> uses_;
  std::vector<NodeId> producers_;
};

}  // namespace

bool is_graph_input(const Graph& graph, ValueId value) {
  if (value == graph.input) return true;
  const NodeId from = graph::producer(graph, value);
  if (from < 0) return false;
  const Node& node = graph.nodes[static_cast<size_t>(from)];
  return graph::is_data_movement(node.kind) &&
         std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId input) { return is_graph_input(graph, input); });
}

int Scheme::running_input(NodeId node) const {
  const auto& edges = roles[static_cast<size_t>(node)];
  const auto found = std::find(edges.begin(), edges.end(), EdgeRole::kRunning);
  return found == edges.end() ? -1 : static_cast<int>(found - edges.begin());
}

Scheme derive_scheme(const Graph& graph) { return Deriver(graph).run(); }

std::vector<std::string> quantizable_layers(const Graph& graph) {
  std::vector<std::string> names;
  for (const Node& node : graph.nodes) {
    if (is_layer(node.kind)) names.push_back(node.name);
  }
  return names;
}

std::vector<ValueId> stream_values(const Graph& graph, const Scheme& scheme) {
  std::vector<ValueId> found;
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    for (size_t i = 0; i < graph.nodes[n].inputs.size(); ++i) {
      const ValueId value = graph.nodes[n].inputs[i];
      if (scheme.roles[n][i] == EdgeRole::kStream && std::find(found.begin(), found.end(), value) == found.end()) found.push_back(value);
    }
  }
  return found;
}

}  // namespace bitstrata::plan
