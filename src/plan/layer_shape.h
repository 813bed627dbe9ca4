#pragma once

#include <string>
#include <vector>

#include "graph/graph.h"
#include "program/program.h"

namespace bitstrata::plan {

/// All that decides how long a Conv or Linear takes at given bits, but for the machine: layers of equal shape
/// share their latency. A Linear is a 1x1 convolution on a 1 x rows image.
struct LayerShape {
  bool is_linear = false;
  int in_channels = 1, height = 1, width = 1;  ///< of the input
  int out_channels = 1;
  int groups = 1;
  program::Window window;
  bool signed_input = false;  ///< the input's codes have a zero point
  std::string epilogue;  ///< the steps fused behind the layer but clips, joined by '+': "add" for a residual
                         ///< add, "hard-swish"
  int stores = 1;        ///< forms in which the result is stored: one per quantizer that reads it
  bool operator==(const LayerShape&) const = default;
};

/// "16x32x32 to 16, 3x3" and what is not usual, for messages and listings.
std::string to_string(const LayerShape& shape);

struct NamedShape {
  std::string layer;
  LayerShape shape;
  bool reads_graph_input = false;  ///< its activations are given: 8-bit pixels
};

/// The shapes of all quantizable layers of a graph, in its order, as compile::lower will make them: batch
/// norms behind a layer are folded, and quantizers at different consumers are taken to differ.
std::vector<NamedShape> layer_shapes(const graph::Graph& graph);

/// The shape of a Conv or Linear op with integer weights of a lowered network.
LayerShape shape_of(const program::Program& program, const program::Op& op);

}  // namespace bitstrata::plan
