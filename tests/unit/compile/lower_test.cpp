#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "program/reference.h"
#include "quant/packing.h"
#include "sample_graphs.h"

namespace bitstrata::compile::testing {
namespace {

using program::Op;
using program::Program;
using quant::Policy;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const Op* find_op(const Program& program, const std::string& name) {
  const auto found =
      std::find_if(program.ops.begin(), program.ops.end(), [&](const Op& op) { return op.name == name; });
  return found == program.ops.end() ? nullptr : &*found;
}

std::vector<std::string> op_names(const Program& program) {
  std::vector<std::string> names;
  for (const Op& op : program.ops) names.push_back(op.name);
  return names;
}

Program lowered(const Graph& graph, int weight_bits, int activation_bits, Policy policy = Policy::kLsq) {
  const plan::Plan plan = plan::uniform_plan(graph, weight_bits, activation_bits, policy, true);
  return lower(graph, plan, sample_quantizers(graph, plan));
}

std::vector<float> random_input(const program::Dims& dims, uint64_t seed) {
  Random random(seed, 9);
  std::vector<float> x(static_cast<size_t>(program::elements(dims)));
  for (float& v : x) v = static_cast<float>(4 * random.uniform() - 2);
  return x;
}

std::vector<float> logits(const Program& program, const std::vector<float>& x) {
  return program::run_reference(program, x).floats[static_cast<size_t>(program.outputs[0])];
}

TEST(Lower, FoldsBatchNormAndActivationsIntoTheLayer) {
  const Program program = lowered(residual_net(), 4, 4);
  EXPECT_THAT(op_names(program),
              ElementsAre("input", "stem", "a", "b", "c", "rows", "columns", "pad", "d", "mean", "fc"));
  EXPECT_TRUE(find_op(program, "stem")->steps.empty()) << "a ReLU whose codes start at 0 clamps by itself";
  ASSERT_EQ(find_op(program, "b")->steps.size(), 1u);
  EXPECT_EQ(find_op(program, "b")->steps[0].kind, program::StepKind::kAdd);
}

TEST(Lower, MultipliersHoldScalesAndBatchNorm) {
  const Graph graph = residual_net();
  const plan::Plan plan = plan::uniform_plan(graph, 3, 4, Policy::kSawb, true);
  const Quantizers quantizers = sample_quantizers(graph, plan);
  const Program program = lower(graph, plan, quantizers);
  const auto& conv = std::get<graph::Conv>(graph.nodes[3].kind);
  const auto& norm = std::get<graph::BatchNorm>(graph.nodes[4].kind);
  ASSERT_EQ(graph.nodes[3].name, "a");
  const LayerQuantizer& quantizer = quantizers.layers.at("a");
  const auto q = quant::quantize_weights(Policy::kSawb, 3, conv.weights, conv.oc, quantizer.weight_params);
  const auto& layer = std::get<program::Conv>(find_op(program, "a")->kind);
  EXPECT_EQ(std::get<program::CodeWeights>(layer.weights).packed, quant::pack_codes(q.codes, 3));
  for (size_t o = 0; o < layer.mul.size(); ++o) {
    const double gain = norm.gamma[o] / std::sqrt(static_cast<double>(norm.variance[o]) + norm.epsilon);
    EXPECT_EQ(layer.mul[o],
              static_cast<float>(gain * static_cast<double>(q.scale[o])) * quantizer.input.scale);
    EXPECT_NEAR(layer.add[o], norm.beta[o] - norm.mean[o] * gain, 1e-6);
  }
}

TEST(Lower, FloatNetworkEqualsItsFoldedSelf) {
  for (const Graph& graph :
       {residual_net(), dense_net(), max_pool_net(), squeeze_net(), mobile_net(), linear_net()}) {
    Graph folded = graph;
    graph::fold_batch_norms(folded);
    const auto x = random_input(graph.values[0].dims, 3);
    const auto a = logits(lower_float(graph), x), b = logits(lower_float(folded), x);
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-4);
    EXPECT_GT(std::fabs(a[0]) + std::fabs(a[1]), 1e-3);
  }
}

/// Values of the named node's op in the float network, and codes in the quantized one.
TEST(Lower, QuantizerMovedInFrontOfDataMovementGivesTheSameCodes) {
  NetMaker m({2, 6, 6});
  const ValueId a = m.conv("a", 0, 3, 3), b = m.conv("b", 0, 2, 3);
  program::MaxPool pool;
  pool.window = {3, 3, 2, 2, 1, 1, 1, 1, 1, 1};
  const ValueId cat = m.add("cat", program::Concat{0}, {a, b});
  const ValueId max = m.add("max", pool, {cat});
  const ValueId pad = m.add("pad", program::Pad{{1, 0, 1}, {0, 2, 0}, 0.37f}, {max});
  const ValueId slice = m.add("slice", program::Slice{1, 4, -2}, {pad}, {6, 3, 4});
  const ValueId gather = m.add("gather", program::Gather{0, {5, 0, 5, 2}}, {slice});
  m.linear("last", m.add("turn", program::Transpose{{1, 0, 2}}, {gather}), 3);
  const Graph& graph = m.graph;
  // Only the last layer is quantized, so its input codes come from float values through six nodes of data
  // movement.
  plan::Plan plan = plan::uniform_plan(graph, 0, 0, Policy::kLsq, false);
  Program floats = lower(graph, plan, {});
  plan.layers.back() = {"last", 8, 3, Policy::kLsq, false};
  Quantizers quantizers;
  quantizers.layers["last"] = {{0.05f}, {3, -4, 0.21f}};
  const Program program = lower(graph, plan, quantizers);
  const auto find_turned = [](const Program& p) {
    return static_cast<size_t>(find_op(p, "turn")->outputs[0]);
  };
  for (uint64_t seed = 0; seed < 5; ++seed) {
    const auto x = random_input({2, 6, 6}, seed);
    const auto values = program::run_reference(floats, x).floats[find_turned(floats)];
    const auto codes = program::run_reference(program, x).codes[find_turned(program)];
    ASSERT_EQ(values.size(), codes.size());
    for (size_t i = 0; i < codes.size(); ++i)
      EXPECT_EQ(codes[i], quant::quantize(values[i], quantizers.layers["last"].input));
  }
}

TEST(Lower, ValueWithSeveralConsumersIsStoredOnceInEachForm) {
  NetMaker m({2, 4, 4});
  const ValueId r = m.conv_bn_relu("a", 0, 4, 3);
  const ValueId b = m.conv("b", r, 4, 3), c = m.conv("c", r, 4, 1);
  m.add("sum", graph::Binary{}, {m.add("both", graph::Binary{}, {b, c}), r});
  m.graph.outputs.push_back(r);
  const plan::Plan plan = plan::uniform_plan(m.graph, 4, 5, Policy::kLsq, false);
  Quantizers quantizers = sample_quantizers(m.graph, plan);
  EXPECT_EQ(find_op(lower(m.graph, plan, quantizers), "a")->outputs.size(),
            3u);  // b and c share one code; the sum's stream; float
  quantizers.layers["c"].input.scale *= 2;
  const Program program = lower(m.graph, plan, quantizers);
  EXPECT_EQ(find_op(program, "a")->outputs.size(), 4u);
  EXPECT_EQ(program.outputs.size(), 2u);
}

TEST(Lower, LeavesOutDeadNodesTheirConstantsAndQuantizers) {
  NetMaker m({2, 4, 4});
  const ValueId a = m.conv("a", 0, 3, 3);
  const ValueId dead = m.conv("dead", a, 3, 3);
  m.add("dead/add", graph::Binary{}, {dead, m.constant({1, 2, 3}, {3, 1, 1})});
  m.add("dead/flat", program::Reshape{}, {a}, {48});
  m.graph.outputs = {a};
  const plan::Plan plan = plan::uniform_plan(m.graph, 4, 4, Policy::kLsq, false);
  Quantizers quantizers = sample_quantizers(m.graph, plan);
  quantizers.layers.erase("dead");
  const Program program = lower(m.graph, plan, quantizers);
  EXPECT_THAT(op_names(program), ElementsAre("input", "a"));
  EXPECT_TRUE(program.constants.empty());
}

TEST(Lower, KeepsFloatLayersInsideAQuantizedNetwork) {
  const Graph graph = residual_net();
  plan::Plan plan = plan::uniform_plan(graph, 8, 8, Policy::kLsq, true);
  for (plan::LayerPlan& layer : plan.layers) {
    if (layer.name == "b") layer.weight_bits = layer.activation_bits = 0;
  }
  const Program program = lower(graph, plan, sample_quantizers(graph, plan));
  const Op& op = *find_op(program, "b");
  EXPECT_TRUE(std::holds_alternative<program::FloatWeights>(std::get<program::Conv>(op.kind).weights));
  EXPECT_FALSE(program.tensors[static_cast<size_t>(op.inputs[0])].code);
  const auto x = random_input({3, 8, 8}, 1);
  const auto exact = logits(lower_float(graph), x), found = logits(program, x);
  double error = 0, size = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    error += std::fabs(exact[i] - found[i]);
    size += std::fabs(exact[i]);
  }
  EXPECT_LT(error, 0.15 * size);
}

