#include <gmock/gmock.h>

#include "plan/scheme.h"
#include "tests/unit/graph/make_graph.h"

namespace bitstrata::plan {
namespace {

using graph::ValueId;
using graph::testing::conv;
using graph::testing::GraphMaker;
using graph::testing::relu;
using testing::ElementsAre;
using enum EdgeRole;

std::vector<std::string> stream_names(const graph::Graph& graph) {
  std::vector<std::string> names;
  for (ValueId v : stream_values(graph, derive_scheme(graph)))
    names.push_back(graph.values[static_cast<size_t>(v)].name);
  return names;
}

graph::BatchNorm batch_norm(size_t channels) {
  graph::BatchNorm norm;
  norm.gamma.assign(channels, 1);
  norm.beta = norm.mean = std::vector<float>(channels, 0);
  norm.variance.assign(channels, 1);
  return norm;
}

TEST(Scheme, ResidualAddRunsOnTheConvolutionComputedLast) {
  for (bool swapped : {false, true}) {
    GraphMaker m({2, 4, 4});
    const ValueId stem = m.add("stem", relu(), {m.add("c0", conv(2, 2, 1), {0})});
    const ValueId bn = m.add("bn", batch_norm(2), {m.add("c1", conv(2, 2, 1), {stem})});
    const ValueId add =
        m.add("add", graph::Binary{}, swapped ? std::vector{stem, bn} : std::vector{bn, stem});
    m.add("relu", relu(), {add});
    const Scheme scheme = derive_scheme(m.graph);
    EXPECT_THAT(scheme.roles,
                ElementsAre(ElementsAre(kLayerInput), ElementsAre(kRunning), ElementsAre(kLayerInput),
                            ElementsAre(kRunning),
                            swapped ? ElementsAre(kStream, kRunning) : ElementsAre(kRunning, kStream),
                            ElementsAre(kRunning)));
    EXPECT_EQ(scheme.running_input(4), swapped ? 1 : 0);
    EXPECT_EQ(scheme.running_input(0), -1);
    EXPECT_THAT(stream_names(m.graph), ElementsAre("stem"));
  }
}

TEST(Scheme, OfTwoBranchesTheLaterRunsAndTheOtherIsAStream) {
  GraphMaker m({2, 4, 4});
  const ValueId a = m.add("a", conv(2, 2, 1), {0}), b = m.add("b", conv(2, 2, 1), {0});
  m.add("add", graph::Binary{}, {b, a});
  EXPECT_THAT(derive_scheme(m.graph).roles[2], ElementsAre(kRunning, kStream));
  EXPECT_THAT(stream_names(m.graph), ElementsAre("a"));
}

TEST(Scheme, OptionAShortcutGoesThroughDataMovement) {
  GraphMaker m({2, 4, 4});
  const ValueId stem = m.add("stem", relu(), {m.add("c0", conv(2, 2, 1), {0})});
  graph::Conv strided = conv(4, 2, 1);
  strided.window.stride_h = strided.window.stride_w = 2;
  const ValueId c1 = m.add("c1", strided, {stem});
  const ValueId rows = m.add("rows", program::Slice{1, 0, 2}, {stem}, {2, 2, 4});
  const ValueId columns = m.add("columns", program::Slice{2, 0, 2}, {rows}, {2, 2, 2});
  const ValueId padded = m.add("pad", program::Pad{{1, 0, 0}, {1, 0, 0}, 0}, {columns});
  m.add("add", graph::Binary{}, {c1, padded});
  const Scheme scheme = derive_scheme(m.graph);
  for (graph::NodeId n : {3, 4, 5}) EXPECT_THAT(scheme.roles[static_cast<size_t>(n)], ElementsAre(kThrough));
  EXPECT_THAT(scheme.roles[6], ElementsAre(kRunning, kStream));
  EXPECT_THAT(stream_names(m.graph), ElementsAre("pad"));
}

TEST(Scheme, SqueezeAndExcitationHasAStreamForPoolTableAndProduct) {
  GraphMaker m({2, 4, 4});
  const ValueId c = m.add("relu", relu(), {m.add("c", conv(2, 2, 1), {0})});
  const ValueId mean = m.add("mean", program::ReduceMean{{1, 2}, true}, {c});
  const ValueId fc = m.add("fc", conv(2, 2, 1), {mean});
  const ValueId gate = m.add("gate", graph::testing::function(program::Function::kSigmoid), {fc});
  m.add("scale", graph::Binary{graph::Binary::Kind::kMultiply}, {c, gate});
  EXPECT_THAT(derive_scheme(m.graph).roles,
              ElementsAre(ElementsAre(kLayerInput), ElementsAre(kRunning), ElementsAre(kStream),
                          ElementsAre(kLayerInput), ElementsAre(kStream), ElementsAre(kStream, kStream)));
  EXPECT_THAT(stream_names(m.graph), ElementsAre("relu", "fc", "gate"));
}

TEST(Scheme, BatchNormBehindConcatStartsAnOpAndFeedsReluDirectly) {
  GraphMaker m({2, 4, 4});
  const ValueId c = m.add("c", conv(3, 2, 1), {0});
  const ValueId cat = m.add("cat", program::Concat{0}, {0, c});
  const ValueId bn = m.add("bn", batch_norm(5), {cat});
  m.add("relu", relu(), {bn});
  EXPECT_THAT(derive_scheme(m.graph).roles,
              ElementsAre(ElementsAre(kLayerInput), ElementsAre(kThrough, kThrough), ElementsAre(kStream),
                          ElementsAre(kRunning)));
}

TEST(Scheme, ValuesWithSeveralUsesOrOutputsDoNotRun) {
  GraphMaker m({2, 4, 4});
  const ValueId c = m.add("c", conv(2, 2, 1), {0});
  const ValueId r = m.add("r", relu(), {c});
  m.add("square", graph::Binary{graph::Binary::Kind::kMultiply}, {r, r});
  EXPECT_THAT(derive_scheme(m.graph).roles,
              ElementsAre(ElementsAre(kLayerInput), ElementsAre(kRunning), ElementsAre(kStream, kStream)));
  EXPECT_THAT(stream_names(m.graph), ElementsAre("r"));
  m.graph.outputs.push_back(c);
  EXPECT_THAT(derive_scheme(m.graph).roles[1], ElementsAre(kStream));
}

TEST(Scheme, ConstantsAndFloatOnlyNodesStayFloatAndBroadcastOperandsDoNotRun) {
  GraphMaker m({2, 4, 4});
  const ValueId gate = m.add("gate", conv(2, 2, 4), {0});  // [2, 1, 1]
  const ValueId c = m.add("c", conv(2, 2, 1), {0});
  const ValueId sum = m.add("sum", graph::Binary{}, {c, m.constant({1, 2}, {2, 1, 1})});
  m.add("scaled", graph::Binary{graph::Binary::Kind::kMultiply}, {gate, sum});
  const ValueId soft = m.add("soft", program::Softmax{0}, {m.graph.outputs[0]});
  m.add("product", program::MatMul{}, {soft, soft});
  EXPECT_THAT(derive_scheme(m.graph).roles,
              ElementsAre(ElementsAre(kLayerInput), ElementsAre(kLayerInput), ElementsAre(kRunning, kFloat),
                          ElementsAre(kStream, kRunning), ElementsAre(kFloat), ElementsAre(kFloat, kFloat)));
  EXPECT_THAT(quantizable_layers(m.graph), ElementsAre("gate", "c"));
}

}  // namespace
}  // namespace bitstrata::plan
