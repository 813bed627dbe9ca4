#include "search/strengths.h"

#include <cmath>
#include <numeric>

#include "core/random.h"
#include "tests/unit/search/fakes.h"

namespace bitstrata::search {
namespace {

constexpr double kStep = 1e-6;

std::vector<double> random_row(Random& random, size_t size) {
  std::vector<double> row(size);
  for (double& value : row) value = 2 * random.uniform() - 1;
  return row;
}

StrengthRows random_rows(const StrengthRows& like, uint64_t seed) {
  Random random(seed, 0);
  StrengthRows rows;
  for (const auto& row : like) rows.push_back(random_row(random, row.size()));
  return rows;
}

Mixture shares_of(const StrengthLayout& layout, StrengthRows strengths) {
  for (auto& row : strengths) row = softmax(row, 1);
  return layout.mixture(strengths);
}

double sum(const std::vector<double>& row) {
  return std::accumulate(row.begin(), row.end(), 0.0);
}

TEST(Softmax, SumsToOneAndSurvivesExtremes) {
  Random random(1, 1);
  for (int trial = 0; trial < 100; ++trial)
    EXPECT_NEAR(sum(softmax(random_row(random, 1 + trial % 8), 0.1)), 1, 1e-12);
  EXPECT_EQ(softmax(std::vector{1e300, -1e300}, 1), (std::vector<double>{1, 0}));
  EXPECT_EQ(softmax(std::vector{3.0}, 0.01), std::vector<double>{1});
}

TEST(Softmax, GradientMatchesFiniteDifferences) {
  // Gumbel-softmax is the same function of strengths plus fixed noise.
  Random random(2, 2);
  for (int trial = 0; trial < 50; ++trial) {
    const size_t size = 2 + static_cast<size_t>(trial) % 6;
    const double temperature = 0.3 + random.uniform();
    const std::vector<double> strengths = random_row(random, size), weights = random_row(random, size);
    const StrengthRows noise = trial % 2 == 0 ? StrengthRows{std::vector<double>(size, 0.0)}
                                              : gumbel_noise({strengths}, 7, static_cast<uint64_t>(trial));
    const auto loss = [&](size_t moved,
                          double by) {  // cubic, so that the derivative by the shares varies with them
      std::vector<double> values = strengths;
      for (size_t i = 0; i < size; ++i) values[i] += noise[0][i];
      values[moved] += by;
      const auto shares = softmax(values, temperature);
      double total = 0;
      for (size_t i = 0; i < size; ++i) total += weights[i] * shares[i] * shares[i] * shares[i];
      return total;
    };
    std::vector<double> noisy = strengths;
    for (size_t i = 0; i < size; ++i) noisy[i] += noise[0][i];
    const auto shares = softmax(noisy, temperature);
    std::vector<double> by_share(size);
    for (size_t i = 0; i < size; ++i) by_share[i] = 3 * weights[i] * shares[i] * shares[i];
    const auto gradient = softmax_backward(shares, by_share, temperature);
    for (size_t i = 0; i < size; ++i)
      EXPECT_NEAR(gradient[i], (loss(i, kStep) - loss(i, -kStep)) / (2 * kStep), 1e-8);
  }
}

TEST(Gumbel, HasItsMeanAndVarianceAndIsReproducible) {
  const StrengthRows like = {std::vector<double>(20000, 0.0)};
  const StrengthRows noise = gumbel_noise(like, 1, 2);
  EXPECT_EQ(noise, gumbel_noise(like, 1, 2));
  EXPECT_NE(noise, gumbel_noise(like, 1, 3));
  const double mean = sum(noise[0]) / 20000;
  double variance = 0;
  for (const double value : noise[0]) variance += (value - mean) * (value - mean) / 20000;
  EXPECT_NEAR(mean, 0.57722, 0.04);
  EXPECT_NEAR(variance, 1.64493, 0.1);
}

TEST(Gumbel, ArgmaxFollowsTheSoftmax) {
  const std::vector<double> strengths = {0.5, -0.3, 1.1};
  const auto p = softmax(strengths, 1);
  std::vector<int> counts(3);
  constexpr int draws = 20000;
  for (int i = 0; i < draws; ++i) {
    StrengthRows noisy = gumbel_noise({strengths}, 4, static_cast<uint64_t>(i));
    for (size_t k = 0; k < 3; ++k) noisy[0][k] += strengths[k];
    ++counts[static_cast<size_t>(std::max_element(noisy[0].begin(), noisy[0].end()) - noisy[0].begin())];
  }
  for (size_t k = 0; k < 3; ++k)
    EXPECT_NEAR(counts[k], draws * p[k], 4 * std::sqrt(draws * p[k] * (1 - p[k])));
}

Space untied_space() {
  Space space = make_test_space(3, {8, 4, 2}, false);
  space.layers[0].activation_bits = {8};
  space.layers[1].weight_bits = {6, 3};
  space.fixed_latency_ms = 0.5;
  for (Layer& layer : space.layers) {
    for (const int w : layer.weight_bits) {
      for (const int a : layer.activation_bits) layer.latency_ms.push_back(0.01 * w * w + 0.3 / a);
    }
  }
  return space;
}

TEST(StrengthLayout, SharesOfEveryLayerSumToOne) {
  for (const bool tied : {false, true}) {
    Space space = make_test_space(4, {8, 4, 2}, tied);
    space.layers[3].activation_bits = {8};
    space.layers[2].weight_bits = space.layers[2].activation_bits = {8, 2};
    space.ties = {{1, 2}};
    const StrengthLayout layout(space);
    EXPECT_EQ(layout.zeros().size(), tied ? 3u : 6u);
    const Mixture mixture = shares_of(layout, random_rows(layout.zeros(), 3));
    for (size_t l = 0; l < 4; ++l) {
      EXPECT_NEAR(sum(mixture.weight[l]), 1, 1e-12);
      EXPECT_NEAR(sum(mixture.activation[l]), 1, 1e-12);
    }
    EXPECT_EQ(mixture.weight[1][1], 0) << "4 bits are no candidate of the layer it is tied to";
    EXPECT_EQ(mixture.weight[1][0], mixture.weight[2][0]);
    if (tied) {
      EXPECT_EQ(mixture.weight[0], mixture.activation[0]);
    }
    EXPECT_EQ(mixture.activation[3], std::vector<double>{1});
  }
}

TEST(ExpectedCost, EqualsTheMeanOverAllPlans) {
  const Space space = untied_space();
  const StrengthLayout layout(space);
  const Mixture mixture = shares_of(layout, random_rows(layout.zeros(), 5));
  for (const CostKind kind : kAllCosts) {
    double mean = 0, total = 0;
    const auto c0 = space.candidates(0), c1 = space.candidates(1), c2 = space.candidates(2);
    const auto share = [&](size_t l, BitPair bits) {
      const Layer& layer = space.layers[l];
      const auto i = std::find(layer.weight_bits.begin(), layer.weight_bits.end(), bits.weight) -
                     layer.weight_bits.begin();
      const auto j = std::find(layer.activation_bits.begin(), layer.activation_bits.end(), bits.activation) -
                     layer.activation_bits.begin();
      return mixture.weight[l][static_cast<size_t>(i)] * mixture.activation[l][static_cast<size_t>(j)];
    };
    for (const BitPair a : c0) {
      for (const BitPair b : c1) {
        for (const BitPair c : c2) {
          const double p = share(0, a) * share(1, b) * share(2, c);
          total += p;
          mean += p * space.cost(kind, {a, b, c});
        }
      }
    }
    EXPECT_NEAR(total, 1, 1e-12);
    EXPECT_NEAR(expected_cost(space, kind, mixture) / mean, 1, 1e-12) << to_string(kind);
  }
}

TEST(ExpectedCost, OfBitOpsIsThePapersProduct) {
  const Space space = untied_space();
  const StrengthLayout layout(space);
  const Mixture mixture = shares_of(layout, random_rows(layout.zeros(), 6));
  double expected = 0;
  for (size_t l = 0; l < 3; ++l) {
    double weight = 0, activation = 0;
    for (size_t i = 0; i < mixture.weight[l].size(); ++i)
      weight += mixture.weight[l][i] * space.layers[l].weight_bits[i];
    for (size_t j = 0; j < mixture.activation[l].size(); ++j)
      activation += mixture.activation[l][j] * space.layers[l].activation_bits[j];
    expected += weight * activation * static_cast<double>(space.layers[l].macs);
  }
  EXPECT_NEAR(expected_cost(space, CostKind::kBitOps, mixture) / expected, 1, 1e-12);
}

TEST(ExpectedCost, IsExactAtAPlanAndLinearWhenTied) {
  Space space = make_test_space(2, {8, 4, 2});
  const StrengthLayout layout(space);
  const Mixture plan = layout.mixture({{0, 1, 0}, {0, 0, 1}});
  const Mixture half = layout.mixture({{0.5, 0, 0.5}, {0, 0, 1}});
  for (const CostKind kind : {CostKind::kWeightBits, CostKind::kSizeBytes, CostKind::kBitOps}) {
    EXPECT_EQ(expected_cost(space, kind, plan), space.cost(kind, {{4, 4}, {2, 2}}));
    EXPECT_EQ(expected_cost(space, kind, half),
              0.5 * space.cost(kind, {{8, 8}, {2, 2}}) + 0.5 * space.cost(kind, {{2, 2}, {2, 2}}));
  }
}

TEST(ExpectedCost, GradientMatchesFiniteDifferencesThroughTheStrengths) {
  for (const bool tied : {false, true}) {
    Space space = untied_space();
    space.tied = tied;
    space.layers[1].activation_bits = tied ? space.layers[1].weight_bits : std::vector<int>{8, 4, 2};
    const StrengthLayout layout(space);
    const StrengthRows strengths = random_rows(layout.zeros(), 8);
    for (const CostKind kind : {CostKind::kWeightBits, CostKind::kSizeBytes, CostKind::kBitOps}) {
      const double scale = 1 / space.cost(kind, space.highest());
      const auto cost = [&](const StrengthRows& at) {
        return scale * expected_cost(space, kind, shares_of(layout, at));
      };
      Mixture by_share = zero_mixture(space);
      expected_cost(space, kind, shares_of(layout, strengths), scale, &by_share);
      const StrengthRows gathered = layout.gather(by_share);
      for (size_t r = 0; r < strengths.size(); ++r) {
        const auto gradient = softmax_backward(softmax(strengths[r], 1), gathered[r], 1);
        for (size_t i = 0; i < strengths[r].size(); ++i) {
          StrengthRows up = strengths, down = strengths;
          up[r][i] += kStep;
          down[r][i] -= kStep;
          EXPECT_NEAR(gradient[i], (cost(up) - cost(down)) / (2 * kStep), 1e-8)
              << to_string(kind) << " tied " << tied;
        }
      }
    }
  }
}

TEST(Adam, FirstStepIsTheRateAgainstTheGradientsSign) {
  StrengthRows values = {{1, 2}, {3}};
  Adam adam{{{0, 0}, {0}}, {{0, 0}, {0}}, 0};
  adam.step(values, {{5, -0.01}, {0}}, 0.1, 0.5, 0.999);
  EXPECT_NEAR(values[0][0], 0.9, 1e-6);
  EXPECT_NEAR(values[0][1], 2.1, 1e-6);
  EXPECT_EQ(values[1][0], 3);
}

}  // namespace
}  // namespace bitstrata::search
