#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "compile/lower.h"
#include "model.h"
#include "program/reference.h"

/// Import of QONNX, in the conventions of Brevitas and of older files.
namespace bitstrata::onnx::testing {
namespace {

const Options kQuantized{{}, true};

/// What the attributes and parameters of a Quant node are by default here: 4 signed bits of scale 0.5.
struct Quantizer {
  std::vector<float> scale = {0.5f};
  std::vector<int64_t> scale_dims = {};
  float zero_point = 0, bits = 4;
  int is_signed = 1, narrow = 0;
  const char* mode = "ROUND";
  const char* op = "Quant";
  const char* domain = "qonnx.custom_op.general";
};

void quant(Model& m, const std::string& x, const std::string& y, const Quantizer& q) {
  m.floats(y + "_s", q.scale, q.scale_dims)
      .floats(y + "_z", {q.zero_point}, {})
      .floats(y + "_b", {q.bits}, {});
  m.node(q.op, {x, y + "_s", y + "_z", y + "_b"}, {y})
      .set("signed", q.is_signed)
      .set("narrow", q.narrow)
      .set("rounding_mode", q.mode);
  m.proto.mutable_graph()->mutable_node(m.proto.graph().node_size() - 1)->set_domain(q.domain);
}

/// x -> Quant -> y.
Model activation_model(const Quantizer& q) {
  Model m({0, 4});
  quant(m, "x", "y", q);
  return m;
}

/// Weights [2, 2, 1, 1] behind a Quant, on an input of unsigned 8 bits.
Model conv_model(const Quantizer& q) {
  Model m({0, 2, 1, 1});
  quant(m, "x", "d", {.scale = {1.0f}, .bits = 8, .is_signed = 0});
  m.floats("w", {-9, 0.7f, 1.25f, 0.75f}, {2, 2, 1, 1});
  quant(m, "w", "wq", q);
  m.node("Conv", {"d", "wq"});
  return m;
}

compile::QuantizedLowering lowered(const Model& m) {
  return compile::lower_quantized(m.import(kQuantized));
}

std::vector<float> run(const program::Program& program, const std::vector<float>& x) {
  return program::run_reference(program, x).floats[static_cast<size_t>(program.outputs[0])];
}

void expect_refused(const Model& m, ErrorCode code, const std::vector<std::string>& parts) {
  expect_error(code, parts, [&] { lowered(m); });
}

TEST(ImportQonnx, ReadsEveryNameAndDomain) {
  for (const char* domain : {"qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas"}) {
    for (const char* op : {"Quant", "IntQuant"}) {
      const auto program = lowered(activation_model({.op = op, .domain = domain})).program;
      EXPECT_EQ(program.tensors[1].code, (quant::CodeType{4, -8, 0.5f}));
      EXPECT_EQ(run(program, {-9, 0.25f, 0.75f, 9}), (std::vector<float>{-4, 0, 1, 3.5f}));
    }
  }
  expect_refused(activation_model({.domain = "com.example"}), ErrorCode::kUnsupported,
                 {"domain 'com.example'"});
}

TEST(ImportQonnx, ReadsSignsNarrowRangesAndZeroPoints) {
  const auto outputs = [](const Quantizer& q) {
    return run(lowered(activation_model(q)).program, {-99, -0.6f, 0.6f, 99});
  };
  EXPECT_EQ(outputs({.narrow = 1}), (std::vector<float>{-3.5f, -0.5f, 0.5f, 3.5f}));
  EXPECT_EQ(outputs({.is_signed = 0}), (std::vector<float>{0, 0, 0.5f, 7.5f}));
  EXPECT_EQ(outputs({.is_signed = 0, .narrow = 1}), (std::vector<float>{0, 0, 0.5f, 7}));
  EXPECT_EQ(outputs({.zero_point = 4, .is_signed = 0}), (std::vector<float>{-2, -0.5f, 0.5f, 5.5f}));
  EXPECT_EQ(outputs({.bits = 1, .is_signed = 0}), (std::vector<float>{0, 0, 0.5f, 0.5f}));
}

TEST(ImportQonnx, ReadsWeightsPerChannel) {
  const auto [program, float_layers] =
      lowered(conv_model({.scale = {0.5f, 0.25f}, .scale_dims = {2, 1, 1, 1}, .narrow = 1}));
  EXPECT_TRUE(float_layers.empty());
  // -7 1 at 0.5; 5 3 at 0.25.
  EXPECT_EQ(run(program, {1, 10}), (std::vector<float>{-3.5f + 5, 1.25f + 7.5f}));
}

TEST(ImportQonnx, RoundsWeightsByEveryMode) {
  const std::pair<const char*, float> first_of_modes[] = {{"ROUND", 2},   {"half_even", 2}, {"CEIL", 3},
                                                          {"FLOOR", 2},   {"UP", 3},        {"DOWN", 2},
                                                          {"HALF_UP", 3}, {"HALF_DOWN", 2}};
  for (const auto& [mode, expected] : first_of_modes) {
    const auto program = lowered(conv_model({.mode = mode})).program;  // 1.25 / 0.5 = 2.5
    EXPECT_EQ(run(program, {1, 0})[1], 0.5f * expected) << mode;
  }
  expect_refused(conv_model({.mode = "NEAREST"}), ErrorCode::kUnsupported, {"rounding_mode 'NEAREST'"});
  expect_refused(activation_model({.mode = "FLOOR"}), ErrorCode::kUnsupported,
                 {"rounding_mode 'FLOOR' of an activation"});
}

TEST(ImportQonnx, ReadsBipolarWeights) {
  Model m = conv_model({});
  auto& node = *m.proto.mutable_graph()->mutable_node(1);
  node.set_op_type("BipolarQuant");
  node.clear_attribute();
  while (node.input_size() > 2) node.mutable_input()->RemoveLast();
  const auto program = lowered(m).program;
  const auto& conv = std::get<program::Conv>(program.ops.back().kind);
  EXPECT_EQ(std::get<program::CodeWeights>(conv.weights).bits, 1);
  EXPECT_EQ(run(program, {1, 10}), (std::vector<float>{4.5f, 5.5f}));
}

TEST(ImportQonnx, ReadsBipolarActivations) {
  Model m({0, 8});
  m.floats("s", {0.75f}, {});
  m.node("BipolarQuant", {"x", "s"});
  m.proto.mutable_graph()->mutable_node(0)->set_domain("qonnx.custom_op.general");
  const float tiny = std::numeric_limits<float>::denorm_min(), huge = std::numeric_limits<float>::max();
  const float p = 0.75f;
  EXPECT_EQ(run(lowered(m).program, {0, -0.0f, tiny, -tiny, huge, -huge, 1e-20f, -1e-20f}),
            (std::vector<float>{p, p, p, -p, p, -p, p, -p}));
}

TEST(ImportQonnx, ReadsWideConstants) {
  Model m = conv_model({});
  m.floats("b", {1000.25f, -3}, {2});
  quant(m, "b", "bq", {.scale = {0.25f}, .bits = 32});
  m.proto.mutable_graph()->mutable_node()->SwapElements(2, 3);
  m.proto.mutable_graph()->mutable_node(3)->add_input("bq");
  EXPECT_EQ(run(lowered(m).program, {0, 0}), (std::vector<float>{1000.25f, -3}));
}

TEST(ImportQonnx, RefusesBadParameters) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for (float bits : {0.0f, 33.0f, 2.5f, -1.0f, kNan})
    expect_refused(activation_model({.bits = bits}), ErrorCode::kBadInput, {"'y_node' (Quant)", "bit width"});
  for (float scale : {0.0f, -1.0f, kNan, std::numeric_limits<float>::infinity()})
    expect_refused(activation_model({.scale = {scale}}), ErrorCode::kBadInput, {"scale"});
  for (float zero_point : {8.0f, -9.0f, 0.5f, kNan})
    expect_refused(activation_model({.zero_point = zero_point}), ErrorCode::kBadInput, {"zero point"});
  expect_refused(activation_model({.bits = 9}), ErrorCode::kUnsupported, {"512 codes"});
  expect_refused(activation_model({.scale = {1, 2, 3, 4}, .scale_dims = {4}}), ErrorCode::kUnsupported,
                 {"scale differs between the elements (dims [4])"});
  expect_refused(conv_model({.scale = {1, 2, 3}, .scale_dims = {3}}), ErrorCode::kBadInput,
                 {"'wq_node' (Quant): scale of dims [3] for a tensor of dims [2, 2, 1, 1]"});
  Model m = activation_model({});
  m.proto.mutable_graph()->mutable_node(0)->set_input(1, "x");
  expect_refused(m, ErrorCode::kUnsupported, {"input 1 ('x') depends on the network's input"});
  m = activation_model({});
  m.proto.mutable_graph()->mutable_node(0)->mutable_input()->RemoveLast();
  expect_refused(m, ErrorCode::kBadInput, {"input 3 is missing"});
}

TEST(ImportQonnx, RefusesTrunc) {
  expect_refused(activation_model({.op = "Trunc"}), ErrorCode::kUnsupported, {"(Trunc)", "drops bits"});
}

}  // namespace
}  // namespace bitstrata::onnx::testing
