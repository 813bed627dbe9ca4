#include <utility>

#include "core/error.h"
#include "graph/graph.h"

namespace bitstrata::graph {

NodeId insert_batch_norm(Graph& graph, NodeId layer, const std::string& name, BatchNorm parameters) {
  if (layer < 0 || layer >= static_cast<NodeId>(graph.nodes.size())) {
    fail(ErrorCode::kInvalidArgument, "insert_batch_norm: node {} does not exist, the graph has {}", layer,
         graph.nodes.size());
  }
  for (const Node& node : graph.nodes) {
    if (node.name == name)
      fail(ErrorCode::kInvalidArgument, "insert_batch_norm: a node '{}' exists already", printable(name));
  }
  const ValueId before = graph.nodes[layer].output;
  const ValueId after = static_cast<ValueId>(graph.values.size());
  Node added{name, std::move(parameters), {before}, after};
  infer_dims(graph, added);
  Value normalised{graph.values[before].name, graph.values[before].dims, {}};
  // The normalised value takes the old name: it is what the outputs and consumers mean.
  graph.values[before].name = graph.nodes[layer].name + ".raw";
  graph.values.push_back(std::move(normalised));
  for (Node& node : graph.nodes) {
    for (ValueId& v : node.inputs) {
      if (v == before) v = after;
    }
  }
  for (ValueId& v : graph.outputs) {
    if (v == before) v = after;
  }
  const NodeId id = layer + 1;
  graph.nodes.insert(graph.nodes.begin() + id, std::move(added));
  return id;
}

}  // namespace bitstrata::graph
