#include "search/ebs.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "tests/unit/search/fakes.h"

namespace bitstrata::search {
namespace {

/// Loss linear in the shares: sum over layers of sensitivity * 2^-bits for weights and input.
class MixedNetwork : public TableNetwork<MixtureEvaluator> {
 public:
  MixedNetwork(std::vector<std::string>& calls, const Space& space, std::vector<double> sensitivity,
               double swing = 0)
      : TableNetwork(calls), space_(&space), sensitivity_(std::move(sensitivity)), swing_(swing) {}

  double train_weights(const Mixture& mixture, double rate) override {
    note("weights " + text_of(mixture) + text_of(rate));
    ++steps_;
    return 1;
  }
  MixtureGradient share_gradient(const Mixture& mixture) override {
    note("shares " + text_of(mixture));
    MixtureGradient gradient;
    for (size_t l = 0; l < sensitivity_.size(); ++l) {
      gradient.by_share.weight.push_back(row(l, space_->layers[l].weight_bits));
      gradient.by_share.activation.push_back(row(l, space_->layers[l].activation_bits));
    }
    return gradient;
  }
  int64_t steps_per_epoch() const override { return 20; }

 protected:
  Score score(const Assignment& plan) override {
    double accuracy = 0.9 - swing_ * mood();
    for (size_t l = 0; l < plan.size(); ++l)
      accuracy -= 0.01 * sensitivity_[l] * (std::exp2(-plan[l].weight) + std::exp2(-plan[l].activation));
    return {accuracy, 1 - accuracy};
  }

 private:
  static std::string text_of(const Mixture& mixture) {
    std::string text;
    for (const auto* side : {&mixture.weight, &mixture.activation}) {
      for (const auto& shares : *side) {
        for (const double share : shares) text += search::text_of(share);
      }
    }
    return text;
  }
  static std::string text_of(double value) { return search::text_of(value); }
  std::vector<double> row(size_t layer, const std::vector<int>& widths) const {
    std::vector<double> values;
    for (const int width : widths)
      values.push_back(sensitivity_[layer] * std::exp2(-width) * (1 + swing_ * mood()));
    return values;
  }

