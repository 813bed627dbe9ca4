#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "compile/lower.h"
#include "graph/graph.h"
#include "plan/plan.h"
#include "plan/scheme.h"
#include "train/activation_quantizer.h"
#include "train/torch.h"

namespace bitstrata::train {

/// Parameters that share optimiser settings.
struct ParameterGroups {
  std::vector<torch::Tensor> weights;  ///< convolution and fc weights: weight decay
  std::vector<torch::Tensor> ranges;   ///< PACT clips: weight decay
  std::vector<torch::Tensor> others;   ///< biases, batch norms, step sizes: no decay
};

/// A trainable network built from a Graph and a Plan: fake-quantized where the plan has bits, float elsewhere. The same code runs float
/// training (an all-float plan), quantization-aware training and calibration, on any device. Not thread-safe.
class Network {
 public:
  /// quantizers: start values for every quantized layer and stream of the plan.
  Network(graph::Graph graph, plan::Plan plan, const compile::Quantizers& quantizers, torch::Device device = torch::kCPU);
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  /// Logits (the first graph output) of a batch x [n, C, H, W], normalised float32 on this network's device.
  torch::Tensor forward(const torch::Tensor& x);

  /// Batch norms use and update batch statistics (true) or use running ones (false). Starts false.
  void set_training(bool on) noexcept { training_ = on; }
  /// Weight of a new batch in the running statistics; a negative one keeps a plain average since the last call.
  void set_batch_norm_momentum(double momentum) noexcept;

  ParameterGroups parameter_groups() const;
  /// Keeps activation scales and clips within a factor of 4 of their calibrated start, and weight steps positive, after a training step. Scales of
  /// small tensors have noisy gradients: unbounded, one bad step can shrink a range to nothing, from where no gradient leads back.
  void constrain();
  /// Every parameter and buffer by a stable unique name, for checkpoints. The tensors are the live ones.
  std::vector<std::pair<std::string, torch::Tensor>> state() const;

  const graph::Graph& graph() const noexcept { return graph_; }
  const plan::Plan& plan() const noexcept { return plan_; }
  torch::Device device() const noexcept { return device_; }

  /// The graph with the current parameters.
  graph::Graph to_graph() const;
  /// The current quantizers.
  compile::Quantizers quantizers() const;
  /// compile::lower of the two: the network as it would be deployed now.
  program::Program lower() const { return compile::lower(to_graph(), plan_, quantizers()); }

  /// Called in forward() with every value that a quantizer would see (also in float networks): the node, its input index, the value before
  /// quantization. For calibration.
  using EdgeObserver = std::function<void(const graph::Node& node, plan::EdgeRole role, graph::ValueId value, const torch::Tensor& x)>;
  void set_edge_observer(EdgeObserver observer) { observe_edge_ = std::move(observer); }
  /// Called with the output of every Conv and Linear.
  using OutputObserver = std::function<void(graph::NodeId node, const torch::Tensor& y)>;
  void set_output_observer(OutputObserver observer) { observe_output_ = std::move(observer); }

 private:
  /// Rounds activations to codes; `parameter` is the scale, or for PACT the clip scale * high.
  struct ActivationQuantizer {
    torch::Tensor parameter;
    bool is_clip = false;
    float start = 0;  ///< calibrated value of `parameter`
    int bits = 8, zero = 0;
    ScaleGradient gradient = ScaleGradient::kLsq;
    int low() const { return zero; }
    int high() const { return zero + (1 << bits) - 1; }
    quant::CodeType type() const;
    torch::Tensor operator()(const torch::Tensor& x) const;
  };
  struct NodeState {
    std::map<std::string, torch::Tensor> parameters, buffers;
    const plan::LayerPlan* layer = nullptr;  ///< quantized layers only
    ActivationQuantizer input;
  };

  ActivationQuantizer make_quantizer(const quant::CodeType& type, quant::Policy policy, graph::ValueId value) const;
  void build_node(size_t index, const compile::Quantizers& quantizers);
  torch::Tensor tensor(const std::vector<float>& values, std::vector<int64_t> dims) const;
  torch::Tensor input(size_t node, size_t index);
  torch::Tensor run_node(size_t index);
  torch::Tensor run_layer(size_t index);
  torch::Tensor run_batch_norm(size_t index, const torch::Tensor& x);
  torch::Tensor run_binary(size_t index);

  graph::Graph graph_;
  plan::Plan plan_;
  plan::Scheme scheme_;
  torch::Device device_;
  std::vector<NodeState> nodes_;
  std::map<graph::ValueId, ActivationQuantizer> streams_;
  std::map<graph::ValueId, torch::Tensor> constants_;
  std::vector<size_t> uses_;  ///< reads of each value in one forward pass
  bool training_ = false;
  double momentum_ = 0.1;
  int64_t batches_averaged_ = 0;
  EdgeObserver observe_edge_;
  OutputObserver observe_output_;

  // One forward pass.
  int64_t batch_size_ = 0;
  std::vector<torch::Tensor> values_;
  std::map<graph::ValueId, torch::Tensor> stream_codes_;
  std::vector<size_t> uses_left_;
};

}  // namespace bitstrata::train
