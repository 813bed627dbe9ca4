#pragma once

#include <vector>

#include "compile/lower.h"
#include "graph/graph.h"
#include "plan/scheme.h"
#include "search/space.h"
#include "train/network.h"
#include "train/torch.h"

namespace bitstrata::evaluators {

/// What one pass of the quantized network leaves behind, for every edge with a quantizer in the order of the
/// pass.
struct QuantizedPass {
  std::vector<torch::Tensor> before;  ///< what was rounded; knows the gradients of gains and shifts
  std::vector<torch::Tensor> after;   ///< what was read, constant
  torch::Tensor logits;               ///< constant
};

/// Distances between a float and a quantized network that read the same quantized inputs, layer by layer.
struct Distances {
  /// Per layer of the space: mean squared distance between its float output and its quantized output, both in
  /// units of the range of the quantizer that reads it and clipped to it. The layer that makes the logits:
  /// mean squared distance of the logits over the mean square of the quantized ones. 0 where no quantizer
  /// reads the output. Several values of one layer: their mean. Gradients reach the float network only.
  std::vector<torch::Tensor> layers;
  /// Sum over all values of the distance between the quantized network's value before rounding and the float
  /// one. Gradients reach the quantized network only: its batch norms, as everything below them is constant.
  torch::Tensor norms;
};

/// The layer constraints of PDQAT (papers.md section 2.1), (1/d) ||f_l(z^q) - f^q_l(z^q)||^2: the float layer
/// is fed what the quantized layer reads, so errors do not add up over layers, and gradients need no estimate
/// through rounding, as what the quantizers make is constant.
class LayerTerms {
 public:
  LayerTerms(const graph::Graph& graph, const search::Space& space);

  /// The ranges that distances are measured in. quantizers: of every layer and stream of the graph.
  void set_ranges(const compile::Quantizers& quantizers);

  /// One pass of the quantized network. Nothing that it rounds passes a gradient on.
  QuantizedPass run_quantized(train::Network& quantized, const torch::Tensor& x) const;
  /// One pass of the float network over the same batch, fed with what `pass` read. Running batch-norm
  /// statistics stay as they are.
  Distances compare(train::Network& network, const torch::Tensor& x, const QuantizedPass& pass) const;

 private:
  /// An input with a quantizer.
  struct Edge {
    graph::NodeId node = -1;
    plan::EdgeRole role;
    graph::ValueId value = -1;
    std::vector<size_t> layers;  ///< that make the value
    bool compared = false;       ///< the first edge that reads a computed value, moved or not
    double low = 0, high = 1;    ///< range of the quantizer
  };

  graph::Graph graph_;
  std::vector<Edge> edges_;  ///< in the order in which train::Network reads them
  std::vector<size_t> output_layers_;
  size_t layers_ = 0;
};

}  // namespace bitstrata::evaluators
