#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "data/dataset.h"
#include "data/normalization.h"
#include "runtime/session.h"

namespace bitstrata::cli {

/// Result of running a classifier over labelled images.
struct Evaluation {
  uint64_t images = 0;
  uint64_t correct = 0;
  double seconds = 0;

  double accuracy() const noexcept {
    return images == 0 ? 0 : static_cast<double>(correct) / static_cast<double>(images);
  }
  double images_per_second() const noexcept {
    return seconds > 0 ? static_cast<double>(images) / seconds : 0;
  }
};

/// Index of the largest score, the first of equals. scores: not empty.
size_t best_class(std::span<const float> scores) noexcept;

/// Runs the samples `indices` of a split in batches of the model's max_batch and counts right predictions.
/// Shows progress unless quiet. kBadInput when `indices` is empty, kJobFailed when the network yields NaN.
Evaluation evaluate(const std::shared_ptr<const runtime::Model>& model, const data::Dataset& dataset,
                    data::Split split, std::span<const int64_t> indices,
                    const data::Normalization& normalization, bool quiet);

}  // namespace bitstrata::cli
