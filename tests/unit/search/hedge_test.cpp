#include "search/hedge.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "core/random.h"

namespace bitstrata::search {
namespace {

TEST(Hedge, IsUniformForEtaZero) {
  for (const double p : hedge_probabilities(std::vector{0.1, 0.9, -3.0, 2.0}, 0)) EXPECT_DOUBLE_EQ(p, 0.25);
}

TEST(Hedge, IsInvariantToACommonShift) {
  Random random(1, 2);
  for (int trial = 0; trial < 100; ++trial) {
    std::vector<double> rewards(5), shifted;
    for (double& reward : rewards) reward = random.uniform();
    for (const double reward : rewards) shifted.push_back(reward + 1024.0);
    const auto a = hedge_probabilities(rewards, 7), b = hedge_probabilities(shifted, 7);
    for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-11);
  }
}

TEST(Hedge, MatchesTheReleasesExample) {  // papers.md 1.2: accuracies 0.60 and 0.70 at eta 1 have
                                          // weights 1.82 and 2.01
  const auto p = hedge_probabilities(std::vector{0.6, 0.7}, 1);
  EXPECT_NEAR(p[1] / p[0], std::exp(0.1), 1e-12);
  EXPECT_NEAR(p[0] + p[1], 1, 1e-15);
}

TEST(Hedge, BestExpertDominatesOverRounds) {
  std::vector<double> rewards(4, 0.0);
  Random random(3, 0);
  double before = 0;
  for (int round = 0; round < 200; ++round) {
    for (size_t i = 0; i < rewards.size(); ++i) rewards[i] += (i == 2 ? 0.6 : 0.4) + 0.1 * random.uniform();
    const double now = hedge_probabilities(rewards, 0.5)[2];
    EXPECT_GE(now, before);
    before = now;
  }
  EXPECT_GT(before, 0.999);
}

TEST(Hedge, SurvivesExtremes) {
  const auto p = hedge_probabilities(std::vector{-1e9, 0.0, 1e9}, 1e6);
  EXPECT_EQ(p, (std::vector<double>{0, 0, 1}));
  EXPECT_TRUE(hedge_probabilities({}, 1).empty());
}

TEST(SavingShares, AreProportionalAndIgnoreLosses) {
  EXPECT_EQ(saving_shares(std::vector{1.0, 3.0, -2.0}), (std::vector<double>{0.25, 0.75, 0}));
  EXPECT_TRUE(saving_shares(std::vector{0.0, -1.0}).empty());
}

TEST(MemoryWeight, FollowsTheRelease) {
  EXPECT_EQ(memory_weight(0, 10), 0);
  EXPECT_EQ(memory_weight(1, 10), 0);
  EXPECT_DOUBLE_EQ(memory_weight(2, 10), 0.6 * 0.8 + 0.4);
  EXPECT_EQ(memory_weight(9, 10), 0);
  EXPECT_DOUBLE_EQ(memory_weight(10, 10), 0.4);
  EXPECT_EQ(memory_weight(20, 10), 0) << "beyond the end it falls on, never below 0";
}

TEST(Draw, NeverTakesProbabilityZero) {
  const std::vector<double> p = {0, 0.5, 0, 0.5, 0};
  for (const double u : {0.0, 0.25, 0.4999, 0.5, 0.9999999999999999}) {
    const size_t drawn = draw(p, u);
    EXPECT_TRUE(drawn == 1 || drawn == 3) << u;
  }
}

TEST(Draw, FrequenciesMatchTheMixedProbabilities) {
  const std::vector<double> hedge = hedge_probabilities(std::vector{0.80, 0.82, 0.79, 0.81}, 50);
  const std::vector<double> p =
      mix(hedge, saving_shares(std::vector{4000.0, 1000.0, 500.0, 2000.0}), memory_weight(4, 12));
  EXPECT_NEAR(std::accumulate(p.begin(), p.end(), 0.0), 1, 1e-12);
  constexpr int draws = 40000;
  std::vector<int> counts(p.size());
  Random random(9, 9);
  for (int i = 0; i < draws; ++i) ++counts[draw(p, random.uniform())];
  double chi_square = 0;
  for (size_t i = 0; i < p.size(); ++i) chi_square += std::pow(counts[i] - draws * p[i], 2) / (draws * p[i]);
  EXPECT_LT(chi_square, 16.27);  // 3 degrees of freedom, 0.1 %
}

}  // namespace
}  // namespace bitstrata::search
