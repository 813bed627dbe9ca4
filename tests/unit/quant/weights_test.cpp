#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/random.h"
#include "quant/weights.h"

namespace bitstrata::quant {
namespace {

using testing::ElementsAre;
using testing::FloatNear;
using testing::Pointwise;

const std::vector<float> kWeights = {-0.9f, -0.35f, -0.1f, 0.05f, 0.2f, 0.6f};

/// Parameters of 1, the unit included: as in the papers.
std::vector<float> params_of(Policy policy, std::vector<float> params) {
  if (has_unit(policy)) params.push_back(1);
  return params;
}

QuantizedWeights quantize(Policy policy, int bits, float param = 1.0f) {
  return quantize_weights(policy, bits, kWeights, 1, params_of(policy, {param}));
}

std::vector<float> values(const QuantizedWeights& q) {
  std::vector<float> result;
  const size_t row = q.codes.size() / q.scale.size();
  for (size_t i = 0; i < q.codes.size(); ++i) {
    result.push_back(q.scale[i / row] * static_cast<float>(q.grid.at(q.codes[i])));
  }
  return result;
}

std::vector<float> random_weights(size_t count, uint64_t seed) {
  Random random(seed, 1);
  std::vector<float> w(count);
  for (float& x : w) x = static_cast<float>(random.uniform() + random.uniform() - 1);
  return w;
}

TEST(QuantizeWeights, MatchesGoldenVectorsOfDorefa) {
  EXPECT_THAT(quantize(Policy::kDorefa, 2).codes, ElementsAre(0, 1, 1, 2, 2, 3));
  EXPECT_THAT(quantize(Policy::kDorefa, 3).codes, ElementsAre(0, 2, 3, 4, 4, 6));
  EXPECT_THAT(quantize(Policy::kPact, 4).codes, ElementsAre(0, 4, 6, 8, 10, 13));
  const auto expect = [](int bits, std::vector<float> expected) {
    EXPECT_THAT(values(quantize(Policy::kDorefa, bits)), Pointwise(FloatNear(1e-6f), expected)) << bits;
  };
  expect(2, {-1, -1.0f / 3, -1.0f / 3, 1.0f / 3, 1.0f / 3, 1});
  expect(3, {-1, -.428571f, -.142857f, .142857f, .142857f, .714286f});
  expect(4, {-1, -.466667f, -.2f, .066667f, .333333f, .733333f});
}

TEST(QuantizeWeights, MatchesGoldenVectorsOfSawb) {
  EXPECT_NEAR(sawb_clip(2, kWeights), .720403f, 1e-6);
  EXPECT_NEAR(sawb_clip(3, kWeights), 1.028163f, 1e-6);
  EXPECT_NEAR(sawb_clip(4, kWeights), 1.310170f, 1e-6);
  EXPECT_THAT(quantize(Policy::kSawb, 2).codes, ElementsAre(0, 1, 1, 2, 2, 3));
  EXPECT_THAT(quantize(Policy::kSawb, 3).codes, ElementsAre(0, 2, 3, 4, 4, 6));
  EXPECT_THAT(quantize(Policy::kSawb, 4).codes, ElementsAre(2, 5, 7, 8, 9, 11));
  EXPECT_THAT(values(quantize(Policy::kSawb, 2)),
              Pointwise(FloatNear(1e-6f),
                        std::vector{-.720403f, -.240134f, -.240134f, .240134f, .240134f, .720403f}));
}

TEST(QuantizeWeights, MatchesGoldenVectorsOfLsq) {
  const struct {
    int bits;
    float step;
    std::vector<int> q;
  } cases[] = {{2, .733333f, {-1, 0, 0, 0, 0, 1}},
               {3, .423390f, {-2, -1, 0, 0, 0, 1}},
               {4, .277174f, {-3, -1, 0, 0, 1, 2}}};
  for (const auto& c : cases) {
    const auto params = initial_params(Policy::kLsq, c.bits, kWeights, 1, false);
    ASSERT_EQ(params.size(), 1u);
    EXPECT_NEAR(params[0], c.step, 1e-6);
    const QuantizedWeights q = quantize_weights(Policy::kLsq, c.bits, kWeights, 1, params);
    for (size_t i = 0; i < c.q.size(); ++i)
      EXPECT_EQ(q.grid.at(q.codes[i]), c.q[i]) << c.bits << " bits, " << i;
  }
}

TEST(SawbClip, UsesTheLargestMagnitudeWithoutTableEntryOrPositiveClip) {
  for (int bits : {1, 6, 7}) EXPECT_EQ(sawb_clip(bits, kWeights), 0.9f);
  // Equal magnitudes make the formula negative at 8 bits.
  EXPECT_EQ(sawb_clip(8, std::vector{0.5f, -0.5f, 0.5f}), 0.5f);
}

/// One value by the formulas of methods.md table 0.1, in float64, with the layer's statistics given.
double expected_value(Policy policy, int bits, double w, double param, const std::vector<float>& group,
                      double unit_of_layer, double largest) {
  const double top = (1 << bits) - 1;
  const auto unit = [&](double r) { return std::nearbyint(top * std::clamp(r, 0.0, 1.0)); };
  if (bits == 1) {
    double mean = 0;
    for (float x : group) mean += std::fabs(x) / static_cast<double>(group.size());
    return (w >= 0 ? 1 : -1) * (policy == Policy::kLsq ? param : mean);
  }
  switch (policy) {
    case Policy::kDorefa:
    case Policy::kPact:
      return param * (2 / top) *
             (unit(std::tanh(w / unit_of_layer) / (2 * std::tanh(largest / unit_of_layer)) + 0.5) - top / 2);
    case Policy::kSawb: {
      const double a = sawb_clip(bits, group);
      return 2 * a / top * (unit(std::clamp(w / a, -1.0, 1.0) / 2 + 0.5) - top / 2);
    }
    case Policy::kLsq: {
      const double q = 1 << (bits - 1);
      return param * std::clamp(std::nearbyint(w / param), -q, q - 1);
    }
    case Policy::kWrpn: {
      const double q = (1 << (bits - 1)) - 1;
      return param / q * std::nearbyint(std::clamp(w / param, -1.0, 1.0) * q);
    }
  }
  return 0;
}

TEST(QuantizeWeights, ValuesAreThoseOfTheTableForEveryPolicyBitsAndGranularity) {
  constexpr int kChannels = 5, kRow = 27;
  const std::vector<float> w = random_weights(kChannels * kRow, 7);
  double largest = 0;
  for (float x : w) largest = std::max(largest, std::fabs(static_cast<double>(x)));
  for (Policy policy : kAllPolicies) {
    for (int bits = 1; bits <= 8; ++bits) {
      for (bool per_channel : {false, true}) {
        const auto params = initial_params(policy, bits, w, kChannels, per_channel);
        ASSERT_EQ(params.size(), (per_channel ? 5u : 1u) + (has_unit(policy) ? 1u : 0u));
        const QuantizedWeights q = quantize_weights(policy, bits, w, kChannels, params);
        ASSERT_EQ(q.bits, bits);
        ASSERT_EQ(q.grid, grid_of(policy, bits));
        ASSERT_EQ(q.scale.size(), 5u);
        const auto found = values(q);
        for (size_t i = 0; i < w.size(); ++i) {
          const size_t channel = i / kRow;
          const auto begin = w.begin() + static_cast<long>(per_channel ? channel * kRow : 0);
          const std::vector<float> group(begin, per_channel ? begin + kRow : w.end());
          const double value = expected_value(policy, bits, w[i], params[per_channel ? channel : 0], group,
                                              params.back(), largest);
          EXPECT_NEAR(found[i], value, 1e-5)
              << to_string(policy) << " " << bits << " bits, per channel " << per_channel << ", " << i;
          EXPECT_LT(q.codes[i], 1 << bits);
        }
        if (per_channel)
          EXPECT_NE(q.scale[0], q.scale[1]);
        else
          EXPECT_EQ(q.scale[0], q.scale[4]);
      }
    }
  }
}

TEST(QuantizeWeights, OneBitIsTheSignTimesAMagnitude) {
  const std::vector<float> w = {-0.5f, 0.0f, 1.5f, -2.0f};
  for (Policy policy : kAllPolicies) {
    const QuantizedWeights q = quantize_weights(policy, 1, w, 2, params_of(policy, {3, 4}));
    EXPECT_EQ(q.grid, (IntegerGrid{2, -1}));
    EXPECT_THAT(q.codes, ElementsAre(0, 1, 1, 0));
    if (policy == Policy::kLsq)
      EXPECT_THAT(q.scale, ElementsAre(3.0f, 4.0f));
    else
      EXPECT_THAT(q.scale, ElementsAre(0.25f, 1.75f));
  }
}

double squared_error(const std::vector<float>& w, const QuantizedWeights& quantized) {
  const std::vector<float> q = values(quantized);
  double sum = 0;
  for (size_t i = 0; i < w.size(); ++i) sum += (w[i] - q[i]) * (w[i] - q[i]);
  return sum;
}

TEST(InitialParams, GainOfDorefaIsTheLeastSquaresOne) {
  const std::vector<float> w = random_weights(64, 3);
  const std::vector<float> params = initial_params(Policy::kDorefa, 3, w, 1, false);
  const auto error_at = [&](float gain) {
    return squared_error(w, quantize_weights(Policy::kDorefa, 3, w, 1, std::vector{gain, params[1]}));
  };
  EXPECT_LT(error_at(params[0]), error_at(params[0] * 1.01f));
  EXPECT_LT(error_at(params[0]), error_at(params[0] * 0.99f));
}

// Weights of a normal distribution with some large ones, as trained layers have them.
TEST(InitialParams, UnitOfDorefaKeepsLowBitsCloseToTheWeightsAndHighBitsLinear) {
  std::vector<float> w;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    const std::vector<float> part = random_weights(400, seed);
    for (size_t i = 0; i < part.size(); ++i) {
      if (w.size() < part.size()) w.push_back(0);
      w[i] += 0.03f * part[i];
    }
  }
  w[7] = 0.5f;
  w[300] = -0.45f;
  double squares = 0;
  for (float x : w) squares += static_cast<double>(x) * x;
  const auto relative_error = [&](int bits, std::vector<float> params) {
    return squared_error(w, quantize_weights(Policy::kDorefa, bits, w, 1, params)) / squares;
  };
  for (int bits : {2, 3, 4}) {
    const auto params = initial_params(Policy::kDorefa, bits, w, 1, false);
    // What the codes hold at a unit that leaves tanh linear, by their best gain.
    double linear = 1;
    for (float gain = 0.01f; gain < 0.6f; gain *= 1.02f)
      linear = std::min(linear, relative_error(bits, {gain, 1000.0f}));
    EXPECT_LT(relative_error(bits, params), 0.8 * linear) << bits << " bits, unit " << params[1];
  }
  const auto params = initial_params(Policy::kDorefa, 8, w, 1, false);
  EXPECT_LT(relative_error(8, params), 1e-3);
  // Weights of twice the size have twice the parameters and the same codes.
  std::vector<float> twice = w;
  for (float& x : twice) x *= 2;
  const auto p3 = initial_params(Policy::kPact, 3, w, 1, false),
             q3 = initial_params(Policy::kPact, 3, twice, 1, false);
  EXPECT_THAT(q3, Pointwise(FloatNear(1e-5f), {2 * p3[0], 2 * p3[1]}));
  EXPECT_EQ(quantize_weights(Policy::kPact, 3, twice, 1, q3).codes,
            quantize_weights(Policy::kPact, 3, w, 1, p3).codes);
}

TEST(InitialParams, OfWrpnIsTheLargestMagnitudeAndZeroWeightsGiveUsableParams) {
  EXPECT_EQ(initial_params(Policy::kWrpn, 4, kWeights, 1, false)[0], 0.9f);
  const std::vector<float> zeros(6, 0.0f);
  for (Policy policy : kAllPolicies) {
    for (int bits : {1, 2, 8}) {
      const auto params = initial_params(policy, bits, zeros, 2, true);
      const QuantizedWeights q = quantize_weights(policy, bits, zeros, 2, params);
      for (float scale : q.scale)
        EXPECT_TRUE(scale > 0 && std::isfinite(1 / scale)) << to_string(policy) << bits;
      for (float value : values(q)) EXPECT_NEAR(value, 0, 1e-9);
    }
  }
}

TEST(QuantizeWeights, RefusesWhatMakesNoSense) {
  const auto code_of = [](int bits, std::vector<float> w, int oc, std::vector<float> params) {
    try {
      quantize_weights(Policy::kLsq, bits, w, oc, params);
    } catch (const Error& error) {
      return error.code();
    }
    ADD_FAILURE() << "accepted";
    return ErrorCode::kInternal;
  };
  constexpr auto kInvalid = ErrorCode::kInvalidArgument;
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(),
                  kInf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(code_of(0, {1, 2}, 1, {1}), kInvalid);
  EXPECT_EQ(code_of(9, {1, 2}, 1, {1}), kInvalid);
  EXPECT_EQ(code_of(4, {1, 2, 3}, 2, {1}), kInvalid);
  EXPECT_EQ(code_of(4, {}, 1, {1}), kInvalid);
  EXPECT_EQ(code_of(4, {1, 2}, 0, {1}), kInvalid);
  EXPECT_EQ(code_of(4, {1, 2, 3}, 3, {1, 1}), kInvalid);
  EXPECT_EQ(code_of(4, {1, 2}, 1, {}), kInvalid);
  for (float bad : {0.0f, -1.0f, kNan, kInf}) EXPECT_EQ(code_of(4, {1, 2}, 1, {bad}), kInvalid);
  EXPECT_EQ(code_of(4, {1, kNan}, 1, {1}), ErrorCode::kBadInput);
  EXPECT_EQ(code_of(4, {1, kInf}, 1, {1}), ErrorCode::kBadInput);
}

TEST(QuantizeWeights, SaysWhichParametersAreMissing) {
  const std::vector<float> weights{1, 2}, gain_only{1};
  try {
    quantize_weights(Policy::kPact, 3, weights, 1, gain_only);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error.what(),
                testing::HasSubstr("found 1 parameters of pact, expected at least 2, a gain and a unit"));
  }
}

TEST(Policy, NamesRoundTripAndUnknownOnesListTheKnown) {
  for (Policy policy : kAllPolicies) EXPECT_EQ(parse_policy(to_string(policy)), policy);
  try {
    parse_policy("xnor\n");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr("dorefa, pact, sawb, lsq, wrpn"),
                                             testing::Not(testing::HasSubstr("\n"))));
  }
}

}  // namespace
}  // namespace bitstrata::quant
