#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "make_graph.h"

namespace bitstrata::graph::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatEq;

TEST(FoldBatchNorms, IntoAConvolution) {
  GraphMaker m({1, 3, 3});
  const ValueId c = m.add("conv", conv(2, 1, 1, true), {0});
  const ValueId n = m.add("bn", BatchNorm{{2, 4}, {10, 20}, {1, 2}, {3.75f, 15.75f}, 0.25f}, {c});
  m.add("relu", relu(), {n});
  EXPECT_EQ(describe(m.graph),
            "input x [1, 3, 3]\n"
            "conv: conv = conv(x) 1x1 oc 2 bias -> [2, 3, 3]\n"
            "bn: bn = batch-norm(conv) -> [2, 3, 3]\n"
            "relu: relu = relu(bn) 0 inf -> [2, 3, 3]\n"
            "output relu\n");
  fold_batch_norms(m.graph);
  verify(m.graph);
  EXPECT_EQ(describe(m.graph),
            "input x [1, 3, 3]\n"
            "conv: bn = conv(x) 1x1 oc 2 bias -> [2, 3, 3]\n"
            "relu: relu = relu(bn) 0 inf -> [2, 3, 3]\n"
            "output relu\n");
  const auto& folded = std::get<Conv>(m.graph.nodes[0].kind);
  EXPECT_THAT(folded.weights, ElementsAre(1, 2));  // gain 2 / sqrt(4), 4 / sqrt(16)
  EXPECT_THAT(folded.bias, ElementsAre(1 + 10 - 1, 1 + 20 - 2));
}

TEST(FoldBatchNorms, ChainsAndAffines) {
  GraphMaker m({4});
  const ValueId l = m.add("linear", Linear{2, {1, 2, 3, 4, 5, 6, 7, 8}, {}}, {0});
  const ValueId a = m.add("scale", Affine{{2}, {1, 2}}, {l});
  m.add("bn", BatchNorm{{1, 1}, {0, 0}, {1, 1}, {0.25f, 0.25f}, 0}, {a});
  fold_batch_norms(m.graph);
  verify(m.graph);
  EXPECT_EQ(describe(m.graph), "input x [4]\nlinear: bn = linear(x) out 2 bias -> [2]\noutput bn\n");
  const auto& folded = std::get<Linear>(m.graph.nodes[0].kind);
  EXPECT_THAT(folded.weights, ElementsAre(4, 8, 12, 16, 20, 24, 28, 32));
  EXPECT_THAT(folded.bias, ElementsAre(0, 2));
}

TEST(FoldBatchNorms, LeavesSharedAndOutputValues) {
  GraphMaker shared({1, 3, 3});
  const ValueId c = shared.add("conv", conv(2, 1, 1), {0});
  const ValueId n = shared.add("bn", BatchNorm{{1, 1}, {0, 0}, {0, 0}, {1, 1}}, {c});
  shared.add("add", Binary{}, {c, n});
  const std::string before = describe(shared.graph);
  fold_batch_norms(shared.graph);
  EXPECT_EQ(describe(shared.graph), before);

  GraphMaker output({1, 3, 3});
  const ValueId d = output.add("conv", conv(2, 1, 1), {0});
  const ValueId e = output.add("bn", BatchNorm{{1, 1}, {0, 0}, {0, 0}, {1, 1}}, {d});
  output.graph.outputs = {d, e};
  fold_batch_norms(output.graph);
  EXPECT_EQ(output.graph.nodes.size(), 2u);
}

TEST(FoldBatchNorms, RowsOfALinearAreNotItsFeatures) {
  GraphMaker m({2, 4});
  const ValueId l = m.add("linear", Linear{2, std::vector<float>(8, 1.0f), {}}, {0});
  const ValueId a = m.add("rows", Affine{{2, 3}, {0}}, {l});
  m.add("relu", relu(), {a});
  fold_batch_norms(m.graph);
  EXPECT_EQ(m.graph.nodes.size(), 3u);
  std::get<Affine>(m.graph.nodes[1].kind).mul = {2};
  fold_batch_norms(m.graph);
  EXPECT_EQ(m.graph.nodes.size(), 2u);
  EXPECT_THAT(std::get<Linear>(m.graph.nodes[0].kind).weights, ::testing::Each(FloatEq(2)));
}

