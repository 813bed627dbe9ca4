#include "search/ccq.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "search/hedge.h"
#include "tests/unit/search/fakes.h"

namespace bitstrata::search {
namespace {

/// Accuracy falls by damage[layer] * (8 - bits)^2 for each layer, and by what the last training did not
/// repair.
class LadderNetwork : public TableNetwork<TrainableEvaluator> {
 public:
  LadderNetwork(std::vector<std::string>& calls, std::vector<double> damage, double swing = 0)
      : TableNetwork(calls), damage_(std::move(damage)), swing_(swing) {}

  std::vector<Score> probe(const Assignment& base, std::span<const Change> changes) override {
    std::string call = "probe " + text_of(base) + ":";
    std::vector<Score> scores;
    for (const Change& change : changes) {
      Assignment plan = base;
      plan.at(change.layer) = change.bits;
      call += fmt::format(" {}@{}", change.layer, change.bits.weight);
      if (plan != base) probed.insert(change.layer);
      scores.push_back(score(plan));
    }
    note(call);
    return scores;
  }
  double train_step(const Assignment& plan, double rate) override {
    note("train " + text_of(plan) + text_of(rate));
    ++steps_;
    return 1;
  }
  int64_t steps_per_epoch() const override { return 8; }

  std::set<size_t> probed;

 protected:
  Score score(const Assignment& plan) override {
    double accuracy = 0.9 - swing_ * mood();
    for (size_t l = 0; l < plan.size(); ++l)
      accuracy -= damage_[l] * (8 - plan[l].weight) * (8 - plan[l].weight);
    return {accuracy, -accuracy};
  }

 private:
  std::vector<double> damage_;
  double swing_;
};

CcqOptions no_training() {
  CcqOptions options;
  options.recovery_epochs = options.final_epochs = 0;
  return options;
}

/// Plans in the order of their evaluation.
std::vector<Assignment> measured_plans(const std::vector<std::string>& calls) {
  std::vector<Assignment> plans;
  for (const std::string& call : calls) {
    if (!call.starts_with("evaluate ")) continue;
    Assignment plan;
    for (size_t at = 9; at < call.size(); at += 4) plan.push_back({call[at] - '0', call[at + 2] - '0'});
    plans.push_back(plan);
  }
  return plans;
}

/// Always the move of least damage.
Assignment greedy(const Space& space, const std::vector<double>& damage) {
  Assignment plan = space.highest();
  while (!space.feasible(plan)) {
    size_t best = plan.size();
    BitPair best_bits;
    double least = 1e300;
    for (size_t l = 0; l < plan.size(); ++l) {
      const auto ladder = space.candidates(l);
      const auto at = std::find(ladder.begin(), ladder.end(), plan[l]);
      if (at + 1 == ladder.end()) continue;
      const int from = 8 - at->weight, to = 8 - (at + 1)->weight;
      const double lost = damage[l] * (to * to - from * from);
      if (lost < least) {
        least = lost;
        best = l;
        best_bits = *(at + 1);
      }
    }
    plan[best] = best_bits;
  }
  return plan;
}

TEST(Ccq, SharpAndWithoutMemoryIsGreedy) {
  for (const size_t layers : {1u, 2u, 5u, 21u}) {
    Space space = make_test_space(layers, {8, 6, 4, 3, 2});
    limit_average_bits(space, 3.5);
    std::vector<double> damage;
    for (size_t l = 0; l < layers; ++l) damage.push_back(1e-5 * static_cast<double>((l * 7) % layers + 1));
    CcqOptions options = no_training();
    options.eta = 1e9;
    options.mix_memory = options.give_back = false;
    for (const auto reward : {CcqOptions::Reward::kAccuracy, CcqOptions::Reward::kLoss}) {
      options.reward = reward;
      std::vector<std::string> calls;
      LadderNetwork network(calls, damage);
      Ccq ccq(space, network, options);
      Archive archive(space);
      run_to_end(ccq, archive);
      EXPECT_EQ(ccq.plan(), greedy(space, damage)) << layers;
      EXPECT_TRUE(space.feasible(archive.best()->assignment));
    }
  }
}

TEST(Ccq, MeetsEveryKindOfLimitTogether) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Space space = make_test_space(6, {8, 6, 4, 3, 2});
    limit_average_bits(space, 4);
    space.limits.push_back(
        {CostKind::kBitOps, 0.3 * space.cost(CostKind::kBitOps, space.highest()), "bitops"});
    for (Layer& layer : space.layers) {
      for (const int w : layer.weight_bits) {
        for (const int a : layer.activation_bits) layer.latency_ms.push_back(0.1 * w + 0.01 * a);
      }
    }
    space.limits.push_back(
        {CostKind::kLatencyMs, 0.6 * space.cost(CostKind::kLatencyMs, space.highest()), "latency"});
    std::vector<std::string> calls;
    LadderNetwork network(calls, {1e-4, 3e-4, 5e-4, 2e-4, 6e-4, 1e-4}, 0.01);
    CcqOptions options;
    options.seed = seed;
    Ccq ccq(space, network, options);
    Archive archive(space);
    run_to_end(ccq, archive);
    EXPECT_TRUE(space.feasible(ccq.plan()));
    EXPECT_TRUE(space.feasible(archive.best()->assignment));
    // Nothing could be given back any more.
    for (size_t l = 0; l < 6; ++l) {
      const auto ladder = space.candidates(l);
      const auto at = std::find(ladder.begin(), ladder.end(), ccq.plan()[l]);
      if (at == ladder.begin()) continue;
      Assignment raised = ccq.plan();
      raised[l] = *(at - 1);
      EXPECT_FALSE(space.feasible(raised)) << seed << " layer " << l;
    }
  }
}

