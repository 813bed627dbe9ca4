#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "make_graph.h"

namespace bitstrata::graph::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Graph, ProducersAndConsumers) {
  GraphMaker m({2, 4, 4});
  const ValueId a = m.add("a", relu(), {0});
  const ValueId b = m.add("b", Binary{Binary::Kind::kMultiply}, {a, a});
  EXPECT_EQ(producer(m.graph, 0), -1);
  EXPECT_EQ(producer(m.graph, b), 1);
  const auto readers = consumers(m.graph);
  EXPECT_THAT(readers[0], ElementsAre(0));
  EXPECT_THAT(readers[a], ElementsAre(1, 1));
  EXPECT_THAT(readers[b], IsEmpty());
}

TEST(Graph, KindNames) {
  EXPECT_EQ(kind_name(relu()), "relu");
  EXPECT_EQ(kind_name(activation(program::StepKind::kClip, 0, 6)), "clip");
  EXPECT_EQ(kind_name(function(program::Function::kSigmoid)), "sigmoid");
  EXPECT_EQ(kind_name(Binary{Binary::Kind::kDivide}), "divide");
  EXPECT_EQ(kind_name(BatchNorm{}), "batch-norm");
}

TEST(Graph, DataMovementIncludesMaxPool) {
  EXPECT_TRUE(is_data_movement(program::MaxPool{}));
  EXPECT_TRUE(is_data_movement(program::Gather{}));
  EXPECT_FALSE(is_data_movement(program::AveragePool{}));
  EXPECT_FALSE(is_data_movement(relu()));
}

TEST(Graph, MultiplyAccumulates) {
  GraphMaker m({4, 6, 6});
  Conv grouped = conv(8, 2, 3);
  grouped.groups = 2;
  m.add("conv", grouped, {0});
  EXPECT_EQ(macs(m.graph, m.graph.nodes[0]), 8 * 4 * 4 * 2 * 9);
  GraphMaker l({3, 5});
  l.add("linear", Linear{2, std::vector<float>(10), {}}, {0});
  EXPECT_EQ(macs(l.graph, l.graph.nodes[0]), 3 * 2 * 5);
  l.add("relu", relu(), {1});
  EXPECT_EQ(macs(l.graph, l.graph.nodes[1]), 0);
}

TEST(Graph, NonnegativeValues) {
  GraphMaker m({2, 4, 4});
  const auto nonnegative = [&](ValueId v) { return is_nonnegative(m.graph, v); };
  EXPECT_FALSE(nonnegative(0));
  const ValueId a = m.add("relu", relu(), {0});
  const ValueId s = m.add("sigmoid", function(program::Function::kSigmoid), {0});
  EXPECT_TRUE(nonnegative(a));
  EXPECT_TRUE(nonnegative(s));
  program::Window window;
  window.kernel_h = window.kernel_w = 2;
  const ValueId pooled = m.add("pool", program::AveragePool{window}, {a});
  EXPECT_TRUE(nonnegative(pooled));
  EXPECT_TRUE(nonnegative(m.add("sum", Binary{Binary::Kind::kAdd}, {a, s})));
  EXPECT_FALSE(nonnegative(m.add("difference", Binary{Binary::Kind::kSubtract}, {a, s})));
  EXPECT_FALSE(nonnegative(m.add("mixed", Binary{Binary::Kind::kAdd}, {a, 0})));
  EXPECT_TRUE(nonnegative(m.add("square", Binary{Binary::Kind::kMultiply}, {0, 0})));
  EXPECT_TRUE(nonnegative(m.add("pad", program::Pad{{0, 1, 1}, {0, 0, 0}, 0.0f}, {a})));
  EXPECT_FALSE(nonnegative(m.add("cold", program::Pad{{0, 1, 1}, {0, 0, 0}, -1.0f}, {a})));
  EXPECT_TRUE(nonnegative(m.add("scale", Affine{{2}, {0}}, {a})));
  EXPECT_FALSE(nonnegative(m.add("flip", Affine{{-1}, {0}}, {a})));
  EXPECT_FALSE(nonnegative(m.add("swish", activation(program::StepKind::kHardSwish), {0})));
  EXPECT_FALSE(nonnegative(m.add("conv", conv(1, 2, 3), {a})));
  EXPECT_TRUE(nonnegative(m.add("clip", activation(program::StepKind::kClip, 1, 6), {0})));
  EXPECT_FALSE(nonnegative(m.add("below", activation(program::StepKind::kClip, -1, 6), {0})));
}

}  // namespace
}  // namespace bitstrata::graph::testing