TEST(Lower, LookupTablesHoldTheFunctionOfEveryCode) {
  const Graph graph = squeeze_net();
  const plan::Plan plan = plan::uniform_plan(graph, 4, 4, Policy::kLsq, true);
  const Quantizers quantizers = sample_quantizers(graph, plan);
  const Program program = lower(graph, plan, quantizers);
  const auto& table = std::get<program::Lookup>(find_op(program, "gate")->kind).table;
  const quant::CodeType type = quantizers.streams.at("up");
  ASSERT_EQ(table.size(), 256u);
  for (int v = 0; v < 256; ++v) {
    EXPECT_EQ(
        table[static_cast<size_t>(v)],
        static_cast<float>(
            1 / (1 + std::exp(-static_cast<double>(quant::dequantize(static_cast<uint8_t>(v), type))))));
  }
}

TEST(Lower, SoftmaxFeedsCodesThroughAStoreOfItsOwn) {
  NetMaker m({6});
  m.linear("b", m.add("soft", program::Softmax{0}, {m.linear("a", 0, 8)}), 3);
  const Program program = lowered(m.graph, 8, 8);
  EXPECT_THAT(op_names(program), ElementsAre("input", "a", "soft", "soft#1", "b"));
  const auto x = random_input({6}, 2);
  const auto found = logits(program, x), exact = logits(lower_float(m.graph), x);
  for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], exact[i], 0.05);
}

