#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "core/error.h"
#include "core/random.h"
#include "quant/calibrate.h"

namespace bitstrata::quant {
namespace {

constexpr size_t kSamples = 60000;

std::vector<float> gauss(size_t count, double mean, double sigma, uint64_t seed) {
  Random random(seed, 2);
  std::vector<float> x(count);
  for (float& v : x) {
    const double radius = std::sqrt(-2 * std::log(1 - random.uniform()));
    v = static_cast<float>(mean + sigma * radius * std::cos(2 * M_PI * random.uniform()));
  }
  return x;
}

std::vector<float> laplace(size_t count, double mean, double b, uint64_t seed) {
  Random random(seed, 3);
  std::vector<float> x(count);
  for (float& v : x) {
    const double u = random.uniform() - 0.5;
    v = static_cast<float>(mean - b * (u < 0 ? -1 : 1) * std::log(1 - 2 * std::fabs(u)));
  }
  return x;
}

Observer observed(const std::vector<float>& x) {
  Observer seen;
  seen.add(x);
  return seen;
}

double squared_error(const std::vector<float>& x, const CodeType& type) {
  double sum = 0;
  for (float v : x) {
    const double error = v - dequantize(quantize(v, type), type);
    sum += error * error;
  }
  return sum / static_cast<double>(x.size());
}

/// Argument of the least value of a unimodal function, by golden section.
double argmin(double low, double high, const std::function<double(double)>& f) {
  const double ratio = (std::sqrt(5.0) - 1) / 2;
  for (int i = 0; i < 200; ++i) {
    const double a = high - ratio * (high - low), b = low + ratio * (high - low);
    if (f(a) < f(b))
      high = b;
    else
      low = a;
  }
  return (low + high) / 2;
}

TEST(Aciq, FactorsMinimiseTheAnalyticSquaredError) {
  for (int bits = 0; bits <= 9; ++bits) {
    const double levels = std::pow(4.0, bits);
    const double l = argmin(0.1, 30, [&](double a) { return 2 * std::exp(-a) + a * a / (3 * levels); });
    EXPECT_NEAR(aciq_laplace_factor(bits), l, 2e-3) << bits;
    const double g = argmin(0.1, 10, [&](double a) {
      return (1 + a * a) * (1 - std::erf(a / std::sqrt(2.0))) -
             std::sqrt(2 / M_PI) * a * std::exp(-a * a / 2) + a * a / (3 * levels);
    });
    EXPECT_NEAR(aciq_gauss_factor(bits), g, 2e-3) << bits;
  }
}

/// Mean squared error of 2^bits mid-rise levels over [-clip, clip] for a symmetric density, integrated over
/// [0, 20].
double mid_rise_error(const std::function<double(double)>& density, double clip, int bits) {
  const double step = 2 * clip / (1 << bits), dx = 1.0 / 256;
  double sum = 0;
  for (double x = dx / 2; x < 20; x += dx) {
    const double level = std::min(std::floor(x / step), std::ldexp(1.0, bits - 1) - 1);
    const double error = x - (level + 0.5) * step;
    sum += density(x) * error * error;
  }
  return sum;
}

TEST(Aciq, FactorsAreNearTheBestClipOfTheQuantizerItself) {
  const auto laplace_density = [](double x) { return std::exp(-x); };
  const auto gauss_density = [](double x) { return std::exp(-x * x / 2); };
  for (int bits = 4; bits <= 6; ++bits) {  // with fewer levels the formula is a coarser model
    double best_l = 1e30, best_g = 1e30;
    for (double clip = 1; clip < 10; clip *= 1.04) {
      best_l = std::min(best_l, mid_rise_error(laplace_density, clip, bits));
      best_g = std::min(best_g, mid_rise_error(gauss_density, clip, bits));
    }
    EXPECT_LT(mid_rise_error(laplace_density, aciq_laplace_factor(bits), bits), 1.03 * best_l) << bits;
    EXPECT_LT(mid_rise_error(gauss_density, aciq_gauss_factor(bits), bits), 1.03 * best_g) << bits;
  }
}

TEST(Aciq, ClipsLaplaceAndGaussSamplesAtTheirFactor) {
  const auto width = [](const std::vector<float>& x, int bits) {
    const CodeType type = calibrate(observed(x), Calibration::kAciq, bits, false);
    return static_cast<double>(type.scale) * type.max_code();
  };
  for (int bits : {2, 3, 4}) {
    EXPECT_NEAR(width(laplace(kSamples, 0, 0.7, 1), bits) / (2 * 0.7 * aciq_laplace_factor(bits)), 1, 0.02)
        << bits;
    EXPECT_NEAR(width(gauss(kSamples, 0, 1.3, 2), bits) / (2 * 1.3 * aciq_gauss_factor(bits)), 1, 0.02)
        << bits;
  }
}

TEST(Aciq, OneSidedRangeStartsAtZeroAndUsesTheNextFactor) {
  auto x = gauss(kSamples, 0, 1, 4);
  for (float& v : x) v = std::max(v, 0.0f);
  const Observer seen = observed(x);
  for (int bits : {2, 4}) {
    const CodeType type = calibrate(seen, Calibration::kAciq, bits, true);
    EXPECT_EQ(type.zero, 0);
    // E|x - mean| / sigma decides between the two fits; the rectified half of a Gauss is nearer to Gauss
    // (0.7979) than to Laplace.
    const double b = seen.mean_absolute_deviation(), sigma = seen.deviation();
    ASSERT_GT(b / sigma, 0.7525);
    EXPECT_NEAR(type.scale * static_cast<float>(type.max_code()),
                seen.mean() + aciq_gauss_factor(bits + 1) * sigma, 1e-4);
  }
}

TEST(Calibrate, MinMaxCoversTheWholeRange) {
  Observer seen;
  seen.add(std::vector{-1.0f, 0.5f, 3.0f});
  const CodeType type = calibrate(seen, Calibration::kMinMax, 2, false);
  EXPECT_EQ(type, (CodeType{2, -1, static_cast<float>(4.0 / 3)}));
  EXPECT_EQ(calibrate(seen, Calibration::kMinMax, 3, true), (CodeType{3, 0, static_cast<float>(3.0 / 7)}));
  Observer negative;
  negative.add(std::vector{-2.0f, -1.0f});  // 0 must be a code
  EXPECT_EQ(calibrate(negative, Calibration::kMinMax, 2, false),
            (CodeType{2, -3, static_cast<float>(2.0 / 3)}));
}

TEST(Calibrate, PercentileLeavesOutliersOut) {
  std::vector<float> x = gauss(kSamples, 0, 1, 9);
  x[17] = 1000;
  const CodeType type = calibrate(observed(x), Calibration::kPercentile, 8, false);
  const double high = type.scale * static_cast<float>(type.zero + 255),
               low = type.scale * static_cast<float>(type.zero);
  // Bins are as wide as the outlier makes them: 1000 / 2047.
  EXPECT_NEAR(high, 3.2905, 0.6);
  EXPECT_NEAR(low, -3.2905, 0.6);
  x[17] = 0;
  const CodeType fine = calibrate(observed(x), Calibration::kPercentile, 8, false);
  EXPECT_NEAR(fine.scale * 255, 2 * 3.2905, 0.15);
}

TEST(Calibrate, MseBeatsRangesAndOnOneSidedDataEverything) {
  for (bool nonnegative : {false, true}) {
    auto x = laplace(8000, 0, 1, 12);
    if (nonnegative) {
      for (float& v : x) v = std::max(v, 0.0f);
    }
    const Observer seen = observed(x);
    for (int bits : {2, 3, 4}) {
      const double found = squared_error(x, calibrate(seen, Calibration::kMse, bits, nonnegative));
      for (Calibration method : {Calibration::kMinMax, Calibration::kPercentile, Calibration::kAciq}) {
        // A two-sided range is searched by one factor for both ends, an asymmetric one can be a little
        // better.
        if (method == Calibration::kAciq && !nonnegative) continue;
        EXPECT_LE(found, 1.001 * squared_error(x, calibrate(seen, method, bits, nonnegative)))
            << bits << to_string(method);
      }
      double best = 1e30;
      for (double high = 0.2; nonnegative && high < 12; high += 0.05) {
        best = std::min(best, squared_error(x, {bits, 0, static_cast<float>(high / ((1 << bits) - 1))}));
      }
      if (nonnegative) {
        EXPECT_LT(found, 1.01 * best) << bits;
      }
    }
  }
}

TEST(Calibrate, HandlesNothingZerosConstantsAndRefusesOtherBits) {
  for (const char* name : {"minmax", "percentile", "aciq", "mse"}) {
    const Calibration method = parse_calibration(name);
    EXPECT_STREQ(to_string(method), name);
    for (bool nonnegative : {false, true}) {
      EXPECT_EQ(calibrate(Observer(), method, 3, nonnegative), (CodeType{3, 0, 1.0f / 7}));
      EXPECT_EQ(calibrate(observed({0, 0}), method, 3, nonnegative), (CodeType{3, 0, 1.0f / 7}));
      const CodeType constant = calibrate(observed({5, 5, 5}), method, 4, nonnegative);
      EXPECT_NEAR(dequantize(quantize(5, constant), constant), 5, 0.4) << name;
      for (float tiny : {1e-30f, 1e-38f}) {
        const CodeType type = calibrate(observed({0, tiny}), method, 4, nonnegative);
        EXPECT_TRUE(type.scale > 0 && std::isfinite(type.inverse_scale())) << name;
      }
      for (float huge : {1e30f, std::numeric_limits<float>::max()}) {
        const CodeType type = calibrate(observed({-huge, 0, huge}), method, 4, false);
        EXPECT_TRUE(std::isfinite(type.scale) && type.scale > 0) << name << huge;
      }
    }
    EXPECT_THROW(calibrate(Observer(), method, 0, true), Error);
    EXPECT_THROW(calibrate(Observer(), method, 9, true), Error);
  }
  EXPECT_THROW(parse_calibration("max"), Error);
}

TEST(Observer, OrderOfBatchesMattersByABinAtMost) {
  const auto small = gauss(5000, 0, 0.01, 1), large = gauss(5000, 1, 3, 2),
             middle = laplace(5000, -1, 0.3, 3);
  Observer forwards, backwards;
  for (const auto* x : {&small, &large, &middle}) forwards.add(*x);
  for (const auto* x : {&middle, &large, &small}) backwards.add(*x);
  EXPECT_EQ(forwards.values_seen(), 15000u);
  EXPECT_EQ(forwards.min(), backwards.min());
  EXPECT_EQ(forwards.max(), backwards.max());
  EXPECT_NEAR(forwards.mean(), backwards.mean(), 1e-9);
  EXPECT_NEAR(forwards.deviation(), backwards.deviation(), 1e-9);
  // Growth doubles the width, so a bin is at most twice the range over half the bins.
  const double bin = 2 * std::max(std::fabs(forwards.min()), forwards.max()) / 1024;
  EXPECT_NEAR(forwards.mean_absolute_deviation(), backwards.mean_absolute_deviation(), bin);
  std::vector<float> all = small;
  all.insert(all.end(), large.begin(), large.end());
  all.insert(all.end(), middle.begin(), middle.end());
  std::sort(all.begin(), all.end());
  for (double fraction : {0.001, 0.1, 0.5, 0.9, 0.999}) {
    EXPECT_NEAR(forwards.quantile(fraction), all[static_cast<size_t>(fraction * 15000)], 2 * bin) << fraction;
    EXPECT_NEAR(backwards.quantile(fraction), all[static_cast<size_t>(fraction * 15000)], 2 * bin)
        << fraction;
  }
}

TEST(Observer, GrowthKeepsEveryCount) {
  Observer seen;
  std::vector<float> all;
  float magnitude = 1e-6f;
  for (int i = 0; i < 40; ++i, magnitude *= 3) {
    const std::vector<float> batch = {magnitude, -magnitude, 0.0f, magnitude / 2};
    seen.add(batch);
    all.insert(all.end(), batch.begin(), batch.end());
  }
  EXPECT_EQ(seen.values_seen(), all.size());
  // The histogram counts all of them: beyond the largest lies nothing, and the median is the exact one within
  // a bin.
  EXPECT_EQ(seen.quantile(1.0), seen.max());
  const CodeType all_zero{1, 0, 1e30f};
  EXPECT_EQ(seen.non_finite_seen(), 0u);
  double squares = 0;
  for (float x : all) squares += static_cast<double>(x) * x;
  // Rounding everything to 0 leaves the mean square, from the histogram's counts.
  EXPECT_NEAR(seen.squared_error(all_zero) / (squares / static_cast<double>(all.size())), 1, 0.01);
}

TEST(Observer, CountsNonFiniteValuesAndIgnoresThem) {
  Observer seen;
  constexpr float kInf = std::numeric_limits<float>::infinity();
  seen.add(std::vector{kInf, -kInf, std::numeric_limits<float>::quiet_NaN()});
  EXPECT_EQ(seen.values_seen(), 0u);
  seen.add(std::vector{1.0f, kInf, -2.0f});
  EXPECT_EQ(seen.non_finite_seen(), 4u);
  EXPECT_EQ(seen.values_seen(), 2u);
  EXPECT_EQ(seen.min(), -2.0f);
  EXPECT_EQ(seen.max(), 1.0f);
  EXPECT_EQ(seen.mean(), -0.5);
}

}  // namespace
}  // namespace bitstrata::quant
