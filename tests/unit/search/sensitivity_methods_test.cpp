#include "search/sensitivity_methods.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/random.h"
#include "tests/unit/search/fakes.h"

namespace bitstrata::search {
namespace {

using testing::ElementsAre;

/// A network known by its tables: traces, weight errors, SQNRs and entropies follow from a few numbers per
/// layer.
class Network final : public TableNetwork<SensitivityEvaluator> {
 public:
  using TableNetwork::TableNetwork;
  static double noise(size_t layer) { return 1 + static_cast<double>(mix64(layer) % 97) / 7; }

  double weight_error(size_t layer, int bits) override {
    note("error " + std::to_string(layer) + " " + std::to_string(bits));
    return static_cast<double>(layer + 1) * std::pow(4, -bits);
  }
  bool refine_traces() override {
    if (steps_ == 3) return true;
    note("refine " + std::to_string(++steps_));
    return steps_ == 3;
  }
  double hessian_trace(size_t layer) override {
    EXPECT_EQ(steps_, 3) << "the traces are not refined yet";
    note("trace " + std::to_string(layer));
    return layer == negative_layer ? -1 : noise(layer);
  }
  double output_sqnr(size_t layer, BitPair bits) override {
    note("sqnr " + std::to_string(layer) + " " + text_of(Assignment{bits}));
    return layer == broken_layer
               ? std::nan("")
               : -10 * std::log10(noise(layer) * (std::pow(4, -bits.weight) + std::pow(4, -bits.activation)));
  }
  double code_entropy(size_t layer, int bits) override {
    note("entropy " + std::to_string(layer) + " " + std::to_string(bits));
    return bits * (0.5 + 0.4 / noise(layer)) - (bits < 3 ? 0.3 : 0);
  }

  size_t negative_layer = 1000, broken_layer = 1000;

