#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model.h"

namespace bitstrata::onnx::testing {
namespace {

using ::testing::ElementsAre;

const std::vector<int64_t> kImage = {0, 2, 5, 5};

template <typename Kind>
Kind only(const Model& model) {
  const graph::Graph graph = model.import();
  EXPECT_EQ(graph.nodes.size(), 1u) << graph::describe(graph);
  return std::get<Kind>(graph.nodes.at(0).kind);
}

TEST(ImportConv, ReadsWindowGroupsAndBias) {
  Model m(kImage);
  m.ramp("w", {4, 1, 3, 2}).ramp("b", {4});
  m.node("Conv", {"x", "w", "b"})
      .set("kernel_shape", {3, 2})
      .set("strides", {2, 1})
      .set("dilations", {1, 2})
      .set("pads", {1, 0, 2, 1})
      .set("group", 2);
  EXPECT_EQ(m.nodes(),
            "y_node: y = conv(x) 3x2 stride 2x1 dilation 1x2 pad 1,0,2,1 oc 4 groups 2 bias -> [4, 3, 4]\n");
}

TEST(ImportConv, HasNoBiasWithoutInput) {
  Model m(kImage);
  m.ramp("w", {4, 2, 3, 3});
  m.node("Conv", {"x", "w"});
  EXPECT_EQ(m.nodes(), "y_node: y = conv(x) 3x3 oc 4 -> [4, 3, 3]\n");
}

TEST(ImportConv, AutoPadIsMadeExplicit) {
  for (const auto& [mode, pads] : std::vector<std::pair<const char*, std::string>>{
           {"SAME_UPPER", " stride 2x2 pad 0,0,1,1 oc 1 -> [1, 3, 3]"},
           {"SAME_LOWER", " stride 2x2 pad 1,1,0,0 oc 1 -> [1, 3, 3]"},
           {"VALID", " stride 2x2 oc 1 -> [1, 2, 2]"}}) {
    Model m({1, 1, 5, 5});
    m.ramp("w", {1, 1, 2, 2});
    m.node("Conv", {"x", "w"}).set("auto_pad", mode).set("strides", {2, 2});
    EXPECT_EQ(m.nodes(), "y_node: y = conv(x) 2x2" + pads + "\n");
  }
}

TEST(ImportConv, TakesAPrecedingZeroPad) {
  Model m(kImage);
  m.ramp("w", {1, 2, 3, 3}).ints("pads", {0, 0, 1, 2, 0, 0, 0, 1});
  m.node("Pad", {"x", "pads"}, {"p"});
  m.node("Conv", {"p", "w"}).set("pads", {1, 0, 1, 0});
  EXPECT_EQ(m.nodes(), "y_node: y = conv(x) 3x3 pad 2,2,1,1 oc 1 -> [1, 6, 6]\n");
}

TEST(ImportConv, RefusesWhatItCannotDo) {
  Model bad_mode(kImage);
  bad_mode.ramp("w", {1, 2, 3, 3});
  bad_mode.node("Conv", {"x", "w"}).set("auto_pad", "FULL");
  expect_error(ErrorCode::kUnsupported, {"y_node", "Conv", "auto_pad 'FULL'", "SAME_UPPER"},
               [&] { bad_mode.import(); });

  Model one_d({0, 2, 5});
  one_d.ramp("w", {1, 2, 3});
  one_d.node("Conv", {"x", "w"});
  expect_error(ErrorCode::kUnsupported, {"weights of 3 dims", "4"}, [&] { one_d.import(); });

  Model activation_weights(kImage);
  activation_weights.node("Conv", {"x", "x"});
  expect_error(ErrorCode::kUnsupported, {"input 1 ('x') depends on the network's input", "a constant"},
               [&] { activation_weights.import(); });

  Model channels(kImage);
  channels.ramp("w", {1, 3, 3, 3});
  channels.node("Conv", {"x", "w"});
  expect_error(ErrorCode::kBadInput, {"weights [1, 3, 3, 3]", "2 channels"}, [&] { channels.import(); });

  Model kernel(kImage);
  kernel.ramp("w", {1, 2, 3, 3});
  kernel.node("Conv", {"x", "w"}).set("kernel_shape", {5, 5});
  expect_error(ErrorCode::kBadInput, {"kernel_shape [5, 5]", "[1, 2, 3, 3]"}, [&] { kernel.import(); });

  Model too_small(kImage);
  too_small.ramp("w", {1, 2, 7, 7});
  too_small.node("Conv", {"x", "w"});
  expect_error(ErrorCode::kBadInput, {"test.onnx", "kernel 7", "5 padded elements"},
               [&] { too_small.import(); });

  Model attribute(kImage);
  attribute.ramp("w", {1, 2, 3, 3});
  attribute.node("Conv", {"x", "w"}).set("novelty", 1);
  expect_error(ErrorCode::kUnsupported, {"attribute 'novelty'", "auto_pad, dilations, group"},
               [&] { attribute.import(); });

  Model type(kImage);
  type.ramp("w", {1, 2, 3, 3});
  type.node("Conv", {"x", "w"}).set("group", 1.0f);
  expect_error(ErrorCode::kBadInput, {"attribute 'group' has type FLOAT, expected INT"},
               [&] { type.import(); });

  Model nan(kImage);
  nan.floats("w", {1, NAN}, {1, 2, 1, 1});
  nan.node("Conv", {"x", "w"});
  expect_error(ErrorCode::kBadInput, {"y_node", "parameter 1 is nan"}, [&] { nan.import(); });
}

TEST(ImportGemm, AppliesTransBAlphaAndBeta) {
  Model m({0, 2});
  m.floats("w", {1, 2, 3, 4, 5, 6}, {2, 3}).floats("c", {1, 2, 3}, {1, 3});
  m.node("Gemm", {"x", "w", "c"}).set("alpha", 2.0f).set("beta", 0.5f);
  const auto plain = only<graph::Linear>(m);
  EXPECT_EQ(plain.out, 3);
  EXPECT_THAT(plain.weights, ElementsAre(2, 8, 4, 10, 6, 12));
  EXPECT_THAT(plain.bias, ElementsAre(0.5f, 1, 1.5f));

  Model t({0, 2});
  t.floats("w", {1, 2, 3, 4, 5, 6}, {3, 2}).floats("c", {7}, {});
  t.node("Gemm", {"x", "w", "c"}).set("transB", 1);
  const auto transposed = only<graph::Linear>(t);
  EXPECT_THAT(transposed.weights, ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(transposed.bias, ElementsAre(7, 7, 7));

  Model no_c({0, 2});
  no_c.ramp("w", {3, 2});
  no_c.node("Gemm", {"x", "w"}).set("transB", 1);
  EXPECT_TRUE(only<graph::Linear>(no_c).bias.empty());
}

TEST(ImportGemm, RefusesTransAAndOddOperands) {
  Model trans_a({0, 2});
  trans_a.ramp("w", {2, 2});
  trans_a.node("Gemm", {"x", "w"}).set("transA", 1);
  expect_error(ErrorCode::kUnsupported, {"transA = 1", "supported is 0"}, [&] { trans_a.import(); });

  Model column({0, 2});
  column.ramp("w", {2, 2}).ramp("c", {2, 1});
  column.node("Gemm", {"x", "w", "c"});
  expect_error(ErrorCode::kUnsupported, {"C of dims [2, 1]"}, [&] { column.import(); });

  Model sizes({0, 3});
  sizes.ramp("w", {2, 2});
  sizes.node("Gemm", {"x", "w"});
  expect_error(ErrorCode::kBadInput, {"A has 3 features, B takes 2"}, [&] { sizes.import(); });

  Model image({0, 2, 3});
  image.ramp("w", {3, 2});
  image.node("Gemm", {"x", "w"});
  expect_error(ErrorCode::kBadInput, {"input of 3 dims with the batch, expected 2"}, [&] { image.import(); });
}

TEST(ImportMatMul, ConstantIsLinearOverTheLastDim) {
  Model m({0, 4, 2});
  m.floats("w", {1, 2, 3, 4, 5, 6}, {2, 3});
  m.node("MatMul", {"x", "w"});
  EXPECT_EQ(m.nodes(), "y_node: y = linear(x) out 3 -> [4, 3]\n");
  EXPECT_THAT(only<graph::Linear>(m).weights, ElementsAre(1, 4, 2, 5, 3, 6));
}

TEST(ImportMatMul, TwoActivations) {
  Model m({0, 4, 2});
  m.node("Transpose", {"x"}, {"t"}).set("perm", {0, 2, 1});
  m.node("MatMul", {"x", "t"});
  EXPECT_EQ(m.nodes(),
            "t_node: t = transpose(x) perm 1,0 -> [2, 4]\n"
            "y_node: y = matmul(x, t) -> [4, 4]\n");
}

TEST(ImportMatMul, RefusesOtherRanks) {
  Model vectors({0, 4});
  vectors.node("MatMul", {"x", "x"});
  expect_error(ErrorCode::kUnsupported, {"equal ranks of 3 and more"}, [&] { vectors.import(); });

  Model batched({0, 4, 2});
  batched.ramp("w", {4, 2, 3});
  batched.node("MatMul", {"x", "w"});
  expect_error(ErrorCode::kUnsupported, {"constant operand of 3 dims, supported are 2"},
               [&] { batched.import(); });

  Model left({0, 4, 2});
  left.ramp("w", {3, 4});
  left.node("MatMul", {"w", "x"});
  expect_error(ErrorCode::kUnsupported, {"input 0 ('w') is a constant, supported is an activation"},
               [&] { left.import(); });
}

TEST(ImportBatchNorm, AllOpsetVariants) {
  for (int opset : {7, 9, 14, 15, 21}) {
    Model m(kImage, opset);
    m.floats("g", {1, 2}, {2}).floats("b", {3, 4}, {2}).floats("m", {5, 6}, {2}).floats("v", {7, 8}, {2});
    auto node = m.node("BatchNormalization", {"x", "g", "b", "m", "v"});
    node.set("epsilon", 0.25f).set("momentum", 0.5f);
    if (opset >= 14) node.set("training_mode", 0);
    if (opset < 9) node.set("spatial", 1);
    const auto norm = only<graph::BatchNorm>(m);
    EXPECT_THAT(norm.gamma, ElementsAre(1, 2));
    EXPECT_THAT(norm.beta, ElementsAre(3, 4));
    EXPECT_THAT(norm.mean, ElementsAre(5, 6));
    EXPECT_THAT(norm.variance, ElementsAre(7, 8));
    EXPECT_EQ(norm.epsilon, 0.25f);
  }
}

TEST(ImportBatchNorm, RefusesTrainingAndWrongSizes) {
  const auto model = [](int opset, size_t channels) {
    Model m(kImage, opset);
    for (const char* name : {"g", "b", "m", "v"}) m.ramp(name, {static_cast<int64_t>(channels)});
    return m;
  };
  Model training = model(14, 2);
  training.node("BatchNormalization", {"x", "g", "b", "m", "v"}).set("training_mode", 1);
  expect_error(ErrorCode::kUnsupported, {"training_mode = 1", "evaluation mode"}, [&] { training.import(); });
  Model spatial = model(7, 2);
  spatial.node("BatchNormalization", {"x", "g", "b", "m", "v"}).set("spatial", 0);
  expect_error(ErrorCode::kUnsupported, {"spatial = 0, supported is 1"}, [&] { spatial.import(); });
  Model sizes = model(13, 3);
  sizes.node("BatchNormalization", {"x", "g", "b", "m", "v"});
  expect_error(ErrorCode::kBadInput, {"3 statistics, expected 2"}, [&] { sizes.import(); });
}

}  // namespace
}  // namespace bitstrata::onnx::testing
