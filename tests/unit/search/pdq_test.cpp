#include "search/pdq.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "tests/unit/search/fakes.h"

namespace bitstrata::search {
namespace {

/// min sum (x_l - a_l)^2 s.t. x_l <= eps: gradient steps on the Lagrangian, proximity x_l. Its multipliers
/// are max(0, 2 (a_l - eps)).
class ConvexProblem : public TableNetwork<ConstrainedEvaluator> {
 public:
  ConvexProblem(std::vector<std::string>& calls, std::vector<double> wanted)
      : TableNetwork(calls), wanted_(std::move(wanted)), x_(wanted_.size(), 0.0) {}
  double lagrangian_step(const Assignment&, const Constraints& multipliers, double rate) override {
    double loss = 0;
    for (size_t l = 0; l < x_.size(); ++l) {
      x_[l] -= rate * (2 * (x_[l] - wanted_[l]) + multipliers.layers[l]);
      loss += (x_[l] - wanted_[l]) * (x_[l] - wanted_[l]);
    }
    output_ -= rate * (2 * (output_ - 3) + multipliers.output);
    return loss;
  }
  Constraints proximities(const Assignment&) override { return {output_, x_}; }
  int64_t steps_per_epoch() const override { return 20; }

  std::vector<double> wanted_, x_;
  double output_ = 0;

 protected:
  Score score(const Assignment&) override { return {0.5, 1}; }
};

/// Proximity and loss of accuracy of a layer: sensitivity * 2^-(bits - 1); training lowers the proximities a
/// little.
class QuantizedNetwork : public TableNetwork<ConstrainedEvaluator> {
 public:
  QuantizedNetwork(std::vector<std::string>& calls, std::vector<double> sensitivity)
      : TableNetwork(calls), sensitivity_(std::move(sensitivity)) {}
  double lagrangian_step(const Assignment& plan, const Constraints& multipliers, double rate) override {
    std::string call = "step " + text_of(plan) + text_of(multipliers.output);
    for (const double multiplier : multipliers.layers) call += text_of(multiplier);
    note(call + text_of(rate));
    ++steps_;
    return 1;
  }
  Constraints proximities(const Assignment& plan) override {
    note("proximities " + text_of(plan));
    Constraints result{0.2, {}};
    for (size_t l = 0; l < plan.size(); ++l) {
      result.layers.push_back(lost(l, plan[l]) / (1 + 1e-3 * static_cast<double>(steps_)));
    }
    return result;
  }
  int64_t steps_per_epoch() const override { return 10; }

 protected:
  Score score(const Assignment& plan) override {
    double accuracy = 0.9;
    for (size_t l = 0; l < plan.size(); ++l) accuracy -= 0.01 * lost(l, plan[l]);
    return {accuracy, 1 - accuracy};
  }