 protected:
  Score score(const Assignment& plan) override {
    double lost = 0;
    for (size_t l = 0; l < plan.size(); ++l)
      lost += noise(l) * (std::pow(4, -plan[l].weight) + std::pow(4, -plan[l].activation));
    return {std::max(0.0, float_accuracy - lost / 20), lost};
  }
};

const auto make_network = [](std::vector<std::string>& calls) { return std::make_unique<Network>(calls); };

struct SearchRun {
  std::vector<std::string> calls;
  Assignment plan;
  double accuracy = 0;
  std::vector<double> sensitivity;
  bool met = false;
  std::string how;
};

SearchRun run(const Space& space, Sensitivity kind, size_t negative_layer = 1000) {
  SearchRun result;
  Network network(result.calls);
  network.negative_layer = negative_layer;
  TableSearch method(space, network, kind);
  Archive archive(space, network.float_score());
  EXPECT_TRUE(method.sensitivity().empty());
  run_to_end(method, archive);
  EXPECT_EQ(method.status().done, method.status().expected);
  result.plan = archive.best()->assignment;
  result.accuracy = archive.best()->score.accuracy;
  result.sensitivity = method.sensitivity();
  result.met = archive.met(network.float_score());
  result.how = archive.best()->how;
  return result;
}

size_t count(const std::vector<std::string>& calls, const std::string& what) {
  return static_cast<size_t>(std::count_if(calls.begin(), calls.end(),
                                           [&](const std::string& call) { return call.starts_with(what); }));
}

template <typename Visit>
void for_all_tied(size_t layers, const std::vector<int>& bits, Visit visit) {
  size_t plans = 1;
  for (size_t l = 0; l < layers; ++l) plans *= bits.size();
  for (size_t n = 0; n < plans; ++n) {
    Assignment plan;
    for (size_t l = 0, rest = n; l < layers; ++l, rest /= bits.size())
      plan.push_back({bits[rest % bits.size()], bits[rest % bits.size()]});
    visit(plan);
  }
}

TEST(Hawq, FindsTheLeastSumOfTraceTimesError) {
  const std::vector<int> bits = {8, 4, 3, 2};
  for (bool tied : {true, false}) {
    Space space = make_test_space(5, bits, tied);
    limit_average_bits(space, 3.3);
    space.limits.push_back({CostKind::kBitOps, 0.25 * space.cost(CostKind::kBitOps, space.highest()), ""});
    Assignment best;
    double least = 1e300;
    for_all_tied(5, bits, [&](const Assignment& plan) {
      double damage = 0;
      for (size_t l = 0; l < 5; ++l)
        damage += Network::noise(l) * static_cast<double>(l + 1) * std::pow(4, -plan[l].weight);
      if (space.feasible(plan) && damage < least) {
        least = damage;
        best = plan;
      }
    });
    const SearchRun found = run(space, Sensitivity::kHawq);
    EXPECT_EQ(found.plan, best);
    EXPECT_EQ(count(found.calls, "trace"), 5u);
    EXPECT_EQ(count(found.calls, "refine"), 3u);
    EXPECT_EQ(count(found.calls, "error"), 20u);
    EXPECT_EQ(count(found.calls, "evaluate"), 1u);
    EXPECT_EQ(std::set<std::string>(found.calls.begin(), found.calls.end()).size(), found.calls.size());
    for (size_t l = 0; l < 5; ++l) EXPECT_EQ(found.sensitivity[l], Network::noise(l));
  }
}

TEST(Hawq, ANegativeTraceMakesNoDamageWelcome) {
  const Space space = make_test_space(3, {8, 4, 2});
  const SearchRun found = run(space, Sensitivity::kHawq, 1);
  EXPECT_EQ(found.plan, space.highest());
  EXPECT_EQ(found.sensitivity[1], -1);
}

TEST(Eagl, FindsTheLeastEntropyLost) {
  const std::vector<int> bits = {8, 4, 2, 1};
  Space space = make_test_space(5, bits);
  limit_average_bits(space, 4);
  const auto entropy = [](size_t l, int b) {
    return b * (0.5 + 0.4 / Network::noise(l)) - (b < 3 ? 0.3 : 0);
  };
  Assignment best;
  double least = 1e300;
  for_all_tied(5, bits, [&](const Assignment& plan) {
    double damage = 0;
    for (size_t l = 0; l < 5; ++l) damage += entropy(l, 8) - entropy(l, plan[l].weight);
    if (space.feasible(plan) && damage < least) {
      least = damage;
      best = plan;
    }
  });
  const SearchRun found = run(space, Sensitivity::kEagl);
  EXPECT_EQ(found.plan, best);
  EXPECT_EQ(count(found.calls, "entropy"), 20u);
  for (size_t l = 0; l < 5; ++l) EXPECT_EQ(found.sensitivity[l], entropy(l, 8));
}

TEST(Sqnr, AppliesTheListUntilTheLimitHolds) {
  Space space = make_test_space(4, {8, 6, 4, 2});
  limit_average_bits(space, 5);
  struct Item {
    double sqnr;
    size_t layer;
    int bits;
  };
  std::vector<Item> list;
  for (size_t l = 0; l < 4; ++l) {
    for (int b : {6, 4, 2}) list.push_back({-10 * std::log10(Network::noise(l) * 2 * std::pow(4, -b)), l, b});
  }
  std::sort(list.begin(), list.end(), [](const Item& a, const Item& b) { return a.sqnr > b.sqnr; });
  Assignment expected = space.highest();
  for (const Item& item : list) {
    if (space.feasible(expected)) break;
    expected[item.layer] = {item.bits, item.bits};
  }
  const SearchRun found = run(space, Sensitivity::kSqnr);
  EXPECT_EQ(found.plan, expected);
  EXPECT_EQ(count(found.calls, "sqnr"), 12u);
  EXPECT_EQ(count(found.calls, "evaluate"), 1u);
  for (size_t l = 0; l < 4; ++l)
    EXPECT_NEAR(found.sensitivity[l], 10 * std::log10(Network::noise(l) * 2 / 16), 1e-9);
}

TEST(Sqnr, WithoutAnyTargetKeepsTheMostBits) {
  const Space space = make_test_space(3, {8, 4});
  EXPECT_EQ(run(space, Sensitivity::kSqnr).plan, space.highest());
}

TEST(Sqnr, AWeightLimitLeavesInputsAlone) {
  Space space = make_test_space(4, {8, 6, 4, 2}, false);
  limit_average_bits(space, 4);
  const SearchRun found = run(space, Sensitivity::kSqnr);
  EXPECT_TRUE(space.feasible(found.plan));
  EXPECT_GT(space.cost(CostKind::kBitOps, found.plan), 8 * 2 * 50000.0);
  // Every entry of the list that is applied lowers the weights; the best of these at each width keeps the
  // input's bits.
  for (const BitPair& bits : found.plan) EXPECT_EQ(bits.activation, 8);
}

TEST(Sqnr, ThirtySixPairsWithTwoLimits) {
  Space space = make_test_space(20, {8, 6, 4, 3, 2, 1}, false);
  limit_average_bits(space, 3.5);
  space.limits.push_back({CostKind::kBitOps, 0.2 * space.cost(CostKind::kBitOps, space.highest()), ""});
  for (Sensitivity kind : {Sensitivity::kSqnr, Sensitivity::kHawq, Sensitivity::kEagl}) {
    const SearchRun found = run(space, kind);
    EXPECT_TRUE(found.met);
    EXPECT_EQ(count(found.calls, "sqnr"), kind == Sensitivity::kSqnr ? 20u * 35 : 0u);
  }
}

TEST(TableSearch, TiedLayersMoveTogether) {
  for (Sensitivity kind : {Sensitivity::kSqnr, Sensitivity::kHawq, Sensitivity::kEagl}) {
    Space space = make_test_space(6, {8, 6, 4, 3, 2});
    space.ties = {{0, 5}, {2, 3}};
    limit_average_bits(space, 4.2);
    const SearchRun found = run(space, kind);
    EXPECT_TRUE(found.met);
    EXPECT_EQ(found.plan[0], found.plan[5]);
    EXPECT_EQ(found.plan[2], found.plan[3]);
  }
}

TEST(Sqnr, NoiseOfTiedLayersAddsUp) {
  // Alone, layer 0 would move before layer 1, and layer 2 last; tied, 0 and 2 are noisier than 1.
  std::vector<size_t> order = {0, 1, 2};
  std::sort(order.begin(), order.end(),
            [](size_t a, size_t b) { return Network::noise(a) < Network::noise(b); });
  Space space = make_test_space(3, {8, 4});
  space.ties = {{static_cast<int>(order[0]), static_cast<int>(order[2])}};
  limit_average_bits(space, 7.9);
  const SearchRun found = run(space, Sensitivity::kSqnr);
  EXPECT_EQ(found.plan[order[0]], (BitPair{8, 8}));
  EXPECT_EQ(found.plan[order[1]], (BitPair{4, 4}));
}

TEST(SqnrWithADrop, FindsTheLongestPrefixByBisection) {
  Space space = make_test_space(8, {8, 7, 6, 5, 4, 3, 2, 1});
  std::vector<std::string> calls;
  Network network(calls);
  for (double drop : {0.001, 0.01, 0.05, 0.2}) {
    space.max_drop = drop;
    const SearchRun found = run(space, Sensitivity::kSqnr);
    EXPECT_TRUE(found.met);
    EXPECT_LE(count(found.calls, "evaluate"), 8u);  // of 57 prefixes
    // One entry further, whichever it is by the list, loses too much: all single moves of the least noise do.
    double least_loss = 1;
    Assignment next;
    for (size_t l = 0; l < 8; ++l) {
      if (found.plan[l].weight == 1) continue;
      Assignment moved = found.plan;
      --moved[l].weight;
      --moved[l].activation;
      const double noise = Network::noise(l) * std::pow(4, -moved[l].weight);
      if (next.empty() || noise < least_loss) {
        least_loss = noise;
        next = moved;
      }
    }
    ASSERT_FALSE(next.empty());
    EXPECT_LT(network.evaluate(next).accuracy, 0.9 - drop);
  }
}

TEST(TableSearchWithADrop, TightensTheBudgetToTheEdge) {
  for (Sensitivity kind : {Sensitivity::kHawq, Sensitivity::kEagl}) {
    Space space = make_test_space(8, {8, 6, 5, 4, 3, 2});
    space.max_drop = 0.02;
    const SearchRun found = run(space, kind);
    EXPECT_TRUE(found.met);
    EXPECT_LE(count(found.calls, "evaluate"), 9u);
    const double bits = space.cost(CostKind::kWeightBits, found.plan);
    EXPECT_LT(bits, space.cost(CostKind::kWeightBits, space.highest()));
    // The float accuracy less the drop lies between this plan and the one of the next budget, so the loss
    // cannot be far from the edge.
    EXPECT_LT(found.accuracy, 0.9 - 0.02 / 4);
  }
}

TEST(TableSearchWithADrop, StopsEarlyAtBothEnds) {
  for (Sensitivity kind : {Sensitivity::kSqnr, Sensitivity::kHawq, Sensitivity::kEagl}) {
    Space space = make_test_space(4, {8, 4, 2});
    space.max_drop = 1;
    const SearchRun any = run(space, kind);
    EXPECT_EQ(any.plan, space.lowest());
    EXPECT_EQ(count(any.calls, "evaluate"), 2u);
    space.max_drop = 1e-9;
    const SearchRun none = run(space, kind);
    EXPECT_EQ(none.plan, space.highest());
    EXPECT_FALSE(none.met);
    EXPECT_EQ(count(none.calls, "evaluate"), 1u);
  }
}

TEST(TableSearch, InfeasibleLimitsEndWithTheClosestPlan) {
  for (Sensitivity kind : {Sensitivity::kSqnr, Sensitivity::kHawq, Sensitivity::kEagl}) {
    Space space = make_test_space(4, {8, 4, 2});
    limit_average_bits(space, 1);
    space.max_drop = 0.5;
    const SearchRun found = run(space, kind);
    EXPECT_EQ(found.plan, space.lowest());
    EXPECT_FALSE(found.met);
    EXPECT_EQ(found.how, "nearest to the limits");
  }
}

TEST(TableSearch, ResumesAfterEveryStepWithoutRepeatingWork) {
  for (Sensitivity kind : {Sensitivity::kSqnr, Sensitivity::kHawq, Sensitivity::kEagl}) {
    for (bool drop : {false, true}) {
      Space space = make_test_space(4, {8, 5, 3, 2}, kind != Sensitivity::kSqnr);
      limit_average_bits(space, 6);
      if (drop) space.max_drop = 0.03;
      const auto make = [&](SensitivityEvaluator& network) {
        return std::make_unique<TableSearch>(space, network, kind);
      };
      expect_resumable(space, make_network, make);
      std::vector<std::string> calls;
      Network network(calls);
      TableSearch method(space, network, kind);
      Archive archive(space);
      for (int i = 0; i < 3; ++i) method.step(archive);
      expect_refuses_damage(method);
      while (!method.finished()) {
        method.step(archive);
        if (count(calls, "evaluate") == 1) break;
      }
      expect_refuses_damage(method);
      Archive rest(space);
      run_to_end(method, rest);
    }
  }
}

TEST(TableSearch, RefusesAnEntryThatIsNoNumber) {
  const Space space = make_test_space(3, {8, 4});
  std::vector<std::string> calls;
  Network network(calls);
  network.broken_layer = 1;
  TableSearch method(space, network, Sensitivity::kSqnr);
  Archive archive(space);
  method.step(archive);
  try {
    method.step(archive);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadInput);
    EXPECT_THAT(error.what(), testing::HasSubstr("'layer1'"));
  }
}

TEST(TableSearch, NeedsAWidthThatWeightsAndInputShare) {
  Space space = make_test_space(3, {8, 4}, false);
  space.layers[1].activation_bits = {6, 3};
  std::vector<std::string> calls;
  Network network(calls);
  EXPECT_THROW(TableSearch(space, network, Sensitivity::kHawq), Error);
  EXPECT_NO_THROW(TableSearch(space, network, Sensitivity::kSqnr));
}

}  // namespace
}  // namespace bitstrata::search
