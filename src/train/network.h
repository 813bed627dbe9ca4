#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "compile/lower.h"
#include "graph/graph.h"
#include "plan/plan.h"
#include "plan/scheme.h"
#include "train/mixture_quantizer.h"
#include "train/torch.h"

namespace bitstrata::train {

/// Parameters that share optimiser settings.
struct ParameterGroups {
  std::vector<torch::Tensor> weights;  ///< convolution and fc weights: weight decay
  std::vector<torch::Tensor>
      log_scales;                     ///< logarithms of weight steps and activation scales over their start
  std::vector<torch::Tensor> others;  ///< biases, batch norms, slopes: no decay
};

/// A trainable network built from a Graph and a Plan: fake-quantized where the plan has bits, float
/// elsewhere. The same code runs float training (an all-float plan), quantization-aware training and
/// calibration, on any device. Not thread-safe.
class Network {
 public:
  /// quantizers: start values for every quantized layer and stream of the plan.
  Network(graph::Graph graph, plan::Plan plan, const compile::Quantizers& quantizers,
          torch::Device device = torch::kCPU);
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  /// Logits (the first graph output) of a batch x [n, C, H, W], normalised float32 on this network's device.
  torch::Tensor forward(const torch::Tensor& x);

  /// Batch norms use and update batch statistics (true) or use running ones (false). Starts false.
  void set_training(bool on) noexcept { training_ = on; }

  /// New bits, with their quantizers, for one quantized layer.
  struct LayerChange {
    plan::LayerPlan layer;
    compile::LayerQuantizer quantizers;
  };
  /// Changes a quantized layer's bits in place: parameters keep their tensors, so an optimizer goes on with
  /// them. kInternal for a layer that is not quantized, or another policy or scale count.
  void set_layer(const LayerChange& change);
  /// Logits of x for each change alone, in the order of `changes`; the network itself stays as it is.
  /// Everything before a changed layer is computed once for all. Call under NoGradGuard, not while training.
  std::vector<torch::Tensor> forward_changed(const torch::Tensor& x, const std::vector<LayerChange>& changes);
  /// Reads the weights and biases of the Conv and Linear nodes of `other` (same graph) from now on, without
  /// training them here.
  void use_weights_of(const Network& other);

  /// Candidate widths of one quantized layer, with the start quantizer of each.
  struct LayerMixture {
    std::string layer;
    std::vector<int> weight_bits;
    std::vector<std::vector<float>> weight_params;  ///< one list per weight candidate
    std::vector<quant::CodeType> inputs;            ///< one per width of the input
  };
  /// Shares of the candidates of one layer, float32 [candidates] on this network's device. They may require
  /// gradients.
  struct LayerShares {
    torch::Tensor weight, activation;
  };
  /// From now on these layers read mixtures of their candidates (EBS, papers.md 3.3) from one set of weights;
  /// a side with one candidate is quantized as ever. Inputs that are never negative and learn their range
  /// share one clip, started at the geometric mean of the candidates'; others keep the calibrated ranges,
  /// which share one learned factor. Replaces parameters: make optimizers after it. Call it once, then
  /// set_shares.
  void set_mixture(const std::vector<LayerMixture>& mixtures);
  /// Shares for the following forward passes, in the order of set_mixture's layers.
  void set_shares(const std::vector<LayerShares>& shares);
  /// Quantizers of a plan whose bits are candidates, from the scales and ranges as learned in the mixture.
  /// kInternal for other bits.
  compile::Quantizers choose(const plan::Plan& plan) const;

  /// Weight of a new batch in the running statistics; a negative one keeps a plain average since the last
  /// call.
  void set_batch_norm_momentum(double momentum) noexcept;

  ParameterGroups parameter_groups() const;
  /// Sum of the squares of all learned PACT clips (the regulariser of the PACT paper, methods.md sheet 2);
  /// undefined when there are none.
  torch::Tensor clip_penalty() const;
  /// Keeps activation scales within a factor of 4 of their calibrated start, after a training step. Scales of
  /// small tensors have noisy gradients: unbounded, bad steps can shrink a range to nothing, from where no
  /// gradient leads back.
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

