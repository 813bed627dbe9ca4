#pragma once

#include <map>
#include <vector>

#include "compile/lower.h"
#include "graph/graph.h"
#include "plan/plan.h"
#include "quant/calibrate.h"
#include "train/torch.h"

namespace bitstrata::train {

/// Gives every convolution, and every hidden linear layer, that is not followed by a batch norm one that
/// changes nothing: gain and shift are the deviation and mean of the layer's output over `batches`
/// (normalised inputs). Exported networks have theirs folded into the weights, and low-bit training needs
/// them. Names are the layer's plus "/bn".
graph::Graph with_batch_norms(const graph::Graph& graph, const std::vector<torch::Tensor>& batches,
                              torch::Device device);

/// Start quantizers for any plan of one graph, from the float network's activations over a calibration set.
/// Immutable, so safe to share.
class Calibrator {
 public:
  /// Runs the float network over `batches` (normalised inputs). kBadInput when an activation is not finite.
  Calibrator(graph::Graph graph, const std::vector<torch::Tensor>& batches, torch::Device device);
  /// Activation ranges by `method`, weights by quant::initial_params.
  compile::Quantizers quantizers(const plan::Plan& plan, quant::Calibration method) const;

 private:
  graph::Graph graph_;
  std::map<graph::ValueId, quant::Observer> seen_;
};

/// The quantizers of one plan.
compile::Quantizers calibrate(const graph::Graph& graph, const plan::Plan& plan,
                              const std::vector<torch::Tensor>& batches, quant::Calibration method,
                              torch::Device device);

}  // namespace bitstrata::train
