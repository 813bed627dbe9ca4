#include <utility>

#include "graph/graph.h"

namespace bitstrata::graph {

void remove_dead_nodes(Graph& graph) {
  std::vector<bool> needed(graph.values.size(), false);
  for (ValueId v : graph.outputs) needed[v] = true;
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    if (!needed[node->output]) continue;
    for (ValueId v : node->inputs) needed[v] = true;
  }
  std::erase_if(graph.nodes, [&](const Node& node) { return !needed[node.output]; });
  needed[graph.input] = true;

  std::vector<ValueId> new_id(graph.values.size(), -1);
  std::vector<Value> kept;
  for (size_t v = 0; v < graph.values.size(); ++v) {
    if (!needed[v]) continue;
    new_id[v] = static_cast<ValueId>(kept.size());
    kept.push_back(std::move(graph.values[v]));
  }
  graph.values = std::move(kept);
  graph.input = new_id[graph.input];
  for (ValueId& v : graph.outputs) v = new_id[v];
  for (Node& node : graph.nodes) {
    for (ValueId& v : node.inputs) v = new_id[v];
    node.output = new_id[node.output];
  }
}

}  // namespace bitstrata::graph