  /// Called in forward() for every edge where quantizers sit (also in float networks): the reading node, the
  /// role, the value, its tensor before and after quantization. What it returns is read instead of `after`.
  /// For calibration and for layer-wise constraints.
  using EdgeHook =
      std::function<torch::Tensor(const graph::Node& node, plan::EdgeRole role, graph::ValueId value,
                                  const torch::Tensor& before, const torch::Tensor& after)>;
  void set_edge_hook(EdgeHook hook) { edge_hook_ = std::move(hook); }
  /// Called with every value that forward() computes, before any quantizer that reads it.
  using ValueObserver = std::function<void(graph::ValueId value, const torch::Tensor& x)>;
  void set_value_observer(ValueObserver observer) { observe_value_ = std::move(observer); }

 private:
  /// Rounds activations to codes. The scale is trained by its logarithm: steps are relative, so ranges of any
  /// size learn alike, and a scale cannot turn negative (Jain et al. 2020, "Trained quantization thresholds",
  /// section 3).
  struct ActivationQuantizer {
    torch::Tensor start;       ///< [1], calibrated scale
    torch::Tensor log_growth;  ///< [1], trained: the scale is start * exp(log_growth)
    bool decays = false;       ///< PACT: large clips are penalised
    int bits = 8, zero = 0;
    int low() const { return zero; }
    int high() const { return zero + (1 << bits) - 1; }
    torch::Tensor scale() const { return start * log_growth.exp(); }
    quant::CodeType type() const;
  };
  /// Arguments of mix_activations.
  struct InputMixture {
    torch::Tensor shares, growth;
    std::vector<CodeRange> candidates;
  };
  /// Candidates of one layer. Scales of the weights are in rows [candidates, scales] of the layer's
  /// weight_params and log_growth; the input's growth is that of its ActivationQuantizer.
  struct Mixture {
    std::vector<int> weight_bits;
    std::vector<CodeRange> inputs;
    LayerShares shares;
  };
  struct NodeState {
    std::map<std::string, torch::Tensor> parameters, buffers;
    const plan::LayerPlan* layer = nullptr;  ///< quantized layers only
    ActivationQuantizer input;
    std::optional<Mixture> mixture;
  };

  ActivationQuantizer make_quantizer(const quant::CodeType& type, quant::Policy policy,
                                     graph::ValueId value) const;
  std::vector<const ActivationQuantizer*> activation_quantizers() const;
  static torch::Tensor weight_params(const NodeState& state);
  static torch::Tensor quantized_weight(const NodeState& state);
  static InputMixture only(const ActivationQuantizer& quantizer);
  static InputMixture input_mixture(const NodeState& state);
  static torch::Tensor quantize(const torch::Tensor& x, const InputMixture& mixture);
  void build_node(size_t index, const compile::Quantizers& quantizers);
  torch::Tensor tensor(const std::vector<float>& values, std::vector<int64_t> dims) const;
  NodeState changed_state(size_t node, const LayerChange& change) const;
  size_t layer_node(const std::string& name) const;
  void begin(const torch::Tensor& x);
  torch::Tensor run_from(size_t node);
  torch::Tensor take(graph::ValueId value);
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
  std::vector<size_t> mixed_;  ///< nodes of set_mixture
  std::map<graph::ValueId, ActivationQuantizer> streams_;
  std::map<graph::ValueId, torch::Tensor> constants_;
  std::vector<size_t> uses_;  ///< reads of each value in one forward pass
  bool training_ = false;
  double momentum_ = 0.1;
  int64_t batches_averaged_ = 0;
  EdgeHook edge_hook_;
  ValueObserver observe_value_;

  /// One forward pass.
  struct Pass {
    int64_t batch_size = 0;
    std::vector<torch::Tensor> values;
    std::map<graph::ValueId, torch::Tensor> stream_codes;
    std::vector<size_t> uses_left;
  };
  Pass pass_;
};

}  // namespace bitstrata::train