TEST(Ccq, UnreachableLimitEndsAtTheNearest) {
  Space space = make_test_space(3, {8, 4, 2});
  limit_average_bits(space, 1);
  std::vector<std::string> calls;
  LadderNetwork network(calls, {1e-4, 2e-4, 3e-4});
  Ccq ccq(space, network, no_training());
  Archive archive(space);
  run_to_end(ccq, archive);
  EXPECT_EQ(ccq.plan(), space.lowest());
  EXPECT_EQ(archive.best()->assignment, space.lowest());
  EXPECT_EQ(ccq.status().done, 6);
}

TEST(Ccq, SleepingLayersNeverMoveAndAreNotProbed) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    Space space = make_test_space(4, {8, 4, 2});
    space.layers[2].weight_bits = space.layers[2].activation_bits = {4};  // asleep from the start
    limit_average_bits(space, 2.6);
    std::vector<std::string> calls;
    LadderNetwork network(calls, {1e-4, 1e-4, 1e-4, 1e-4});
    CcqOptions options = no_training();
    options.eta = 1;
    options.give_back = false;
    options.seed = seed;
    Ccq ccq(space, network, options);
    Archive archive(space);
    run_to_end(ccq, archive);
    EXPECT_FALSE(network.probed.contains(2));
    const auto plans = measured_plans(calls);
    for (size_t i = 1; i < plans.size(); ++i) {
      int moved = 0;
      for (size_t l = 0; l < 4; ++l) {
        moved += plans[i][l] != plans[i - 1][l];
        EXPECT_LE(plans[i][l].weight, plans[i - 1][l].weight);
      }
      EXPECT_EQ(moved, 1) << "one awake layer moves in every competition, none is drawn in vain";
      EXPECT_EQ(plans[i][2], (BitPair{4, 4}));
    }
  }
}

