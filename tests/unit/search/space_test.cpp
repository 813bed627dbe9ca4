#include "search/space.h"

#include <gmock/gmock.h>

#include "core/error.h"
#include "core/random.h"
#include "tests/unit/graph/make_graph.h"

namespace bitstrata::search {
namespace {

using graph::ValueId;
using graph::testing::conv;
using graph::testing::GraphMaker;
using graph::testing::relu;
using plan::parse_target;
using testing::ElementsAre;
using testing::HasSubstr;

/// conv [3, 2, 3, 3] on pixels, relu, conv [5, 3, 2, 2], relu, mean, fc [7, 5].
graph::Graph three_layers() {
  GraphMaker m({2, 6, 6});
  const ValueId first = m.add("r1", relu(), {m.add("conv1", conv(3, 2, 3), {0})});
  const ValueId second = m.add("r2", relu(), {m.add("conv2", conv(5, 3, 2), {first})});
  const ValueId mean = m.add("mean", program::ReduceMean{{1, 2}, false}, {second});
  graph::Linear linear;
  linear.out = 7;
  linear.weights.assign(35, 0.5f);
  m.add("fc", linear, {mean});
  return m.graph;
}

SpaceOptions options(std::vector<int> bits, bool tied, const std::vector<std::string>& targets = {}) {
  SpaceOptions result;
  result.bits = std::move(bits);
  result.tied = tied;
  for (const std::string& text : targets) result.targets.push_back(parse_target(text));
  return result;
}

LatencyTable full_table(const graph::Graph& graph) {
  LatencyTable table;
  table.fixed_ms = 0.5;
  for (const auto& layer : plan::uniform_plan(graph, 8, 8, quant::Policy::kLsq, false).layers) {
    for (int w = 1; w <= 8; ++w) {
      for (int a = 1; a <= 8; ++a) table.entries.push_back({layer.name, w, a, 0.25 * w + 0.125 * a});
    }
  }
  return table;
}

Assignment random_assignment(const Space& space, Random& random) {
  Assignment result;
  for (size_t l = 0; l < space.layers.size(); ++l) {
    const auto pairs = space.candidates(l);
    result.push_back(pairs[random.below(pairs.size())]);
  }
  return result;
}

template <typename Call>
void expect_error(ErrorCode code, const std::string& part, Call&& call) {
  try {
    call();
    ADD_FAILURE() << "accepted, expected: " << part;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    EXPECT_THAT(error.what(), HasSubstr(part));
  }
}

TEST(MakeSpace, DescribesEveryLayer) {
  const Space space = make_space(three_layers(), options({2, 8, 4, 4}, true));
  ASSERT_EQ(space.layers.size(), 3u);
  EXPECT_EQ(space.layers[0].name, "conv1");
  EXPECT_EQ(space.layers[0].weights, 54);
  EXPECT_EQ(space.layers[0].macs, 54 * 16);
  EXPECT_EQ(space.layers[0].inputs, 72);
  EXPECT_THAT(space.layers[0].activation_bits, ElementsAre(8));
  EXPECT_THAT(space.layers[1].activation_bits, ElementsAre(8, 4, 2));
  EXPECT_THAT(space.candidates(0), ElementsAre(BitPair{8, 8}, BitPair{4, 8}, BitPair{2, 8}));
  EXPECT_THAT(space.candidates(1), ElementsAre(BitPair{8, 8}, BitPair{4, 4}, BitPair{2, 2}));
  EXPECT_THAT(space.lowest(), ElementsAre(BitPair{2, 8}, BitPair{2, 2}, BitPair{2, 2}));
  EXPECT_FALSE(space.has_latency());
}

TEST(MakeSpace, UntiedPairsAreAllCombinationsWeightsFirst) {
  const Space space = make_space(three_layers(), options({4, 2}, false));
  EXPECT_THAT(space.candidates(0), ElementsAre(BitPair{4, 8}, BitPair{2, 8}));
  EXPECT_THAT(space.candidates(1), ElementsAre(BitPair{4, 4}, BitPair{4, 2}, BitPair{2, 4}, BitPair{2, 2}));
}

TEST(MakeSpace, KeepsAGivenActivationWidthBesideAnyWeightWidth) {
  SpaceOptions given = options({4, 2}, true);
  given.activation_bits = 3;
  const Space space = make_space(three_layers(), given);
  EXPECT_THAT(space.candidates(0), ElementsAre(BitPair{4, 8}, BitPair{2, 8}));
  EXPECT_THAT(space.candidates(2), ElementsAre(BitPair{4, 3}, BitPair{2, 3}));
}

TEST(SpaceCost, EqualsTheFiguresOfThePlanForRandomAssignments) {
  const graph::Graph graph = three_layers();
  Random random(1, 2);
  for (bool tied : {true, false}) {
    const Space space = make_space(graph, options({1, 2, 3, 4, 5, 6, 7, 8}, tied));
    for (int round = 0; round < 50; ++round) {
      const Assignment a = random_assignment(space, random);
      const plan::Plan plan = to_plan(graph, space, a, quant::Policy::kSawb, true);
      ASSERT_NO_THROW(plan::check_plan(graph, plan));
      const plan::Figures f = plan::figures(graph, plan);
      EXPECT_DOUBLE_EQ(space.cost(CostKind::kWeightBits, a),
                       f.avg_weight_bits * static_cast<double>(f.weights));
      EXPECT_EQ(space.cost(CostKind::kSizeBytes, a), static_cast<double>(f.weight_bytes));
      EXPECT_EQ(space.cost(CostKind::kBitOps, a), f.bitops);
      EXPECT_TRUE(plan.layers[0].per_channel);
      EXPECT_EQ(plan.layers[0].policy, quant::Policy::kSawb);
    }
  }
}

TEST(SpaceCost, SumsLatencyAndTheRest) {
  SpaceOptions o = options({8, 2}, false);
  o.latency = full_table(three_layers());
  const Space space = make_space(three_layers(), o);
  EXPECT_TRUE(space.has_latency());
  const Assignment a = {{2, 8}, {8, 2}, {2, 2}};
  EXPECT_DOUBLE_EQ(space.cost(CostKind::kLatencyMs, a), 0.5 + (0.5 + 1) + (2 + 0.25) + (0.5 + 0.25));
  expect_error(ErrorCode::kInvalidArgument, "3 x 8", [&] { space.cost(CostKind::kLatencyMs, 0, {3, 8}); });
  expect_error(ErrorCode::kInvalidArgument, "found bits of 2 layers", [&] {
    space.cost(CostKind::kBitOps, {{2, 8}, {8, 2}});
  });
}

TEST(Targets, BecomeLimits) {
  const graph::Graph graph = three_layers();
  SpaceOptions o = options({8, 4, 2}, true,
                           {"avg-bits=3", "size=70B", "size=10x", "bitops=5M", "bitops=3x3", "latency=2ms",
                            "latency=0.5x", "drop=2", "drop=0.5"});
  o.latency = full_table(graph);
  const Space space = make_space(graph, o);
  const double weights = 54 + 60 + 35;
  const double uniform =
      plan::figures(graph, plan::uniform_plan(graph, 3, 3, quant::Policy::kLsq, false)).bitops;
  const struct {
    CostKind kind;
    double at_most;
    const char* text;
  } expected[] = {{CostKind::kWeightBits, 3 * weights, "avg-bits=3"},
                  {CostKind::kSizeBytes, 70, "size=70B"},
                  {CostKind::kSizeBytes, 4 * weights / 10, "size=10x"},
                  {CostKind::kBitOps, 5e6, "bitops=5000000"},
                  {CostKind::kBitOps, uniform, "bitops=3x3"},
                  {CostKind::kLatencyMs, 2, "latency=2ms"},
                  {CostKind::kLatencyMs, 0.5 * (0.5 + 3 * 3), "latency=0.5x"}};
  ASSERT_EQ(space.limits.size(), std::size(expected));
  for (size_t i = 0; i < std::size(expected); ++i) {
    EXPECT_EQ(space.limits[i].kind, expected[i].kind) << i;
    EXPECT_DOUBLE_EQ(space.limits[i].at_most, expected[i].at_most) << i;
    EXPECT_EQ(space.limits[i].text, expected[i].text);
  }
  ASSERT_TRUE(space.max_drop.has_value());
  EXPECT_DOUBLE_EQ(*space.max_drop, 0.005);
}

TEST(Targets, UniformBitOpsHoldForExactlyThatPlan) {
  const Space space = make_space(three_layers(), options({8, 4, 3, 2}, true, {"bitops=3x3"}));
  EXPECT_TRUE(space.feasible({{3, 8}, {3, 3}, {3, 3}}));
  EXPECT_FALSE(space.feasible({{3, 8}, {3, 3}, {4, 4}}));
}

TEST(Violation, IsTheWorstExcessAsAFraction) {
  const Space space = make_space(three_layers(), options({8, 4, 2}, true, {"avg-bits=4", "size=50B"}));
  EXPECT_EQ(space.violation({{2, 8}, {2, 2}, {2, 2}}), 0);
  EXPECT_DOUBLE_EQ(space.violation({{4, 8}, {4, 4}, {4, 4}}), (27 + 30 + 18) / 50.0 - 1);
  EXPECT_FALSE(space.feasible(space.highest()));
  EXPECT_TRUE(space.feasible(space.lowest()));
}

TEST(MakeSpace, RefusesBadOptions) {
  const graph::Graph graph = three_layers();
  for (const auto& bits : {std::vector<int>{}, {0, 2}, {9}, {-1}}) {
    expect_error(ErrorCode::kInvalidArgument, "candidates", [&] { make_space(graph, options(bits, true)); });
  }
  for (int bits : {-1, 9}) {
    SpaceOptions o = options({4}, true);
    o.activation_bits = bits;
    expect_error(ErrorCode::kInvalidArgument, "activation bits", [&] { make_space(graph, o); });
  }
  for (const char* target : {"latency=2ms", "latency=0.5x"}) {
    expect_error(ErrorCode::kInvalidArgument, "no latency table",
                 [&] { make_space(graph, options({4}, true, {target})); });
  }
  GraphMaker empty({2, 5, 5});
  empty.add("relu", relu(), {0});
  expect_error(ErrorCode::kBadInput, "no Conv", [&] { make_space(empty.graph, options({4}, true)); });
}

TEST(MakeSpace, RefusesATableThatDoesNotFit) {
  const graph::Graph graph = three_layers();
  const auto with = [&](bool tied, auto&& change) {
    SpaceOptions o = options({4, 2}, tied);
    o.latency = full_table(graph);
    change(*o.latency);
    return make_space(graph, o);
  };
  const auto erase_unequal = [](LatencyTable& t) {
    std::erase_if(t.entries,
                  [](const auto& e) { return e.layer == "fc" && e.weight_bits != e.activation_bits; });
  };
  expect_error(ErrorCode::kInvalidArgument, "'fc' at 4 x 2 bits is missing",
               [&] { with(false, erase_unequal); });
  EXPECT_NO_THROW(with(true, erase_unequal));
  expect_error(ErrorCode::kInvalidArgument, "listed twice",
               [&] { with(true, [](auto& t) { t.entries.push_back(t.entries[0]); }); });
  expect_error(ErrorCode::kInvalidArgument, "found nan ms",
               [&] { with(true, [](auto& t) { t.entries[3].ms = std::nan(""); }); });
  expect_error(ErrorCode::kInvalidArgument, "found -1 ms",
               [&] { with(true, [](auto& t) { t.fixed_ms = -1; }); });
}

TEST(ToPlan, RefusesAnotherNetworksAssignment) {
  const Space space = make_space(three_layers(), options({4, 2}, true));
  expect_error(ErrorCode::kInvalidArgument, "found bits of 2 layers", [&] {
    to_plan(three_layers(), space, {{4, 8}, {4, 4}}, quant::Policy::kLsq, false);
  });
  graph::Graph other = three_layers();
  other.nodes[0].name = "renamed";
  expect_error(ErrorCode::kInvalidArgument, "'renamed'",
               [&] { to_plan(other, space, space.lowest(), quant::Policy::kLsq, false); });
}

}  // namespace
}  // namespace bitstrata::search
