#include "search/baselines.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <map>

#include "tests/unit/search/fakes.h"

namespace bitstrata::search {
namespace {

using testing::ElementsAre;

/// Accuracy falls with the bits taken away from every layer.
class Network final : public TableNetwork<Evaluator> {
 public:
  using TableNetwork::TableNetwork;

 protected:
  Score score(const Assignment& plan) override {
    double taken = 0;
    for (const BitPair& bits : plan)
      taken += (8 - bits.weight) * (8 - bits.weight) + 0.5 * (8 - bits.activation);
    return {0.9 - 0.002 * taken / static_cast<double>(plan.size()), 0.1 * taken};
  }
};

const auto make_network = [](std::vector<std::string>& calls) { return std::make_unique<Network>(calls); };

Assignment all(const Space& space, int bits) {
  return Assignment(space.layers.size(), BitPair{bits, bits});
}

TEST(UniformSearch, MeasuresTheMostBitsWithinTheLimitsOnly) {
  Space space = make_test_space(4, {8, 6, 4, 3, 2});
  limit_average_bits(space, 4.5);
  std::vector<std::string> calls;
  Network network(calls);
  UniformSearch method(space, network);
  Archive archive(space);
  run_to_end(method, archive);
  EXPECT_EQ(archive.best()->assignment, all(space, 4));
  EXPECT_EQ(archive.best()->how, "4 bits everywhere");
  EXPECT_THAT(calls, ElementsAre("evaluate 4x4 4x4 4x4 4x4 "));
  EXPECT_EQ(method.status().done, 1);
  EXPECT_EQ(method.status().expected, 1);
}

TEST(UniformSearch, WithoutLimitsTakesTheMostBits) {
  const Space space = make_test_space(2, {8, 4});
  std::vector<std::string> calls;
  Network network(calls);
  UniformSearch method(space, network);
  Archive archive(space);
  run_to_end(method, archive);
  EXPECT_EQ(archive.best()->assignment, all(space, 8));
}

TEST(UniformSearch, WithADropTakesTheFewestBitsThatKeepTheAccuracy) {
  Space space = make_test_space(4, {8, 6, 5, 4, 3, 2}, false);
  limit_average_bits(space, 7);
  space.max_drop = 0.04;  // 4 bits lose 0.036, 3 bits 0.055
  std::vector<std::string> calls;
  Network network(calls);
  UniformSearch method(space, network);
  Archive archive(space, network.float_score());
  run_to_end(method, archive);
  EXPECT_EQ(archive.best()->assignment, all(space, 4));
  EXPECT_TRUE(archive.met(network.float_score()));
  EXPECT_EQ(calls.size(), 4u);  // 6, 5, 4 and 3 bits
}

TEST(UniformSearch, MeasuresTheFewestBitsWhereNothingIsFeasible) {
  Space space = make_test_space(4, {8, 4, 2});
  limit_average_bits(space, 1);
  std::vector<std::string> calls;
  Network network(calls);
  UniformSearch method(space, network);
  Archive archive(space);
  run_to_end(method, archive);
  EXPECT_EQ(archive.best()->assignment, all(space, 2));
  EXPECT_FALSE(archive.met(network.float_score()));
}

TEST(UniformSearch, LeavesGivenWidthsAsTheyAre) {
  Space space = make_test_space(3, {8, 4, 2});
  space.layers[0].activation_bits = {8};
  space.layers[2].weight_bits = space.layers[2].activation_bits = {8, 3};
  limit_average_bits(space, 4);
  std::vector<std::string> calls;
  Network network(calls);
  UniformSearch method(space, network);
  Archive archive(space);
  run_to_end(method, archive);
  EXPECT_EQ(archive.best()->assignment, (Assignment{{4, 8}, {4, 4}, {3, 3}}));
}

TEST(UniformSearch, ResumesAfterEveryStep) {
  Space space = make_test_space(4, {8, 6, 5, 4, 3, 2});
  space.max_drop = 0.04;
  const auto make = [&](Evaluator& network) { return std::make_unique<UniformSearch>(space, network); };
  expect_resumable(space, make_network, make);
  std::vector<std::string> calls;
  Network network(calls);
  UniformSearch method(space, network);
  Archive archive(space);
  method.step(archive);
  expect_refuses_damage(method);
}

TEST(RandomSearch, DrawsUseTheLimitAndKeepIt) {
  for (bool tied : {true, false}) {
    Space space = make_test_space(20, {8, 7, 6, 5, 4, 3, 2, 1}, tied);
    space.ties = {{2, 5}, {7, 9, 11}};
    limit_average_bits(space, 3);
    if (!tied)
      space.limits.push_back({CostKind::kBitOps, 0.2 * space.cost(CostKind::kBitOps, space.highest()), ""});
    std::vector<std::string> calls;
    Network network(calls);
    RandomSearch method(space, network, {.draws = 60, .seed = 3, .keep_draws = true});
    Archive archive(space);
    run_to_end(method, archive);
    ASSERT_EQ(method.draws().size(), 60u);
    EXPECT_EQ(calls.size(), 60u);
    double best = 0;
    std::map<std::string, int> different;
    for (const Found& found : method.draws()) {
      double part = 0;
      for (const Limit& limit : space.limits)
        part = std::max(part, space.cost(limit.kind, found.assignment) / limit.at_most);
      EXPECT_LE(part, 1);
      EXPECT_GE(part, 0.97);
      EXPECT_EQ(found.assignment[2], found.assignment[5]);
      EXPECT_EQ(found.assignment[7], found.assignment[11]);
      best = std::max(best, found.score.accuracy);
      ++different[text_of(found.assignment)];
    }
    EXPECT_EQ(archive.best()->score.accuracy, best);
    EXPECT_EQ(different.size(), 60u);
  }
}

TEST(RandomSearch, WithoutLimitsDrawsEveryCandidateEquallyOften) {
  const Space space = make_test_space(3, {8, 4, 2}, false);
  std::vector<std::string> calls;
  Network network(calls);
  const RandomSearch method(space, network, {.draws = 1, .seed = 1});
  std::map<BitPair, int> count;
  for (int64_t n = 0; n < 3000; ++n) ++count[method.draw(n)[1]];
  ASSERT_EQ(count.size(), 9u);
  for (const auto& [bits, times] : count)
    EXPECT_NEAR(times, 3000 / 9, 80) << bits.weight << "x" << bits.activation;
}

TEST(RandomSearch, DependsOnTheSeed) {
  const Space space = make_test_space(8, {8, 4, 2});
  std::vector<std::string> calls;
  Network network(calls);
  const RandomSearch a(space, network, {.draws = 2, .seed = 1}),
      same(space, network, {.draws = 5, .seed = 1});
  const RandomSearch other(space, network, {.draws = 2, .seed = 2});
  EXPECT_EQ(a.draw(1), same.draw(1));
  EXPECT_NE(a.draw(1), other.draw(1));
  EXPECT_THROW(RandomSearch(space, network, {.draws = 0}), Error);
}

TEST(RandomSearch, MeasuresTheLowestPlanWhereNothingIsFeasible) {
  Space space = make_test_space(3, {8, 4, 2});
  limit_average_bits(space, 1);
  std::vector<std::string> calls;
  Network network(calls);
  RandomSearch method(space, network, {.draws = 2});
  Archive archive(space);
  run_to_end(method, archive);
  EXPECT_EQ(archive.best()->assignment, all(space, 2));
}

TEST(RandomSearch, ResumesAfterEveryStep) {
  Space space = make_test_space(5, {8, 6, 4, 2}, false);
  limit_average_bits(space, 4);
  for (bool keep : {false, true}) {
    const RandomOptions options{.draws = 12, .seed = 5, .keep_draws = keep};
    const auto make = [&](Evaluator& network) {
      return std::make_unique<RandomSearch>(space, network, options);
    };
    expect_resumable(space, make_network, make);
    std::vector<std::string> calls;
    Network network(calls);
    RandomSearch method(space, network, options);
    Archive archive(space);
    method.step(archive);
    method.step(archive);
    expect_refuses_damage(method);
    RandomSearch other(space, network, {.draws = 12, .seed = 6, .keep_draws = keep});
    EXPECT_THROW(other.restore(method.save()), Error);
  }
}

}  // namespace
}  // namespace bitstrata::search
