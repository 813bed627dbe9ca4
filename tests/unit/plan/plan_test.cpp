#include <gmock/gmock.h>

#include <functional>

#include "core/error.h"
#include "plan/plan.h"
#include "tests/unit/graph/make_graph.h"

namespace bitstrata::plan {
namespace {

using graph::ValueId;
using graph::testing::conv;
using graph::testing::GraphMaker;
using graph::testing::relu;
using quant::Policy;
using testing::ElementsAre;

/// conv [3, 2, 3, 3] without padding, relu, mean, fc [5, 3].
graph::Graph tiny_net() {
  GraphMaker m({2, 5, 5});
  const ValueId r = m.add("relu", relu(), {m.add("conv", conv(3, 2, 3), {0})});
  const ValueId mean = m.add("mean", program::ReduceMean{{1, 2}, false}, {r});
  graph::Linear linear;
  linear.out = 5;
  linear.weights.assign(15, 0.5f);
  m.add("fc", linear, {mean});
  return m.graph;
}

TEST(UniformPlan, GivesTheInputLayerAndStreamsEightBits) {
  const Plan plan = uniform_plan(tiny_net(), 3, 4, Policy::kSawb, true);
  EXPECT_THAT(plan.layers, ElementsAre(LayerPlan{"conv", 3, 8, Policy::kSawb, true},
                                       LayerPlan{"fc", 3, 4, Policy::kSawb, true}));
  EXPECT_THAT(plan.streams, ElementsAre(StreamPlan{"relu", 8}));
  const Plan floats = uniform_plan(tiny_net(), 0, 0, Policy::kLsq, false);
  EXPECT_TRUE(floats.layers[0].is_float() && floats.layers[1].is_float());
  EXPECT_THAT(floats.streams, ElementsAre(StreamPlan{"relu", 0}));
}

TEST(UniformPlan, SeesTheGraphInputThroughDataMovementOnlyWhenNothingElseIsMixedIn) {
  GraphMaker m({2, 4, 4});
  const ValueId twice = m.add("twice", program::Concat{0}, {0, 0});
  const ValueId first =
      m.add("first", conv(2, 4, 1), {m.add("turned", program::Transpose{{0, 2, 1}}, {twice})});
  const ValueId mixed = m.add("mixed", program::Concat{0}, {0, first});
  m.add("second", conv(2, 4, 1), {mixed});
  const Plan plan = uniform_plan(m.graph, 2, 2, Policy::kLsq, false);
  EXPECT_EQ(plan.find_layer("first")->activation_bits, 8);
  EXPECT_EQ(plan.find_layer("second")->activation_bits, 2);
}

TEST(Figures, OfATinyNetByHand) {
  const graph::Graph graph = tiny_net();
  Plan plan = uniform_plan(graph, 3, 4, Policy::kLsq, false);
  Figures f = figures(graph, plan);
  EXPECT_EQ(f.weights, 54 + 15);
  EXPECT_EQ(f.weight_bytes, 21 + 6);  // ceil(54 * 3 / 8), ceil(15 * 3 / 8)
  EXPECT_DOUBLE_EQ(f.compression, 4.0 * 69 / 27);
  EXPECT_DOUBLE_EQ(f.avg_weight_bits, 3);
  EXPECT_DOUBLE_EQ(f.avg_activation_bits, (50 * 8 + 3 * 4) / 53.0);
  EXPECT_DOUBLE_EQ(f.bitops, 54 * 9 * 3 * 8 + 15 * 3 * 4);  // 3x3 outputs
  plan.layers[1].weight_bits = plan.layers[1].activation_bits = 0;
  f = figures(graph, plan);
  EXPECT_EQ(f.weight_bytes, 21 + 60);
  EXPECT_DOUBLE_EQ(f.avg_weight_bits, (54 * 3 + 15 * 32) / 69.0);
  EXPECT_DOUBLE_EQ(f.bitops, 54 * 9 * 3 * 8 + 15 * 32 * 32);
}

TEST(ParseTarget, ReadsEveryKindAndUnit) {
  using Kind = Target::Kind;
  const struct {
    const char* text;
    Kind kind;
    double value;
    int activation_bits = 0;
  } cases[] = {{"avg-bits=3", Kind::kAvgBits, 3},       {"avg-bits=2.5", Kind::kAvgBits, 2.5},
               {"size=10x", Kind::kCompression, 10},    {"size=70KB", Kind::kSizeBytes, 70e3},
               {"size=1.5MB", Kind::kSizeBytes, 1.5e6}, {"size=900B", Kind::kSizeBytes, 900},
               {"size=900", Kind::kSizeBytes, 900},     {"bitops=0.4G", Kind::kBitOps, 0.4e9},
               {"bitops=30M", Kind::kBitOps, 30e6},     {"bitops=1e9", Kind::kBitOps, 1e9},
               {"bitops=3x4", Kind::kUniformBitOps, 3, 4}, {"bitops=8x1", Kind::kUniformBitOps, 8, 1},
               {"latency=2ms", Kind::kLatencyMs, 2},    {"latency=0.5x", Kind::kLatencyRatio, 0.5},
               {"drop=0.5", Kind::kDrop, 0.5}};
  for (const auto& c : cases) {
    const Target target = parse_target(c.text);
    EXPECT_EQ(target.kind, c.kind) << c.text;
    EXPECT_DOUBLE_EQ(target.value, c.value) << c.text;
    const Target again = parse_target(to_string(target));
    EXPECT_EQ(again.kind, c.kind) << c.text;
    EXPECT_DOUBLE_EQ(again.value, c.value) << c.text;
    EXPECT_EQ(target.activation_bits, c.activation_bits) << c.text;
    EXPECT_EQ(again.activation_bits, c.activation_bits) << c.text;
  }
}

TEST(ParseTarget, RefusesEverythingElseNamingIt) {
  for (const char* text : {"",
                           "size",
                           "size=",
                           "=5",
                           "size=x",
                           "size=-3KB",
                           "size=0",
                           "size=10X",
                           "size=10 KB",
                           "size=10KBs",
                           "avg-bits=3x",
                           "avg-bits=nan",
                           "avg-bits=inf",
                           "avg-bits=1e999",
                           "bits=3",
                           "Size=10x",
                           "bitops=3K",
                           "bitops=3x",
                           "bitops=3x9",
                           "bitops=9x3",
                           "bitops=3.5x3",
                           "bitops=3x3x",
                           "bitops=33x3",
                           "size=3x3",
                           "latency=2",
                           "latency=2s",
                           "drop=1%",
                           "drop=0x5",
                           "size==3",
                           "size= 3",
                           "drop=,5"}) {
    try {
      parse_target(text);
      ADD_FAILURE() << "accepted '" << text << "'";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_THAT(error.what(), testing::HasSubstr(std::string("--target ") + text));
    }
  }
}

void expect_refused(const std::string& part, const std::function<void(Plan&)>& damage) {
  const graph::Graph graph = tiny_net();
  Plan plan = uniform_plan(graph, 3, 4, Policy::kLsq, false);
  ASSERT_NO_THROW(check_plan(graph, plan));
  damage(plan);
  try {
    check_plan(graph, plan);
    ADD_FAILURE() << "accepted, expected: " << part;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadInput);
    EXPECT_THAT(error.what(), testing::HasSubstr(part));
  }
}

TEST(CheckPlan, NamesTheFirstProblem) {
  expect_refused("layer 'fc' of the network is missing", [](Plan& p) { p.layers.pop_back(); });
  expect_refused("layer 'other' is not in the network", [](Plan& p) { p.layers.push_back({"other"}); });
  expect_refused("listed twice", [](Plan& p) { p.layers.push_back(p.layers[0]); });
  for (int bits : {-1, 0, 9}) {
    expect_refused("layer 'fc': found weight_bits", [&](Plan& p) { p.layers[1].weight_bits = bits; });
    expect_refused("layer 'conv': found weight_bits", [&](Plan& p) { p.layers[0].activation_bits = bits; });
  }
  expect_refused("stream 'relu' of the network is missing", [](Plan& p) { p.streams.clear(); });
  expect_refused("stream 'relu': found 9 bits", [](Plan& p) { p.streams[0].bits = 9; });
  expect_refused("stream 'relu': found -1 bits", [](Plan& p) { p.streams[0].bits = -1; });
  expect_refused("found 2 streams, the network has 1", [](Plan& p) { p.streams.push_back({"nowhere", 8}); });
}

TEST(Figures, RefusesAPlanWithoutALayer) {
  Plan plan = uniform_plan(tiny_net(), 3, 4, Policy::kLsq, false);
  plan.layers.pop_back();
  EXPECT_THROW(figures(tiny_net(), plan), Error);
}

}  // namespace
}  // namespace bitstrata::plan