TEST(Ccq, DrawsFollowTheMixedProbabilities) {
  // eta 0: the draw is uniform in competitions 0 and 1; in 2 it is mixed with the bits saved. Compare with
  // the sum of the known probabilities.
  Space space = make_test_space(4, {8, 6, 4, 3, 2});
  limit_average_bits(space, 2.1);
  constexpr int runs = 3000;
  std::vector<double> expected(4, 0.0), variance(4, 0.0);
  std::vector<int> first(4), third(4);
  for (int seed = 0; seed < runs; ++seed) {
    std::vector<std::string> calls;
    LadderNetwork network(calls, {1e-4, 2e-4, 3e-4, 4e-4});
    CcqOptions options = no_training();
    options.eta = 0;
    options.seed = static_cast<uint64_t>(seed);
    Ccq ccq(space, network, options);
    Archive archive(space);
    while (ccq.status().done < 3) ccq.step(archive);
    ccq.step(archive);  // the evaluation after the third move
    const auto plans = measured_plans(calls);
    ASSERT_EQ(plans.size(), 4u);
    const auto moved = [&](size_t q) {
      for (size_t l = 0; l < 4; ++l) {
        if (plans[q + 1][l] != plans[q][l]) return l;
      }
      return size_t{0};
    };
    ++first[moved(0)];
    ++third[moved(2)];
    std::vector<double> savings;
    for (size_t l = 0; l < 4; ++l) {
      const auto ladder = space.candidates(l);
      const auto at = std::find(ladder.begin(), ladder.end(), plans[2][l]);
      savings.push_back(static_cast<double>(space.layers[l].weights) * (at->weight - (at + 1)->weight));
    }
    const double lambda = memory_weight(2, ccq.expected_competitions());
    const auto p = mix(std::vector<double>(4, 0.25), saving_shares(savings), lambda);
    for (size_t l = 0; l < 4; ++l) {
      expected[l] += p[l];
      variance[l] += p[l] * (1 - p[l]);
    }
  }
  for (size_t l = 0; l < 4; ++l) {
    EXPECT_NEAR(first[l], runs * 0.25, 4 * std::sqrt(runs * 0.1875));
    EXPECT_NEAR(third[l], expected[l], 4 * std::sqrt(variance[l]));
  }
  EXPECT_GT(std::abs(expected[3] - runs * 0.25), 8 * std::sqrt(variance[3]))
      << "the test must tell the two distributions apart";
}

TEST(Ccq, TiedLayersMoveAsOneOnTheSumOfTheirDamage) {
  Space space = make_test_space(4, {8, 4});
  space.ties = {{0, 2}};
  limit_average_bits(space, 7);
  std::vector<std::string> calls;
  // Alone, layers 0 and 2 are the least damaged, together they are not.
  LadderNetwork network(calls, {2e-4, 3e-4, 2e-4, 9e-4});
  CcqOptions options = no_training();
  options.eta = 1e9;
  options.mix_memory = false;
  Ccq ccq(space, network, options);
  Archive archive(space);
  run_to_end(ccq, archive);
  const auto plans = measured_plans(calls);
  EXPECT_EQ(plans[1], (Assignment{{8, 8}, {4, 4}, {8, 8}, {8, 8}}));
  for (const Assignment& plan : plans) EXPECT_EQ(plan[0], plan[2]);
  EXPECT_TRUE(space.feasible(ccq.plan()));
}

TEST(Ccq, SeveralDropsMoveDifferentLayersBeforeOneRecovery) {
  Space space = make_test_space(5, {8, 6, 4, 3, 2});
  limit_average_bits(space, 2.2);
  std::vector<std::string> calls;
  LadderNetwork network(calls, {1e-4, 1e-4, 1e-4, 1e-4, 1e-4});
  CcqOptions options = no_training();
  options.drops = 3;
  Ccq ccq(space, network, options);
  Archive archive(space);
  for (int i = 0; i < 3; ++i) ccq.step(archive);
  const auto plans = measured_plans(calls);
  ASSERT_EQ(plans.size(), 2u);
  size_t moved = 0;
  for (size_t l = 0; l < 5; ++l) moved += plans[1][l] == BitPair{6, 6};
  EXPECT_EQ(moved, 3u);
  run_to_end(ccq, archive);
  EXPECT_TRUE(space.feasible(archive.best()->assignment));
}

TEST(Ccq, MaxDropAloneEndsAtTheLastPlanWithinIt) {
  Space space = make_test_space(4, {8, 6, 4, 3, 2});
  space.max_drop = 0.01;
  std::vector<std::string> calls;
  LadderNetwork network(calls, {1e-4, 3e-4, 5e-4, 9e-4});
  Ccq ccq(space, network, no_training());
  Archive archive(space, network.float_score());
  run_to_end(ccq, archive);
  EXPECT_EQ(archive.best()->assignment, ccq.plan());
  EXPECT_TRUE(archive.met(network.float_score()));
  const auto plans = measured_plans(calls);
  ASSERT_GE(plans.size(), 3u);
  EXPECT_EQ(ccq.plan(), plans[plans.size() - 3]) << "measured, then the one too far, then itself again";
  EXPECT_EQ(ccq.plan(), plans.back());
  EXPECT_GE(network.evaluate(ccq.plan()).accuracy, 0.89);
  EXPECT_LT(network.evaluate(plans[plans.size() - 2]).accuracy, 0.89);
}