  const Space* space_;
  std::vector<double> sensitivity_;
  double swing_;
};

struct Result {
  Assignment plan;
  std::vector<double> bits;
  Mixture mixture;
  std::string archive;
};

Result search_with(const Space& space, const std::vector<double>& sensitivity, const EbsOptions& options) {
  std::vector<std::string> calls;
  MixedNetwork network(calls, space, sensitivity);
  Ebs ebs(space, network, options);
  Archive archive(space);
  run_to_end(ebs, archive);
  return {ebs.choice(), ebs.sensitivity(), ebs.mixture(), archive.to_text()};
}

TEST(Ebs, FindsTheLeastLossWithoutCost) {
  const Space space = make_test_space(3, {8, 4, 2}, false);
  EbsOptions options;
  options.penalty = 0;
  for (const bool gumbel : {false, true}) {
    options.gumbel = gumbel;
    EXPECT_EQ(search_with(space, {1, 2, 3}, options).plan, space.highest());
  }
}

TEST(Ebs, PenaltyAloneBringsInsensitiveLayersDown) {
  const Space space = make_test_space(3, {8, 4, 2}, false);
  const Result result = search_with(space, {0, 50, 50}, {});
  EXPECT_EQ(result.plan[0], (BitPair{2, 2}));
  EXPECT_EQ(result.plan[1], (BitPair{8, 8}));
  EXPECT_EQ(result.plan[2], (BitPair{8, 8}));
  EXPECT_GT(result.bits[1], result.bits[0]);
}

TEST(Ebs, LimitsAreMetAndBitsGoToSensitiveLayers) {
  for (const bool tied : {false, true}) {
    for (const bool gumbel : {false, true}) {
      Space space = make_test_space(4, {8, 4, 2}, tied);
      for (Layer& layer : space.layers) layer.weights = layer.macs = 1000;
      space.limits.push_back(
          {CostKind::kBitOps, 0.2 * space.cost(CostKind::kBitOps, space.highest()), "bitops"});
      limit_average_bits(space, 5);
      EbsOptions options;
      options.gumbel = gumbel;
      const Result result = search_with(space, {8, 0.01, 4, 0.02}, options);
      EXPECT_TRUE(space.feasible(result.plan));
      EXPECT_GT(result.plan[0].weight, result.plan[1].weight) << tied << gumbel;
      EXPECT_GE(result.plan[2].weight, result.plan[3].weight) << tied << gumbel;
      EXPECT_LT(expected_cost(space, CostKind::kBitOps, result.mixture), 1.1 * space.limits[0].at_most)
          << "the ramp must bring the shares there";
    }
  }
}

TEST(Ebs, UnreachableLimitGivesTheNearest) {
  Space space = make_test_space(3, {8, 4, 2});
  limit_average_bits(space, 1);
  EbsOptions options;
  options.epochs = 1;
  EXPECT_EQ(search_with(space, {1, 2, 3}, options).plan, space.lowest());
}

TEST(Ebs, SlackGoesToLayersAndNothingFallsBelowTheStrongest) {
  // No training: all shares equal, the strongest is then the first candidate; a limit that holds must leave
  // it alone.
  Space space = make_test_space(3, {8, 4, 2}, false);
  limit_average_bits(space, 8);
  EbsOptions options;
  options.epochs = 0;
  EXPECT_EQ(search_with(space, {1, 1, 1}, options).plan, space.highest());

  // A wide limit and layers driven down by nothing but a heavy cost early: what is left is used up, layer by
  // layer, as far as it goes.
  space.limits.clear();
  limit_average_bits(space, 4.5);
  const Result result = search_with(space, {1e-6, 1e-6, 1e-6}, {});
  EXPECT_TRUE(space.feasible(result.plan));
  for (size_t l = 0; l < 3; ++l) {
    for (const BitPair more : space.candidates(l)) {
      if (more.weight < result.plan[l].weight || more.activation < result.plan[l].activation ||
          more == result.plan[l])
        continue;
      Assignment raised = result.plan;
      raised[l] = more;
      EXPECT_FALSE(space.feasible(raised)) << l;
    }
  }
}

TEST(Ebs, TiedGroupsAndGivenWidthsStay) {
  Space space = make_test_space(4, {8, 4, 2});
  space.layers[0].activation_bits = {8};
  space.ties = {{1, 3}};
  limit_average_bits(space, 4);
  const Result result = search_with(space, {5, 1, 2, 0}, {});
  EXPECT_EQ(result.plan[0].activation, 8);
  EXPECT_EQ(result.plan[1], result.plan[3]);
  EXPECT_EQ(result.plan[2].weight, result.plan[2].activation);
  EXPECT_TRUE(space.feasible(result.plan));
}

TEST(Ebs, SeedsMatterOnlyWithNoise) {
  Space space = make_test_space(3, {8, 4, 2});
  limit_average_bits(space, 4);
  EbsOptions options;
  options.epochs = 1;
  const auto strengths = [&](uint64_t seed) {
    options.seed = seed;
    return search_with(space, {1, 2, 3}, options).mixture.weight;
  };
  EXPECT_EQ(strengths(1), strengths(2));
  options.noise = 0.01;
  EXPECT_NE(strengths(1), strengths(2));
  EXPECT_EQ(strengths(2), strengths(2));
  options.noise = 0;
  options.gumbel = true;
  EXPECT_NE(strengths(1), strengths(2));
}

TEST(Ebs, CallsAlternateAsAsked) {
  const Space space = make_test_space(2, {8, 4});
  std::vector<std::string> calls;
  MixedNetwork network(calls, space, {1, 2});
  EbsOptions options;
  options.epochs = 2;
  options.strength_every = 4;
  Ebs ebs(space, network, options);
  Archive archive(space);
  run_to_end(ebs, archive);
  const auto count = [&](const char* what) {
    return std::count_if(calls.begin(), calls.end(),
                         [&](const auto& call) { return call.starts_with(what); });
  };
  EXPECT_EQ(count("weights"), 40);
  EXPECT_EQ(count("shares"), 10);
  EXPECT_EQ(count("evaluate"), 2);
}

TEST(Ebs, IsResumableAfterEveryStep) {
  for (const bool gumbel : {false, true}) {
    Space space = make_test_space(4, {8, 4, 2}, gumbel);
    space.ties = {{0, 3}};
    limit_average_bits(space, 4);
    EbsOptions options;
    options.epochs = 2.3;
    options.strength_every = 3;
    options.gumbel = gumbel;
    options.noise = 0.01;
    options.seed = 11;
    expect_resumable(
        space,
        [&](auto& calls) {
          return std::make_unique<MixedNetwork>(calls, space, std::vector<double>{1, 0.2, 3, 0.1}, 0.3);
        },
        [&](auto& network) { return std::make_unique<Ebs>(space, network, options); });
  }
}

TEST(Ebs, RefusesDamagedStatesAndNonsense) {
  Space space = make_test_space(2, {8, 4});
  std::vector<std::string> calls;
  MixedNetwork network(calls, space, {1, 2});
  Ebs ebs(space, network, {});
  Archive archive(space);
  for (int i = 0; i < 3; ++i) ebs.step(archive);
  expect_refuses_damage(ebs);
  const auto refused = [&](auto change) {
    EbsOptions options;
    change(options);
    EXPECT_THROW(Ebs(space, network, options), Error);
  };
  refused([](auto& o) { o.strengths_rate = 0; });
  refused([](auto& o) { o.strength_every = 0; });
  refused([](auto& o) { o.last_temperature = 0; });
  refused([](auto& o) { o.beta2 = 1; });
  refused([](auto& o) { o.penalty = -1; });
  refused([](auto& o) { o.epochs = std::nan(""); });
}

}  // namespace
}  // namespace bitstrata::search
