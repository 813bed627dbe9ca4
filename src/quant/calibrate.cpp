#include "quant/calibrate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "core/error.h"

namespace bitstrata::quant {
namespace {

constexpr Calibration kAll[] = {Calibration::kMinMax, Calibration::kPercentile, Calibration::kAciq, Calibration::kMse};

CodeType from_range(double low, double high, int bits) {
  const int top = (1 << bits) - 1;
  low = std::min(low, 0.0);
  high = std::max(high, 0.0);
  if (!(high - low > 0)) return {bits, 0, 1.0f / static_cast<float>(top)};
  const double scale = std::max((high - low) / top, 1e-12);
  const int zero = static_cast<int>(std::clamp(std::nearbyint(low / scale), static_cast<double>(-top), 0.0));
  return {bits, zero, static_cast<float>(scale)};
}

/// ACIQ, for the distribution (Laplace or Gauss) whose kurtosis-free fit b/sigma is nearer to the data's.
CodeType aciq(const Observer& seen, int bits, bool nonnegative) {
  const double b = seen.mean_absolute_deviation(), sigma = seen.deviation(), mean = seen.mean();
  if (!(sigma > 0)) return from_range(seen.min(), seen.max(), bits);
  // E|x - mean| / sigma is sqrt(1/2) for Laplace and sqrt(2/pi) for Gauss.
  const bool laplace = b / sigma < 0.5 * (std::sqrt(0.5) + std::sqrt(2.0 / M_PI));
  const int entry = nonnegative ? bits + 1 : bits;  // one-sided data: half of the levels of a two-sided range twice as fine
  const double clip = laplace ? aciq_laplace_factor(entry) * b : aciq_gauss_factor(entry) * sigma;
  const double high = std::min<double>(seen.max(), (nonnegative ? std::max(0.0, mean) : mean) + clip);
  const double low = nonnegative ? 0.0 : std::max<double>(seen.min(), mean - clip);
  return from_range(low, high, bits);
}

CodeType least_squares(const Observer& seen, int bits, bool nonnegative) {
  CodeType best = from_range(nonnegative ? 0.0 : seen.min(), seen.max(), bits);
  double least = seen.squared_error(best);
  for (int step = 2; step < 100; ++step) {
    const double part = step / 100.0;
    const CodeType tried = from_range(nonnegative ? 0.0 : part * seen.min(), part * seen.max(), bits);
    const double error = seen.squared_error(tried);
    if (error < least) {
      least = error;
      best = tried;
    }
  }
  return best;
}

}  // namespace

const char* to_string(Calibration method) noexcept {
  switch (method) {
    case Calibration::kMinMax: return "minmax";
    case Calibration::kPercentile: return "percentile";
    case Calibration::kAciq: return "aciq";
    case Calibration::kMse: return "mse";
  }
  return "mse";
}

Calibration parse_calibration(std::string_view name) {
  for (Calibration method : kAll) {
    if (name == to_string(method)) return method;
  }
  fail(ErrorCode::kInvalidArgument, "unknown calibration '{}': expected one of minmax, percentile, aciq, mse",
       printable(std::string(name)));
}

void Observer::grow_to(float magnitude) {
  if (bins_.empty()) bins_.assign(kBins, 0);
  if (width_ == 0) width_ = std::max(1e-30, static_cast<double>(magnitude) / (kBins / 2 - 1));
  while (magnitude >= width_ * (kBins / 2)) {
    std::vector<uint64_t> wider(kBins, 0);
    for (int i = 0; i < kBins; ++i) {
      const int from_centre = i - kBins / 2;  // floor division keeps bin borders aligned at zero
      wider[static_cast<size_t>(kBins / 2 + (from_centre >= 0 ? from_centre / 2 : -((1 - from_centre) / 2)))] +=
          bins_[static_cast<size_t>(i)];
    }
    bins_ = std::move(wider);
    width_ *= 2;
  }
}

void Observer::add(std::span<const float> values) {
  float magnitude = 0;
  for (float x : values) {
    if (std::isfinite(x)) magnitude = std::max(magnitude, std::fabs(x));
  }
  if (magnitude > 0 || bins_.empty()) grow_to(std::max(magnitude, 1e-20f));
  for (float x : values) {
    if (!std::isfinite(x)) {
      ++non_finite_;
      continue;
    }
    min_ = count_ ? std::min(min_, x) : x;
    max_ = count_ ? std::max(max_, x) : x;
    ++count_;
    sum_ += x;
    sum_squares_ += static_cast<double>(x) * x;
    const auto bin = static_cast<int>(std::floor(x / width_)) + kBins / 2;
    ++bins_[static_cast<size_t>(std::clamp(bin, 0, kBins - 1))];
  }
}

double Observer::deviation() const noexcept {
  if (count_ == 0) return 0;
  const double m = mean();
  return std::sqrt(std::max(0.0, sum_squares_ / static_cast<double>(count_) - m * m));
}

double Observer::mean_absolute_deviation() const noexcept {
  if (count_ == 0) return 0;
  const double m = mean();
  double sum = 0;
  for (int i = 0; i < kBins; ++i) {
    const uint64_t n = bins_[static_cast<size_t>(i)];
    if (n) sum += static_cast<double>(n) * std::fabs((i - kBins / 2 + 0.5) * width_ - m);
  }
  return sum / static_cast<double>(count_);
}

double Observer::quantile(double fraction) const noexcept {
  const double wanted = fraction * static_cast<double>(count_);
  double below = 0;
  for (int i = 0; i < kBins && count_; ++i) {
    below += static_cast<double>(bins_[static_cast<size_t>(i)]);
    if (below >= wanted) return std::clamp<double>((i - kBins / 2 + 1) * width_, min_, max_);
  }
  return max_;
}

double Observer::squared_error(const CodeType& type) const noexcept {
  double sum = 0;
  for (int i = 0; i < kBins && count_; ++i) {
    const uint64_t n = bins_[static_cast<size_t>(i)];
    if (!n) continue;
    // The lowest non-negative bin of rectified data is a spike at exactly zero, not spread over the bin.
    const double x = i == kBins / 2 && min_ >= 0 ? 0.0 : (i - kBins / 2 + 0.5) * width_;
    const double error = x - dequantize(quantize(static_cast<float>(x), type), type);
    sum += static_cast<double>(n) * error * error;
  }
  return count_ ? sum / static_cast<double>(count_) : 0.0;
}

double aciq_laplace_factor(int bits) {
  constexpr std::array k = {1.0499, 1.8628, 2.8307, 3.8972, 5.0286, 6.2048, 7.4131, 8.6456, 9.8968, 11.1627};
  return k.at(static_cast<size_t>(bits));
}

double aciq_gauss_factor(int bits) {
  constexpr std::array k = {0.7658, 1.2399, 1.7106, 2.1516, 2.5591, 2.9362, 3.2869, 3.6151, 3.9240, 4.2160};
  return k.at(static_cast<size_t>(bits));
}

CodeType calibrate(const Observer& seen, Calibration method, int bits, bool nonnegative) {
  if (bits < 1 || bits > 8) fail(ErrorCode::kInvalidArgument, "activation bits: found {}, expected 1 to 8", bits);
  const double floor_low = nonnegative ? 0.0 : seen.min();
  switch (method) {
    case Calibration::kMinMax: return from_range(floor_low, seen.max(), bits);
    case Calibration::kPercentile:
      return from_range(nonnegative ? 0.0 : seen.quantile(0.0005), seen.quantile(nonnegative ? 0.999 : 0.9995), bits);
    case Calibration::kAciq: return aciq(seen, bits, nonnegative);
    case Calibration::kMse: return least_squares(seen, bits, nonnegative);
  }
  return from_range(floor_low, seen.max(), bits);
}

}  // namespace bitstrata::quant
