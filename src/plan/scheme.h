#pragma once

#include <vector>

#include "graph/graph.h"

namespace bitstrata::plan {

/// What an edge (an input of a node) of the float graph becomes in the quantized network.
enum class EdgeRole {
  kRunning,     ///< fused: the float value goes on within one op, never rounded, never stored
  kLayerInput,  ///< input of a Conv or Linear: rounded to the layer's activation bits
  kStream,      ///< operand of other arithmetic (residual adds, pooling, functions): rounded to the stream bits of the value
  kThrough,     ///< input of data movement or of a Quantize: takes whatever type its consumer wants
  kFloat,       ///< stays float32 (softmax, products of activations, constants)
};

/// Where quantizers sit. Training, calibration, search and compile all follow this one derivation, so they cannot disagree.
struct Scheme {
  std::vector<std::vector<EdgeRole>> roles;  ///< roles[node][input]

  EdgeRole role(graph::NodeId node, size_t input) const { return roles[static_cast<size_t>(node)][input]; }
  /// Index of the running input of a node, or -1.
  int running_input(graph::NodeId node) const;
};

/// Derives the roles. An elementwise node continues the op of the producer of one of its inputs when that producer is arithmetic, the
/// value has no other use and already has the output's dims; of several such inputs the one computed last.
Scheme derive_scheme(const graph::Graph& graph);

/// True when `value` is the network's input, possibly moved around.
bool is_graph_input(const graph::Graph& graph, graph::ValueId value);

/// Names of all quantizable layers (Conv and Linear nodes), in graph order.
std::vector<std::string> quantizable_layers(const graph::Graph& graph);

/// Values on kStream edges, in graph order, each once.
std::vector<graph::ValueId> stream_values(const graph::Graph& graph, const Scheme& scheme);

}  // namespace bitstrata::plan
