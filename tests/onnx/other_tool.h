#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace bitstrata::testing {

/// Smallest and largest value that occurs.
struct ValueRange {
  float low = 0, high = 0;
};

/// The range of every value of a float network over `images` images, by value id.
std::vector<ValueRange> value_ranges(const graph::Graph& graph, std::span<const float> input, int images);

/// How another tool stores a network of 8 bits.
struct OtherTool {
  /// QLinearConv and its kind, on integers, instead of operators between DequantizeLinear and QuantizeLinear.
  bool operators = false;
  /// int8 activations without zero point behind a Relu, instead of uint8 with one, which leave the Relu out.
  bool symmetric = false;
  /// One scale for each output channel of weights, instead of one.
  bool per_channel = true;
};

/// Writes `graph` to `path` as static quantizers do that are not bitstrata's, in the conventions of ONNX
/// Runtime's: int8 weights by their largest magnitude, int32 biases at input scale times weight scale,
/// activations by `ranges` behind every node but those that a Relu follows; data movement keeps its input's
/// scale. For networks of convolutions, linear layers, ReLUs, additions, means over all positions, max
/// pooling, slices, pads and reshapes, input "x", output "y". std::runtime_error for others.
void write_as_other_tool(const graph::Graph& graph, const std::vector<ValueRange>& ranges,
                         const OtherTool& tool, const std::filesystem::path& path);

}  // namespace bitstrata::testing