TEST(Ccq, RecoveryEndsEarlyWhenTheAccuracyIsBack) {
  Space space = make_test_space(2, {8, 4});
  limit_average_bits(space, 4);
  for (const bool recovers : {true, false}) {
    std::vector<std::string> calls;
    LadderNetwork network(calls, std::vector<double>(2, recovers ? 1e-5 : 1e-2));
    CcqOptions options;
    options.recovery_epochs = 2;  // 16 mini-batches
    options.final_epochs = 0;
    options.check_every = 3;
    Ccq ccq(space, network, options);
    Archive archive(space);
    run_to_end(ccq, archive);
    const auto trained =
        std::count_if(calls.begin(), calls.end(), [](const auto& call) { return call.starts_with("train"); });
    EXPECT_EQ(trained, recovers ? 2 * 3 : 2 * 16);
  }
}

TEST(Ccq, IsResumableAfterEveryStep) {
  for (const bool by_drop : {false, true}) {
    Space space = make_test_space(5, {8, 6, 4, 3, 2});
    space.ties = {{1, 2}};
    if (by_drop)
      space.max_drop = 0.05;
    else
      limit_average_bits(space, 3.3);
    CcqOptions options;
    options.probe_rounds = 2;
    options.check_every = 3;
    options.recovery_epochs = 0.9;
    options.seed = 5;
    expect_resumable(
        space,
        [&](auto& calls) {
          return std::make_unique<LadderNetwork>(calls, std::vector<double>{1e-4, 3e-4, 2e-4, 5e-4, 4e-4},
                                                 0.02);
        },
        [&](auto& network) { return std::make_unique<Ccq>(space, network, options); });
  }
}

TEST(Ccq, RefusesDamagedStates) {
  Space space = make_test_space(2, {8, 4});
  limit_average_bits(space, 5);
  std::vector<std::string> calls;
  LadderNetwork network(calls, {1e-4, 2e-4});
  Ccq ccq(space, network, {});
  Archive archive(space);
  for (int i = 0; i < 5; ++i) ccq.step(archive);
  expect_refuses_damage(ccq);
}

TEST(Ccq, RefusesNonsense) {
  Space space = make_test_space(2, {8, 4});
  std::vector<std::string> calls;
  LadderNetwork network(calls, {1e-4, 2e-4});
  EXPECT_THROW(Ccq(space, network, {}), Error) << "no target";
  limit_average_bits(space, 5);
  const auto refused = [&](auto change) {
    CcqOptions options;
    change(options);
    EXPECT_THROW(Ccq(space, network, options), Error);
  };
  refused([](auto& o) { o.eta = -1; });
  refused([](auto& o) { o.probe_rounds = 0; });
  refused([](auto& o) { o.drops = 0; });
  refused([](auto& o) { o.tolerance = 2; });
  refused([](auto& o) { o.check_every = 0; });
  refused([](auto& o) { o.low_rate = 1; });
  refused([](auto& o) { o.bump_part = 0.9; });
  refused([](auto& o) { o.recovery_epochs = -1; });
}

TEST(Ccq, FailsWhenTheTrainingDiverges) {
  class Diverging : public LadderNetwork {
   public:
    using LadderNetwork::LadderNetwork;
    double train_step(const Assignment&, double) override { return std::nan(""); }
  };
  Space space = make_test_space(2, {8, 4});
  limit_average_bits(space, 5);
  std::vector<std::string> calls;
  Diverging network(calls, {1e-4, 2e-4});
  Ccq ccq(space, network, {});
  Archive archive(space);
  try {
    run_to_end(ccq, archive);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kJobFailed);
  }
}

}  // namespace
}  // namespace bitstrata::search
