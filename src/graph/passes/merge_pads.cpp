#include <algorithm>
#include <limits>

#include "graph/graph.h"

namespace bitstrata::graph {

namespace {

bool is_image_zero_pad(const Node& node) {
  const auto* pad = std::get_if<program::Pad>(&node.kind);
  if (pad == nullptr || pad->value != 0 || pad->before.size() != 3 || pad->before[0] != 0 ||
      pad->after[0] != 0)
    return false;
  const auto small = [](int64_t p) { return p <= std::numeric_limits<int16_t>::max(); };
  return std::all_of(pad->before.begin(), pad->before.end(), small) &&
         std::all_of(pad->after.begin(), pad->after.end(), small);
}

void widen(program::Window& window, const program::Pad& pad) {
  window.pad_top += static_cast<int>(pad.before[1]);
  window.pad_left += static_cast<int>(pad.before[2]);
  window.pad_bottom += static_cast<int>(pad.after[1]);
  window.pad_right += static_cast<int>(pad.after[2]);
}

}  // namespace

void merge_pads(Graph& graph) {
  const auto readers = consumers(graph);
  for (const Node& node : graph.nodes) {
    if (!is_image_zero_pad(node)) continue;
    if (std::find(graph.outputs.begin(), graph.outputs.end(), node.output) != graph.outputs.end()) continue;
    const auto& convs = readers[node.output];
    const bool only_convs = std::all_of(convs.begin(), convs.end(), [&](NodeId id) {
      return std::holds_alternative<Conv>(graph.nodes[id].kind);
    });
    if (!only_convs) continue;
    for (NodeId id : convs) {
      widen(std::get<Conv>(graph.nodes[id].kind).window, std::get<program::Pad>(node.kind));
      graph.nodes[id].inputs[0] = node.inputs[0];
    }
  }
  remove_dead_nodes(graph);
}

}  // namespace bitstrata::graph
