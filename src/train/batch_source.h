#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "data/batches.h"
#include "data/dataset.h"
#include "train/torch.h"

namespace bitstrata::train {

/// A mini-batch: x [n, C, H, W] normalised float32, labels [n] int64.
struct Batch {
  torch::Tensor x, labels;
};

/// Shuffled, augmented mini-batches of training samples that depend on (seed, epoch, step) only. Not
/// thread-safe.
class BatchSource {
 public:
  /// indices: the samples of the training split to use. augmentation: empty for the data set's default. A
  /// batch of more than all samples is one of all. dataset must outlive this. kBadInput without samples.
  BatchSource(const data::Dataset& dataset, std::vector<int64_t> indices,
              const data::Normalization& normalization, const std::optional<data::Augmentation>& augmentation,
              int batch, uint64_t seed);

  int batch() const noexcept { return batch_; }
  size_t samples() const noexcept { return indices_.size(); }
  int64_t steps_per_epoch() const noexcept { return static_cast<int64_t>(indices_.size()) / batch_; }
  const data::Augmentation& augmentation() const noexcept { return augmentation_; }
  /// Batch `step` of an epoch, 0 <= step < steps_per_epoch().
  Batch at(int64_t epoch, int64_t step, torch::Device device);

 private:
  const data::Dataset& dataset_;
  std::vector<int64_t> indices_;
  data::BatchFiller filler_;
  data::Augmentation augmentation_;
  int batch_;
  uint64_t seed_;
  int64_t ordered_epoch_ = -1;
  std::vector<int64_t> order_;  ///< of ordered_epoch_
};

}  // namespace bitstrata::train
