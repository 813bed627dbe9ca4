#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "model.h"

namespace bitstrata::onnx::testing {
namespace {

using ::testing::ElementsAre;

const std::vector<int64_t> kImage = {0, 3, 2, 2};
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::string one(const char* op) {
  Model m(kImage, 20);
  m.node(op, {"x"});
  return m.nodes();
}

TEST(ImportActivation, FunctionsOfOneElement) {
  for (const auto& [op, kind] :
       std::vector<std::pair<const char*, std::string>>{{"Relu", "relu(x) 0 inf"},
                                                        {"LeakyRelu", "leaky-relu(x) 0.01"},
                                                        {"HardSigmoid", "hard-sigmoid(x) 0.2 0.5"},
                                                        {"HardSwish", "hard-swish(x)"},
                                                        {"Sigmoid", "sigmoid(x)"},
                                                        {"Tanh", "tanh(x)"},
                                                        {"Exp", "exp(x)"},
                                                        {"Log", "log(x)"},
                                                        {"Sqrt", "sqrt(x)"},
                                                        {"Erf", "erf(x)"},
                                                        {"Softplus", "softplus(x)"},
                                                        {"Elu", "elu(x)"},
                                                        {"Gelu", "gelu(x)"},
                                                        {"Abs", "abs(x)"},
                                                        {"Neg", "negate(x)"},
                                                        {"Reciprocal", "reciprocal(x)"}}) {
    EXPECT_EQ(one(op), "y_node: y = " + kind + " -> [3, 2, 2]\n");
  }
}

program::Step step_of(const Model& m) {
  return std::get<graph::Activation>(m.import().nodes.at(0).kind).step;
}

TEST(ImportActivation, Parameters) {
  Model leaky(kImage);
  leaky.node("LeakyRelu", {"x"}).set("alpha", 0.25f);
  EXPECT_EQ(step_of(leaky).a, 0.25f);
  Model hard(kImage);
  hard.node("HardSigmoid", {"x"}).set("alpha", 0.125f).set("beta", 0.75f);
  EXPECT_EQ(step_of(hard).a, 0.125f);
  EXPECT_EQ(step_of(hard).b, 0.75f);
  Model elu(kImage);
  elu.node("Elu", {"x"}).set("alpha", 2.0f);
  EXPECT_EQ(step_of(elu).a, 2.0f);
  Model prelu(kImage);
  prelu.floats("s", {0.5f, 1, 2}, {3, 1, 1});
  prelu.node("PRelu", {"x", "s"});
  EXPECT_THAT(step_of(prelu).mul, ElementsAre(0.5f, 1, 2));
}

TEST(ImportActivation, ClipByAttributesAndInputs) {
  Model attributes(kImage, 10);
  attributes.node("Clip", {"x"}).set("min", 0.0f).set("max", 6.0f);
  EXPECT_EQ(attributes.nodes(), "y_node: y = clip(x) 0 6 -> [3, 2, 2]\n");
  Model inputs(kImage, 13);
  inputs.floats("low", {-1}, {}).floats("high", {2}, {});
  inputs.node("Clip", {"x", "low", "high"});
  EXPECT_EQ(inputs.nodes(), "y_node: y = clip(x) -1 2 -> [3, 2, 2]\n");
  Model no_low(kImage, 13);
  no_low.floats("high", {2}, {});
  no_low.node("Clip", {"x", "", "high"});
  EXPECT_EQ(step_of(no_low).a, -kInfinity);
  EXPECT_EQ(step_of(no_low).b, 2);
  Model no_high(kImage, 13);
  no_high.floats("low", {0}, {});
  no_high.node("Clip", {"x", "low"});
  EXPECT_EQ(no_high.nodes(), "y_node: y = relu(x) 0 inf -> [3, 2, 2]\n");
  Model reversed(kImage, 13);
  reversed.floats("low", {3}, {}).floats("high", {2}, {});
  reversed.node("Clip", {"x", "low", "high"});
  expect_error(ErrorCode::kBadInput, {"bounds 3 and 2"}, [&] { reversed.import(); });
}

TEST(ImportActivation, MinAndMaxOfANumberAreClips) {
  Model max(kImage);
  max.floats("c", {0}, {});
  max.node("Max", {"x", "c"});
  EXPECT_EQ(max.nodes(), "y_node: y = relu(x) 0 inf -> [3, 2, 2]\n");
  Model min(kImage);
  min.floats("c", {6}, {1});
  min.node("Min", {"c", "x"});
  EXPECT_EQ(min.nodes(), "y_node: y = clip(x) -inf 6 -> [3, 2, 2]\n");
}

TEST(ImportActivation, Pow) {
  Model square(kImage);
  square.floats("e", {2}, {});
  square.node("Pow", {"x", "e"});
  EXPECT_EQ(square.nodes(), "y_node: y = multiply(x, x) -> [3, 2, 2]\n");
  Model root(kImage);
  root.floats("e", {0.5f}, {});
  root.node("Pow", {"x", "e"});
  EXPECT_EQ(root.nodes(), "y_node: y = sqrt(x) -> [3, 2, 2]\n");
  Model cube(kImage);
  cube.floats("e", {3}, {});
  cube.node("Pow", {"x", "e"});
  EXPECT_EQ(step_of(cube).function, program::Function::kPower);
  EXPECT_EQ(step_of(cube).a, 3);
}

TEST(ImportActivation, RefusesOddOperands) {
  Model slopes(kImage);
  slopes.ramp("s", {2, 2});
  slopes.node("PRelu", {"x", "s"});
  expect_error(ErrorCode::kUnsupported, {"slopes of dims [2, 2]"}, [&] { slopes.import(); });
  Model gelu(kImage, 20);
  gelu.node("Gelu", {"x"}).set("approximate", "tanh");
  expect_error(ErrorCode::kUnsupported, {"approximate 'tanh', supported is 'none'"}, [&] { gelu.import(); });
  Model exponents(kImage);
  exponents.ramp("e", {2});
  exponents.node("Pow", {"x", "e"});
  expect_error(ErrorCode::kUnsupported, {"exponents of dims [2]"}, [&] { exponents.import(); });
}

graph::Affine affine_of(const char* op, const std::vector<std::string>& inputs, const std::vector<float>& c,
                        const std::vector<int64_t>& dims) {
  Model m(kImage);
  m.floats("c", c, dims);
  m.node(op, inputs);
  return std::get<graph::Affine>(m.import().nodes.at(0).kind);
}

TEST(ImportArithmetic, ConstantsPerChannelAreAffine) {
  const auto check = [](const graph::Affine& a, const std::vector<float>& mul,
                        const std::vector<float>& add) {
    EXPECT_EQ(a.mul, mul);
    EXPECT_EQ(a.add, add);
  };
  const std::vector<float> c = {1, 2, 4};
  check(affine_of("Add", {"x", "c"}, c, {3, 1, 1}), {1}, c);
  check(affine_of("Add", {"c", "x"}, c, {1, 3, 1, 1}), {1}, c);
  check(affine_of("Sub", {"x", "c"}, c, {3, 1, 1}), {1}, {-1, -2, -4});
  check(affine_of("Sub", {"c", "x"}, c, {3, 1, 1}), {-1}, c);
  check(affine_of("Mul", {"x", "c"}, {3}, {}), {3}, {0});
  check(affine_of("Div", {"x", "c"}, c, {3, 1, 1}), {1, 0.5f, 0.25f}, {0});
}

TEST(ImportArithmetic, OtherConstantsStayOperands) {
  Model row(kImage);
  row.ramp("c", {2});
  row.node("Add", {"x", "c"});
  EXPECT_EQ(row.nodes(), "y_node: y = add(x, constant[1, 1, 2]) -> [3, 2, 2]\n");
  Model divided(kImage);
  divided.floats("c", {1}, {});
  divided.node("Div", {"c", "x"});
  EXPECT_EQ(divided.nodes(), "y_node: y = divide(constant[1, 1, 1], x) -> [3, 2, 2]\n");
}

TEST(ImportArithmetic, TwoActivations) {
  for (const auto& [op, kind] : std::vector<std::pair<const char*, std::string>>{
           {"Add", "add"}, {"Sub", "subtract"}, {"Mul", "multiply"}, {"Div", "divide"}}) {
    Model m(kImage);
    m.node("GlobalAveragePool", {"x"}, {"p"});
    m.node(op, {"x", "p"});
    EXPECT_EQ(m.nodes(), "p_node: p = reduce-mean(x) axes 1,2 keep -> [3, 1, 1]\ny_node: y = " + kind +
                             "(x, p) -> [3, 2, 2]\n");
  }
  Model sum(kImage);
  sum.node("Sum", {"x", "x", "x"});
  EXPECT_EQ(sum.import().nodes.size(), 2u);
}

TEST(ImportArithmetic, RefusesBroadcastsOverTheBatch) {
  Model ranks(kImage);
  ranks.node("ReduceMean", {"x"}, {"p"}).set("axes", {2, 3}).set("keepdims", 0);
  ranks.node("Mul", {"x", "p"});
  expect_error(ErrorCode::kUnsupported, {"4 and 2 dims", "broadcast over the batch"},
               [&] { ranks.import(); });
  Model constant(kImage);
  constant.ramp("c", {2, 3, 2, 2});
  constant.node("Add", {"x", "c"});
  expect_error(ErrorCode::kUnsupported, {"[2, 3, 2, 2] spans the batch"}, [&] { constant.import(); });
  Model mismatch(kImage);
  mismatch.ramp("c", {5});
  mismatch.node("Add", {"x", "c"});
  expect_error(ErrorCode::kBadInput, {"do not broadcast"}, [&] { mismatch.import(); });
}

TEST(ImportSoftmax, AxisBeforeAndAfterOpset13) {
  Model now({0, 3, 4}, 13);
  now.node("Softmax", {"x"});
  EXPECT_EQ(now.nodes(), "y_node: y = softmax(x) axis 1 -> [3, 4]\n");
  Model old({0, 3}, 11);
  old.node("Softmax", {"x"});
  EXPECT_EQ(old.nodes(), "y_node: y = softmax(x) axis 0 -> [3]\n");
  Model flat({0, 3, 4}, 11);
  flat.node("Softmax", {"x"});
  expect_error(ErrorCode::kUnsupported, {"axis 1 of 3 dims flattens"}, [&] { flat.import(); });
  Model batch({0, 3}, 13);
  batch.node("Softmax", {"x"}).set("axis", 0);
  expect_error(ErrorCode::kUnsupported, {"along the batch (axis 0)"}, [&] { batch.import(); });
}

}  // namespace
}  // namespace bitstrata::onnx::testing
