#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "evaluators/layer_terms.h"
#include "evaluators/setting.h"
#include "train/batch_source.h"

namespace bitstrata::evaluators {

/// PDQAT's two networks (papers.md section 2): a float one that is trained, and a quantized one that reads
/// its weights and has batch norms of its own. The float network learns from its loss and the constraints, in
/// which everything quantized is constant: no gradient is estimated through rounding. The paper's code trains
/// the quantized network's gains and shifts through its straight-through estimator; here each follows the
/// float network's value at the next quantizer by the exact gradient of the distance before rounding
/// (LayerTerms), at weight 1, since a multiplier would not move where that distance is least. Ranges and
/// weight scales are not learned but calibrated to the float network again at each epoch and at each change
/// of bits.
class Constrained : public search::ConstrainedEvaluator {
 public:
  /// Starts at the space's highest assignment. proximity_images: training images that proximities() sees,
  /// chosen by the seed. `measure` must outlive this. kInvalidArgument when they are < 1.
  explicit Constrained(const Measure& measure, int proximity_images = 1024);

  /// The quantized network, calibrated, its batch-norm statistics estimated again: exact, on the held-out
  /// split.
  search::Score evaluate(const search::Assignment& assignment) override;
  /// Of the float network that training started from.
  search::Score float_score() override { return measure_.float_score(); }
  /// kInvalidArgument unless there is a multiplier >= 0 per layer; kJobFailed when training diverged.
  double lagrangian_step(const search::Assignment& assignment, const search::Constraints& multipliers,
                         double learning_rate) override;
  /// Of the networks in evaluation mode; the quantized one as evaluate() makes it. Changes nothing.
  search::Constraints proximities(const search::Assignment& assignment) override;
  int64_t steps_per_epoch() const override { return batches_.steps_per_epoch(); }
  std::string save() const override;
  void restore(const std::string& state) override;

  /// The two networks as trained so far, the quantized one at the bits of the last step.
  const train::Network& float_network() const noexcept { return *float_; }
  const train::Network& quantized_network() const noexcept { return *quantized_; }

 private:
  void make_optimizers();
  void requantize(const search::Assignment& assignment);
  void set_stream(const std::string& value, const quant::CodeType& type);
  void copy_slopes() const;
  const train::Calibrator& calibrator();
  std::unique_ptr<train::Network> deployed(const search::Assignment& assignment);
  std::string description() const;
  std::vector<std::pair<std::string, torch::Tensor>> tensors() const;

  const Measure& measure_;
  LayerTerms terms_;
  train::BatchSource batches_;
  int64_t epoch_ = 0, step_ = 0;  ///< of the next batch
  std::vector<torch::Tensor> proximity_batches_;
  search::Assignment assignment_;
  compile::Quantizers start_;  ///< that the quantized network was built with
  std::unique_ptr<train::Network> float_, quantized_;
  std::unique_ptr<torch::optim::Optimizer> optimizer_;
  std::unique_ptr<torch::optim::Optimizer> norm_optimizer_;  ///< of the quantized network; null without norms
  std::optional<train::Calibrator> calibrator_;  ///< of the float network as it is; empty: outdated
};

}  // namespace bitstrata::evaluators
