#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "quant/code_type.h"

namespace bitstrata::quant {

/// How the range of an activation is chosen from data (methods.md sheet 12).
enum class Calibration {
  kMinMax,      ///< the whole range seen
  kPercentile,  ///< the central 99.9 % of the values seen
  kAciq,        ///< analytic clip that minimises the squared error of a Laplace or Gauss distribution (Banner et al. 2019)
  kMse,         ///< the clip with the least squared error on the histogram itself
};

/// "minmax", "percentile", "aciq", "mse".
const char* to_string(Calibration method) noexcept;
Calibration parse_calibration(std::string_view name);

/// Distribution of an activation gathered over calibration batches: exact moments and extremes, and a histogram whose bin width
/// doubles when a value falls outside, so one pass suffices and no value is dropped. Not thread-safe.
class Observer {
 public:
  /// Adds values; non-finite ones are counted and otherwise ignored.
  void add(std::span<const float> values);
  uint64_t values_seen() const noexcept { return count_; }
  uint64_t non_finite_seen() const noexcept { return non_finite_; }
  float min() const noexcept { return min_; }
  float max() const noexcept { return max_; }
  double mean() const noexcept { return count_ ? sum_ / static_cast<double>(count_) : 0.0; }
  double deviation() const noexcept;
  /// Mean of |x - mean|, from the histogram.
  double mean_absolute_deviation() const noexcept;
  /// Value below which `fraction` of all values lie, within one bin.
  double quantile(double fraction) const noexcept;
  /// Mean squared error of rounding all values seen to `type`, from the histogram's bin centres.
  double squared_error(const CodeType& type) const noexcept;

 private:
  void grow_to(float magnitude);
  static constexpr int kBins = 4096;  // even; bin i covers [(i - kBins/2) * width, (i + 1 - kBins/2) * width)
  std::vector<uint64_t> bins_;
  double width_ = 0;
  uint64_t count_ = 0, non_finite_ = 0;
  double sum_ = 0, sum_squares_ = 0;
  float min_ = 0, max_ = 0;
};

/// Chooses the code for an activation with `bits` in [1, 8]. Non-negative data (`nonnegative`) gets zero = 0 and a range [0, clip];
/// other data an affine range that contains 0. Nothing seen, or only zeros: scale 1 / (2^bits - 1).
CodeType calibrate(const Observer& seen, Calibration method, int bits, bool nonnegative);

/// ACIQ's factor k for 2^bits levels, bits in [0, 9]: clip = k * b (Laplace, b the mean absolute deviation) or k * sigma (Gauss).
double aciq_laplace_factor(int bits);
double aciq_gauss_factor(int bits);

}  // namespace bitstrata::quant
