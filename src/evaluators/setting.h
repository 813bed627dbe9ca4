#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "data/dataset.h"
#include "graph/graph.h"
#include "quant/calibrate.h"
#include "quant/policy.h"
#include "search/evaluator.h"
#include "train/calibrate.h"
#include "train/network.h"
#include "train/torch.h"
#include "train/trainer.h"

/// search's evaluators on real networks: LibTorch behind the interfaces of search/evaluator.h.
namespace bitstrata::evaluators {

/// What all evaluators of one search share. `dataset`, and the setting itself, must outlive them.
struct Setting {
  graph::Graph graph;   ///< the float network, batch norms put back (train::with_batch_norms)
  search::Space space;  ///< of that graph
  const data::Dataset* dataset = nullptr;
  data::Normalization normalization;
  data::Holdout holdout;  ///< of the training split: `train` trains, `val` scores
  torch::Device device = torch::kCPU;
  quant::Policy policy = quant::Policy::kLsq;
  bool per_channel = true;
  quant::Calibration calibration = quant::Calibration::kMse;
  int calibration_images = 1024;
  train::TrainOptions training;  ///< batch, momentum, weight decay, ... of every training step; its learning
                                 ///< rate is given per step
  uint64_t seed = 0;
};

/// Parts that every evaluator needs: plans, start quantizers, held-out scores.
class Measure {
 public:
  explicit Measure(const Setting& setting);

  const Setting& setting() const noexcept { return setting_; }
  plan::Plan plan_of(const search::Assignment& assignment) const;
  /// Start quantizers of a plan from the calibration set.
  compile::Quantizers quantizers(const plan::Plan& plan) const {
    return calibrator_.quantizers(plan, setting_.calibration);
  }
  /// Normalised, unaugmented training images, `calibration_images` in batches of 128.
  const std::vector<torch::Tensor>& calibration_batches() const noexcept { return batches_; }

  /// Score of a deployed program on `indices` of the training split, in the exact arithmetic.
  search::Score exact_score(program::Program program, const std::vector<int64_t>& indices) const;
  /// Score of a function from images to logits.
  search::Score score(const std::function<torch::Tensor(const torch::Tensor&)>& logits,
                      const std::vector<int64_t>& indices) const;
  /// The float network calibrated to an assignment, batch-norm statistics estimated again with the quantizers
  /// in place, not trained: exact score on the held-out split.
  search::Score calibrated_score(const search::Assignment& assignment) const;
  /// Of the float network, on the held-out split; measured once.
  search::Score float_score() const;

 private:
  const Setting& setting_;
  std::vector<torch::Tensor> batches_;
  train::Calibrator calibrator_;
  mutable std::optional<search::Score> float_score_;
};

}  // namespace bitstrata::evaluators