TEST(Lower, NodesMayBeCalledLikeTheStoresOfTheInputAndConstants) {
  NetMaker m({4, 4, 4});
  const ValueId a = m.conv("input", 0, 4, 3);
  const ValueId cat =
      m.add("const:constant", program::Concat{0}, {a, m.constant(m.reals(16, -1, 1), {1, 4, 4})});
  const ValueId cat2 = m.add("cat", program::Concat{0}, {cat, m.constant(m.reals(16, -1, 1), {1, 4, 4})});
  m.conv("b", cat2, 2, 3);
  const Program program = lowered(m.graph, 4, 4);
  EXPECT_THAT(op_names(program), ElementsAre("const:constant#1", "const:constant#2", "input#1", "input",
                                             "const:constant", "cat", "b"));
}

TEST(Lower, RefusesPlansAndQuantizersThatDoNotFit) {
  const Graph graph = residual_net();
  const plan::Plan plan = plan::uniform_plan(graph, 4, 4, Policy::kLsq, true);
  const auto expect_refused = [&](const plan::Plan& p, const Quantizers& q, const char* part) {
    try {
      lower(graph, p, q);
      ADD_FAILURE() << "accepted, expected: " << part;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(part));
    }
  };
  Quantizers quantizers = sample_quantizers(graph, plan);
  quantizers.layers.erase("a");
  expect_refused(plan, quantizers, "layer 'a': its input quantizer is missing");
  quantizers = sample_quantizers(graph, plan);
  quantizers.layers["a"].input.bits = 5;
  expect_refused(plan, quantizers,
                 "layer 'a': its input quantizer is missing or has other bits than the plan's 4");
  quantizers = sample_quantizers(graph, plan);
  quantizers.streams.erase("stem/relu");
  expect_refused(plan, quantizers, "stream 'stem/relu': its quantizer is missing");
  quantizers = sample_quantizers(graph, plan);
  quantizers.layers["a"].weight_params = {1, 2, 3};
  expect_refused(plan, quantizers, "found parameters of 3 groups");
  quantizers.layers["a"].weight_params = {0};
  expect_refused(plan, quantizers, "found parameter 0");
  plan::Plan short_plan = plan;
  short_plan.layers.pop_back();
  expect_refused(short_plan, sample_quantizers(graph, plan), "layer 'fc' of the network is missing");
}

TEST(Lower, RefusesABinaryOfTwoBroadcastOperands) {
  NetMaker m({4, 4, 4});
  const ValueId a = m.add("rows", program::ReduceMean{{1}, true}, {0}),
                b = m.add("columns", program::ReduceMean{{2}, true}, {0});
  m.add("outer", graph::Binary{}, {a, b});
  EXPECT_THROW(lowered(m.graph, 4, 4), Error);
}

}  // namespace
}  // namespace bitstrata::compile::testing