 private:
  static std::string text_of(const Assignment& plan) { return search::text_of(plan); }
  static std::string text_of(double value) { return search::text_of(value); }
  double lost(size_t layer, BitPair bits) const {
    return sensitivity_[layer] * (std::exp2(1 - bits.weight) + std::exp2(1 - bits.activation));
  }
  std::vector<double> sensitivity_;
};

TEST(Duals, AreNeverNegativeAndGrowWithTheViolation) {
  Constraints duals{0, {0, 0, 0.5}};
  const Constraints proximities{0.3, {0.2, 0.01, 0.01}};
  for (int i = 0; i < 100; ++i) {
    const Constraints next = updated_duals(duals, proximities, 0.1, 0.1, 0.1);
    EXPECT_GT(next.output, duals.output);
    EXPECT_GT(next.layers[0], duals.layers[0]);
    EXPECT_EQ(next.layers[1], 0);
    EXPECT_GE(next.layers[2], 0);
    EXPECT_LE(next.layers[2], duals.layers[2]);
    duals = next;
  }
  EXPECT_EQ(duals.layers[2], 0);
  EXPECT_NEAR(duals.output, 100 * 0.1 * 0.2, 1e-9);
}

TEST(Pdq, DualsConvergeToTheKnownMultipliers) {
  Space space = make_test_space(4, {8, 1});
  PdqOptions options;
  options.epochs = 300;
  options.learning_rate = 0.1;
  options.dual_rate = 0.5;
  options.rescale_dual_rate = false;
  options.output_slack = 1;
  options.layer_slack = 0.25;
  options.first_layer_dual = 1;  // the slack constraints' must come back to 0
  options.keep = 2;
  std::vector<std::string> calls;
  ConvexProblem problem(calls, {2, 0.1, 0.75, 0.25});
  Pdq pdq(space, problem, options);
  Archive archive(space);
  run_to_end(pdq, archive);
  EXPECT_NEAR(pdq.sensitivity()[0], 3.5, 1e-6);
  EXPECT_EQ(pdq.sensitivity()[1], 0);
  EXPECT_NEAR(pdq.sensitivity()[2], 1.0, 1e-6);
  EXPECT_NEAR(pdq.sensitivity()[3], 0, 1e-6);
  EXPECT_NEAR(pdq.duals().output, 4, 1e-6);
  EXPECT_NEAR(problem.x_[0], 0.25, 1e-6);
  EXPECT_NEAR(problem.x_[1], 0.1, 1e-6);
}

TEST(Pdq, ShortRunsMoveTheDualsAsFarAsLongOnes) {
  Space space = make_test_space(1, {8, 1});
  PdqOptions options;
  options.keep = 1;
  const auto dual = [&](double epochs, double every) {
    options.epochs = epochs;
    options.dual_every = every;
    std::vector<std::string> calls;
    class Fixed : public QuantizedNetwork {
     public:
      using QuantizedNetwork::QuantizedNetwork;
      Constraints proximities(const Assignment&) override { return {0.2, {0.5}}; }
    } network(calls, {1});
    Pdq pdq(space, network, options);
    Archive archive(space);
    run_to_end(pdq, archive);
    return pdq.sensitivity()[0];
  };
  EXPECT_NEAR(dual(100, 1), 100 * 0.01 * (0.5 - 0.0125), 1e-9);
  EXPECT_NEAR(dual(5, 1), dual(100, 1), 1e-9);
  EXPECT_NEAR(dual(2, 0.5), dual(100, 1), 1e-9);
}

TEST(Pdq, KeepsTheLayersOfLargestOrSmallestDuals) {
  Space space = make_test_space(4, {8, 4, 1});
  const std::vector<double> sensitivity = {0.3, 0.9, 0.1, 0.5};
  for (const bool largest : {true, false}) {
    PdqOptions options;
    options.keep = 2;
    options.keep_bits = largest ? 0 : 4;
    options.keep_largest = largest;
    std::vector<std::string> calls;
    QuantizedNetwork network(calls, sensitivity);
    Pdq pdq(space, network, options);
    Archive archive(space);
    run_to_end(pdq, archive);
    const auto duals = pdq.sensitivity();
    EXPECT_TRUE(duals[1] > duals[3] && duals[3] > duals[0] && duals[0] > duals[2]);
    const std::string expected = largest ? "evaluate 1x1 8x8 1x1 8x8 " : "evaluate 4x4 1x1 4x4 1x1 ";
    EXPECT_EQ(calls.back(), expected);
  }
}

TEST(Pdq, KnownDualsReplaceTraining) {
  Space space = make_test_space(4, {8, 4, 1});
  std::vector<std::string> calls;
  QuantizedNetwork network(calls, {0.3, 0.9, 0.1, 0.5});
  PdqOptions options;
  options.keep = 1;
  options.known_duals = {0.1, 0.2, 0.9, 0.3};  // against the network's own order
  Pdq pdq(space, network, options);
  Archive archive(space);
  run_to_end(pdq, archive);
  EXPECT_EQ(calls, std::vector<std::string>{"evaluate 1x1 1x1 8x8 1x1 "});
  EXPECT_EQ(pdq.sensitivity(), options.known_duals);
  options.known_duals.pop_back();
  EXPECT_THROW(Pdq(space, network, options), Error);
}

TEST(Pdq, KeepingTheLeastSensitiveIsNotOutbidByAnotherPlan) {
  Space space = make_test_space(3, {8, 1});
  std::vector<std::string> calls;
  QuantizedNetwork network(calls, {0.3, 0.9, -0.1});  // the least sensitive layer is better at few bits
  PdqOptions options;
  options.keep = 1;
  options.keep_largest = false;
  Pdq pdq(space, network, options);
  Archive archive(space);
  run_to_end(pdq, archive);
  ASSERT_TRUE(archive.best());
  EXPECT_EQ(archive.best()->assignment, (Assignment{{1, 1}, {1, 1}, {8, 8}}));
}

TEST(Pdq, SolvesForLimitsWithTheDualsAsPrices) {
  Space space = make_test_space(3, {8, 4, 2});
  for (Layer& layer : space.layers) layer.weights = 1000;
  limit_average_bits(space, 14.0 / 3);  // 8 + 4 + 2
  std::vector<std::string> calls;
  QuantizedNetwork network(calls, {0.4, 0.02, 4});
  Pdq pdq(space, network, {});
  Archive archive(space);
  run_to_end(pdq, archive);
  // 8 bits where dual * proximity is largest by far, then 4.
  EXPECT_EQ(calls.back(), "evaluate 4x4 2x2 8x8 ");
  EXPECT_TRUE(space.feasible(archive.best()->assignment));
}

TEST(Pdq, LayersWhoseConstraintsNeverBindStillUseTheLimit) {
  Space space = make_test_space(3, {8, 4, 2});
  for (Layer& layer : space.layers) layer.weights = 1000;
  limit_average_bits(space, 4);  // one layer at 8, or all at 4
  PdqOptions options;
  options.layer_slack = 100;
  std::vector<std::string> calls;
  QuantizedNetwork network(calls, {1, 1, 1});
  Pdq pdq(space, network, options);
  Archive archive(space);
  run_to_end(pdq, archive);
  EXPECT_EQ(pdq.sensitivity(), std::vector<double>(3, 0.0));
  EXPECT_EQ(calls.back(), "evaluate 4x4 4x4 4x4 ");
}

TEST(Pdq, MaxDropAloneKeepsAsFewLayersAsWillDo) {
  for (const double drop : {0.0001, 0.001, 0.004, 0.01, 0.1}) {
    Space space = make_test_space(7, {8, 2});
    space.max_drop = drop;
    std::vector<std::string> calls;
    QuantizedNetwork network(calls, {0.3, 0.9, 0.1, 0.5, 0.2, 0.05, 0.7});
    Pdq pdq(space, network, {});
    Archive archive(space);
    run_to_end(pdq, archive);
    const auto order = std::vector<size_t>{1, 6, 3, 0, 4, 2, 5};
    Assignment plan = space.lowest();
    size_t kept = 0;
    while (network.evaluate(plan).accuracy < 0.9 - drop && kept < 7) plan[order[kept++]] = {8, 8};
    const std::string answer = "evaluate " + text_of(plan);
    // The answer was measured, and so was the plan with one layer less, which is too far off.
    const auto end = calls.end() - static_cast<std::ptrdiff_t>(kept + 1);
    EXPECT_NE(std::find(calls.begin(), end, answer), end) << drop;
    if (kept == 0) continue;
    plan[order[kept - 1]] = {2, 2};
    EXPECT_NE(std::find(calls.begin(), end, "evaluate " + text_of(plan)), end) << drop;
  }
}

TEST(Pdq, UnreachableLimitGivesTheNearest) {
  Space space = make_test_space(3, {8, 4, 2});
  limit_average_bits(space, 1);
  std::vector<std::string> calls;
  QuantizedNetwork network(calls, {1, 2, 3});
  Pdq pdq(space, network, {});
  Archive archive(space);
  run_to_end(pdq, archive);
  EXPECT_EQ(archive.best()->assignment, space.lowest());
}

TEST(UniformAssignments, CoverEveryCandidateOnceAtLeast) {
  for (const bool tied : {true, false}) {
    Space space = make_test_space(3, {8, 4, 2}, tied);
    space.layers[0].activation_bits = {8};
    space.layers[2].weight_bits = space.layers[2].activation_bits = {6, 2};
    const auto assignments = uniform_assignments(space);
    for (size_t l = 0; l < 3; ++l) {
      for (const BitPair pair : space.candidates(l)) {
        EXPECT_TRUE(std::any_of(assignments.begin(), assignments.end(),
                                [&](const Assignment& plan) { return plan[l] == pair; }));
      }
    }
    for (const Assignment& plan : assignments) EXPECT_NO_THROW(space.cost(CostKind::kBitOps, plan));
  }
  EXPECT_EQ(uniform_assignments(make_test_space(5, {8, 4, 2})).size(), 3u)
      << "a uniform space needs one per width";
}

TEST(Pdq, IsResumableAfterEveryStep) {
  for (const int use : {0, 1, 2}) {
    Space space = make_test_space(5, {8, 4, 2}, use != 0);
    space.ties = {{1, 4}};
    PdqOptions options;
    options.epochs = 3.2;
    options.dual_every = 0.7;
    if (use == 0)
      limit_average_bits(space, 4);
    else if (use == 1)
      options.keep = 2;
    else
      space.max_drop = 0.004;
    expect_resumable(
        space,
        [&](auto& calls) {
          return std::make_unique<QuantizedNetwork>(calls, std::vector<double>{0.3, 0.9, 0.1, 0.5, 0.2});
        },
        [&](auto& network) { return std::make_unique<Pdq>(space, network, options); });
  }
}

TEST(Pdq, RefusesDamagedStatesAndNonsense) {
  Space space = make_test_space(2, {8, 4});
  std::vector<std::string> calls;
  QuantizedNetwork network(calls, {1, 2});
  EXPECT_THROW(Pdq(space, network, {}), Error) << "no target";
  limit_average_bits(space, 6);
  Pdq pdq(space, network, {});
  Archive archive(space);
  for (int i = 0; i < 13; ++i) pdq.step(archive);
  expect_refuses_damage(pdq);
  const auto refused = [&](auto change) {
    PdqOptions options;
    change(options);
    EXPECT_THROW(Pdq(space, network, options), Error);
  };
  refused([](auto& o) { o.keep = 3; });
  refused([](auto& o) { o.keep_bits = 5; });
  refused([](auto& o) { o.train_bits = 1; });
  refused([](auto& o) { o.dual_every = 0; });
  refused([](auto& o) { o.dual_rate = -1; });
  refused([](auto& o) { o.layer_slack = -1; });
  refused([](auto& o) { o.learning_rate = std::nan(""); });
}

}  // namespace
}  // namespace bitstrata::search