TEST(MergePads, IntoEveryConvolutionThatReadsIt) {
  GraphMaker m({1, 4, 4});
  const ValueId p = m.add("pad", program::Pad{{0, 1, 0}, {0, 2, 1}, 0}, {0});
  const ValueId a = m.add("a", conv(1, 1, 3), {p});
  const ValueId b = m.add("b", conv(1, 1, 3), {p});
  m.add("sum", Binary{}, {a, b});
  merge_pads(m.graph);
  verify(m.graph);
  EXPECT_EQ(describe(m.graph),
            "input x [1, 4, 4]\n"
            "a: a = conv(x) 3x3 pad 1,0,2,1 oc 1 -> [1, 5, 3]\n"
            "b: b = conv(x) 3x3 pad 1,0,2,1 oc 1 -> [1, 5, 3]\n"
            "sum: sum = add(a, b) -> [1, 5, 3]\n"
            "output sum\n");
}

TEST(MergePads, LeavesOtherPads) {
  const auto stays = [](program::Pad pad, bool second_reader) {
    GraphMaker m({1, 4, 4});
    const ValueId p = m.add("pad", std::move(pad), {0});
    const int64_t channels = m.graph.values[p].dims[0];
    const ValueId c = m.add("conv", conv(1, static_cast<int>(channels), 3), {p});
    if (second_reader) m.graph.outputs = {c, m.add("relu", relu(), {p})};
    const std::string before = describe(m.graph);
    merge_pads(m.graph);
    return describe(m.graph) == before;
  };
  EXPECT_FALSE(stays({{0, 1, 1}, {0, 1, 1}, 0}, false));
  EXPECT_TRUE(stays({{0, 1, 1}, {0, 1, 1}, 0}, true));
  EXPECT_TRUE(stays({{0, 1, 1}, {0, 1, 1}, 2}, false));
  EXPECT_TRUE(stays({{1, 0, 0}, {0, 0, 0}, 0}, false));
}

TEST(RemoveDeadNodes, ClosesUpIds) {
  GraphMaker m({1, 4, 4});
  m.constant({1}, {1});
  const ValueId dead = m.add("dead", relu(), {0});
  m.add("dead_too", relu(), {dead});
  m.add("alive", Binary{}, {0, m.constant({2}, {1})});
  remove_dead_nodes(m.graph);
  verify(m.graph);
  EXPECT_EQ(m.graph.values.size(), 3u);
  EXPECT_EQ(describe(m.graph),
            "input x [1, 4, 4]\nalive: alive = add(x, constant[1]) -> [1, 4, 4]\noutput alive\n");
}

TEST(InsertBatchNorm, TakesOverConsumersAndOutputs) {
  GraphMaker m({1, 3, 3});
  const ValueId c = m.add("conv", conv(2, 1, 1), {0});
  const ValueId r = m.add("relu", relu(), {c});
  m.graph.outputs = {c, r};
  const NodeId id = insert_batch_norm(m.graph, 0, "conv.bn", BatchNorm{{1, 2}, {3, 4}, {0, 0}, {1, 1}});
  verify(m.graph);
  EXPECT_EQ(id, 1);
  EXPECT_EQ(describe(m.graph),
            "input x [1, 3, 3]\n"
            "conv: conv.raw = conv(x) 1x1 oc 2 -> [2, 3, 3]\n"
            "conv.bn: conv = batch-norm(conv.raw) -> [2, 3, 3]\n"
            "relu: relu = relu(conv) 0 inf -> [2, 3, 3]\n"
            "output conv\noutput relu\n");
  EXPECT_THROW(insert_batch_norm(m.graph, 0, "relu", BatchNorm{{1, 2}, {3, 4}, {0, 0}, {1, 1}}), Error);
  EXPECT_THROW(insert_batch_norm(m.graph, 9, "other", BatchNorm{}), Error);
}

}  // namespace
}  // namespace bitstrata::graph::testing
