#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/dataset.h"

namespace bitstrata::data {

/// `indices` in a random order that depends only on (indices, seed, epoch).
std::vector<int64_t> shuffled(std::span<const int64_t> indices, uint64_t seed, uint64_t epoch);

/// 0, 1, ..., count - 1.
std::vector<int64_t> all_indices(size_t count);

/// Which random numbers augmentation draws: those of a sample depend on (seed, epoch, index of the sample)
/// alone, so a resumed or differently batched run sees the same images.
struct AugmentationKey {
  uint64_t seed = 0;
  uint64_t epoch = 0;
};

/// Makes network inputs from the samples of one split. Keeps a reference to `dataset`, which must outlive it.
/// const members are thread-safe. Results do not depend on the number of threads.
class BatchFiller {
 public:
  /// threads: most threads used for one batch; 0 = all cores. Small batches use fewer. kInvalidArgument when
  /// `normalization` does not fit; it is ignored for data that is_normalized().
  BatchFiller(const Dataset& dataset, Split split, const Normalization& normalization, int threads = 1);

  /// Writes normalised samples to `batch`, float32 [indices, channels, height, width]. kInvalidArgument when
  /// its count of elements differs or an index is out of range.
  void fill(std::span<const int64_t> indices, std::span<float> batch) const;

  /// As `fill`, with random crops and flips. Padding is 0 after normalisation. kInvalidArgument also unless
  /// 0 <= pad < height and width.
  void fill_augmented(std::span<const int64_t> indices, const Augmentation& augmentation,
                      const AugmentationKey& key, std::span<float> batch) const;

  /// Writes the labels of `indices`, [indices]. kInvalidArgument as `fill`.
  void fill_labels(std::span<const int64_t> indices, std::span<int64_t> labels) const;

 private:
  struct Placement;

  void check(std::span<const int64_t> indices, size_t found_elems, size_t expected_elems) const;
  void write_sample(size_t index, const Placement& placement, float* dst) const;
  size_t grain() const noexcept;

  const Dataset& dataset_;
  Split split_;
  int threads_;
  std::vector<float> table_;  // [channels, 256]; empty for normalised data
};

}  // namespace bitstrata::data
