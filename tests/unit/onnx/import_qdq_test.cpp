#include <gtest/gtest.h>

#include <limits>

#include "compile/lower.h"
#include "model.h"
#include "program/reference.h"

/// Import of QuantizeLinear and DequantizeLinear as other tools write them.
namespace bitstrata::onnx::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
const Options kQuantized{{}, true};

/// x -> QuantizeLinear -> DequantizeLinear -> Gemm with weights [2, 3] of `type` -> y.
Model gemm_model(int type = kInt8, const std::vector<int>& weights = {-7, 3, 5, 1, 0, -8}, int opset = 21) {
  Model m({0, 3}, opset);
  m.floats("s", {0.5f}, {}).floats("ws", {0.25f, 2.0f}, {2});
  m.integers("z", kUint8, {3}, {});
  m.integers("w", type, weights, {2, 3});
  m.integers("wz", type, {0, 0}, {2});
  m.node("QuantizeLinear", {"x", "s", "z"}, {"q"});
  m.node("DequantizeLinear", {"q", "s", "z"}, {"d"});
  m.node("DequantizeLinear", {"w", "ws", "wz"}, {"wd"}).set("axis", 0);
  m.node("Gemm", {"d", "wd"}).set("transB", 1);
  return m;
}

compile::QuantizedLowering lowered(const Model& m) {
  return compile::lower_quantized(m.import(kQuantized));
}

const program::Linear& only_linear(const program::Program& program) {
  for (const auto& op : program.ops) {
    if (const auto* linear = std::get_if<program::Linear>(&op.kind)) return *linear;
  }
  throw std::runtime_error("no linear op");
}

int weight_bits(const program::Program& program) {
  return std::get<program::CodeWeights>(only_linear(program).weights).bits;
}

std::vector<float> run(const program::Program& program, const std::vector<float>& x) {
  const auto tensors = program::run_reference(program, x);
  return tensors.floats[static_cast<size_t>(program.outputs[0])];
}

void expect_refused(const Model& m, ErrorCode code, const std::vector<std::string>& parts) {
  expect_error(code, parts, [&] { lowered(m); });
}

void replace(Model& m, const std::string& name, const std::function<void(pb::TensorProto&)>& change) {
  for (auto& tensor : *m.proto.mutable_graph()->mutable_initializer()) {
    if (tensor.name() == name) change(tensor);
  }
}

void set_floats(Model& m, const std::string& name, const std::vector<float>& values) {
  replace(m, name, [&](pb::TensorProto& tensor) {
    tensor.clear_float_data();
    tensor.mutable_float_data()->Add(values.begin(), values.end());
    tensor.clear_dims();
    if (values.size() != 1) tensor.add_dims(static_cast<int64_t>(values.size()));
  });
}

TEST(ImportQdq, BecomesQuantizersAndIntegers) {
  EXPECT_EQ(gemm_model().nodes(kQuantized),
            "d_node: d = quantize(x) bits 8 zero -3 scale 0.5 -> [3]\n"
            "y_node: y = linear(d) out 2 integers -> [2]\n");
}

TEST(ImportQdq, RunsOnCodesOfTheFewestBits) {
  const auto [program, float_layers] = lowered(gemm_model());
  EXPECT_TRUE(float_layers.empty());
  EXPECT_EQ(weight_bits(program), 4);
  EXPECT_EQ(only_linear(program).mul, (std::vector<float>{0.125f, 1.0f}));
  // Codes -3 (clamped), 1 and 2 times 0.5.
  EXPECT_EQ(run(program, {-9, 0.4f, 1.25f}), (std::vector<float>{0.125f * (21 + 3 + 10), -3 - 16}));
}

TEST(ImportQdq, ReadsEveryWidthOfWeights) {
  const std::vector<int> signed_values = {-2, 1, 0, -1, 1, -2}, unsigned_values = {0, 1, 2, 3, 3, 0};
  for (int type : {kInt8, kInt4, kInt2}) {
    const auto program = lowered(gemm_model(type, signed_values, 25)).program;
    EXPECT_EQ(weight_bits(program), 2);
    EXPECT_EQ(run(program, {0.5f, 1, -0.5f}), (std::vector<float>{0, 0.5f * 2 * (-1 + 2 + 2)})) << type;
  }
  for (int type : {kUint8, kUint4, kUint2}) {
    const auto program = lowered(gemm_model(type, unsigned_values, 25)).program;
    EXPECT_EQ(run(program, {0.5f, 1, -0.5f}), (std::vector<float>{0, 0.5f * 2 * (3 + 6)})) << type;
  }
}

TEST(ImportQdq, ReadsAsymmetricWeights) {
  Model m = gemm_model(kUint4, {0, 15, 5, 1, 0, 8});
  replace(m, "wz", [](pb::TensorProto& tensor) { tensor.set_raw_data(std::string(1, '\x85')); });  // 5 and 8
  const auto program = lowered(m).program;
  EXPECT_EQ(weight_bits(program), 5);
  EXPECT_EQ(run(program, {0.5f, 1, 1}), (std::vector<float>{0.125f * (-5 + 20), -7 - 16}));
}

TEST(ImportQdq, LeavesWeightsThatEightBitsDoNotHoldFloat) {
  Model m = gemm_model(kUint8, {0, 255, 5, 1, 0, 8});
  replace(m, "wz", [](pb::TensorProto& tensor) { tensor.set_raw_data("\x64\x64"); });
  const auto [program, float_layers] = lowered(m);
  ASSERT_EQ(float_layers.size(), 1u);
  EXPECT_EQ(float_layers[0].name, "y_node");
  EXPECT_NE(float_layers[0].reason.find("the integers -100 to 155"), std::string::npos)
      << float_layers[0].reason;
  EXPECT_EQ(run(program, {0.5f, 1, 0}), (std::vector<float>{0.25f * (-50 + 155), 2 * (-49.5f - 100)}));
}

TEST(ImportQdq, LeavesLayersWithoutQuantizersFloat) {
  Model no_input = gemm_model();
  no_input.proto.mutable_graph()->mutable_node(3)->set_input(0, "x");
  ASSERT_EQ(lowered(no_input).float_layers.size(), 1u);
  EXPECT_EQ(lowered(no_input).float_layers[0].reason, "its input has no quantizer");
  EXPECT_EQ(run(lowered(no_input).program, {1, 0, 0.1f})[0], 0.25f * -7 + 0.1f * 1.25f);
  Model no_weights = gemm_model();
  no_weights.ramp("f", {2, 3}).proto.mutable_graph()->mutable_node(3)->set_input(1, "f");
  ASSERT_EQ(lowered(no_weights).float_layers.size(), 1u);
  EXPECT_EQ(run(lowered(no_weights).program, {0.6f, 0, 0})[0], 0.25f);
}

TEST(ImportQdq, AddsFloatAndIntegerBiases) {
  Model m = gemm_model();
  m.floats("bs", {0.125f, 1.0f}, {2});
  m.integers("b", kInt32, {1000, -3}, {2});
  m.node("DequantizeLinear", {"b", "bs"}, {"bd"}).set("axis", 0);
  m.proto.mutable_graph()->mutable_node()->SwapElements(3, 4);
  m.proto.mutable_graph()->mutable_node(4)->add_input("bd");
  EXPECT_EQ(run(lowered(m).program, {0, 0, 0}), (std::vector<float>{125, -3}));
}

TEST(ImportQdq, FoldsQuantizersOfConstants) {
  Model m = gemm_model();
  m.floats("wf", {-1.75f, 0.7f, 1.3f, 1.0f, 1.1f, -300}, {2, 3});
  m.integers("wz8", kInt8, {0, 0}, {2});
  m.node("QuantizeLinear", {"wf", "ws", "wz8"}, {"w8"}).set("axis", 0);
  m.proto.mutable_graph()->mutable_node(2)->set_input(0, "w8");
  m.proto.mutable_graph()->mutable_node(2)->set_input(2, "wz8");
  m.proto.mutable_graph()->mutable_node()->SwapElements(2, 4);
  m.proto.mutable_graph()->mutable_node()->SwapElements(3, 4);
  // -7 3 5, and 0.5 rounds to 0, 0.55 to 1, -150 saturates.
  EXPECT_EQ(run(lowered(m).program, {0.5f, 0.5f, 0.5f}), (std::vector<float>{0.125f, 1 - 128}));
}

TEST(ImportQdq, TakesClipsForOddWidths) {
  for (bool on_integers : {false, true}) {
    Model m({0, 3}, 13);
    m.floats("s", {0.5f}, {}).floats("low", {-1}, {}).floats("high", {2.5f}, {}).ramp("w", {2, 3});
    m.integers("z", kUint8, {2}, {});
    m.integers("ilow", kUint8, {0}, {});
    m.integers("ihigh", kUint8, {7}, {});
    if (!on_integers) m.node("Clip", {"x", "low", "high"}, {"c"});
    m.node("QuantizeLinear", {on_integers ? "x" : "c", "s", "z"}, {"q"});
    if (on_integers) m.node("Clip", {"q", "ilow", "ihigh"}, {"qc"});
    m.node("DequantizeLinear", {on_integers ? "qc" : "q", "s", "z"}, {"y"});
    const auto program = lowered(m).program;
    EXPECT_EQ(program.tensors[1].code, (quant::CodeType{3, -2, 0.5f}));
    EXPECT_TRUE(program.ops[0].steps.empty());
    EXPECT_EQ(run(program, {-9, 1.2f, 9}), (std::vector<float>{-1, 1, 2.5f}));
  }
}

TEST(ImportQdq, KeepsCodesThatNoWidthHasExactly) {
  Model m({0, 3}, 13);
  m.floats("s", {0.5f}, {});
  m.integers("z", kInt8, {0}, {});
  m.integers("low", kInt8, {-3}, {});
  m.integers("high", kInt8, {2}, {});
  m.node("QuantizeLinear", {"x", "s", "z"}, {"q"});
  m.node("Clip", {"q", "low", "high"}, {"c"});
  m.node("DequantizeLinear", {"c", "s", "z"}, {"y"});
  const auto program = lowered(m).program;
  EXPECT_EQ(program.tensors[1].code, (quant::CodeType{3, -3, 0.5f}));
  EXPECT_EQ(run(program, {-9, 0.75f, 9}), (std::vector<float>{-1.5f, 1, 1}));  // 1.5 rounds to 2
}

TEST(ImportQdq, NeedsNoCodesThatAReluNeverYields) {
  Model m({0, 2, 4, 4}, 13);
  m.floats("s", {0.25f}, {});
  m.integers("z", kInt8, {0}, {});
  m.node("Relu", {"x"}, {"r"});
  m.node("MaxPool", {"r"}, {"p"}).set("kernel_shape", {2, 2}).set("strides", {2, 2});
  m.node("QuantizeLinear", {"p", "s", "z"}, {"q"});
  m.node("DequantizeLinear", {"q", "s", "z"}, {"d"});
  m.node("QuantizeLinear", {"d", "s", "z"}, {"again"});
  m.node("DequantizeLinear", {"again", "s", "z"}, {"y"});
  EXPECT_EQ(m.nodes(kQuantized).find("quantize"), m.nodes(kQuantized).rfind("quantize"));
  const auto program = lowered(m).program;
  EXPECT_EQ(program.tensors[1].code, (quant::CodeType{7, 0, 0.25f}));
}

TEST(ImportQdq, AddsAndConcatenatesQuantizedEdges) {
  Model m({0, 3}, 13);
  m.floats("s", {0.5f}, {}).floats("t", {0.125f}, {});
  m.integers("z", kInt8, {0}, {});
  for (const std::string scale : {"s", "t"}) {
    m.node("QuantizeLinear", {"x", scale, "z"}, {"q" + scale});
    m.node("DequantizeLinear", {"q" + scale, scale, "z"}, {"d" + scale});
  }
  m.node("Add", {"ds", "dt"}, {"sum"});
  m.node("Concat", {"sum", "ds"}, {"both"}).set("axis", 1);
  m.node("QuantizeLinear", {"both", "s", "z"}, {"qb"});
  m.node("DequantizeLinear", {"qb", "s", "z"}, {"y"});
  // 0.3 is 0.5 and 0.25, in the sum 0.75, a tie that goes to the even 1.0.
  EXPECT_EQ(run(lowered(m).program, {0.3f, -0.3f, 1}), (std::vector<float>{1, -1, 2, 0.5f, -0.5f, 1}));
}

TEST(ImportQdq, NeedsTheOption) {
  expect_error(ErrorCode::kUnsupported, {"test.onnx: the network is quantized already", "bitstrata compile"},
               [] { gemm_model().import(); });
}

TEST(ImportQdq, RefusesBadScales) {
  for (float scale : {0.0f, -0.5f, kNan, std::numeric_limits<float>::infinity()}) {
    Model m = gemm_model();
    set_floats(m, "s", {scale});
    expect_refused(m, ErrorCode::kBadInput, {"'q_node' (QuantizeLinear)", "scale"});
    m = gemm_model();
    set_floats(m, "ws", {0.5f, scale});
    expect_refused(m, ErrorCode::kBadInput, {"'wd_node' (DequantizeLinear)", "scale"});
  }
  Model m = gemm_model();
  set_floats(m, "s", {1e-42f});
  expect_refused(m, ErrorCode::kBadInput, {"reciprocal"});
  m = gemm_model();
  set_floats(m, "s", {0.5f, 0.25f, 0.5f});
  expect_refused(m, ErrorCode::kBadInput, {"3 scales and 1 zero points"});
  m = gemm_model();
  set_floats(m, "ws", {});
  expect_refused(m, ErrorCode::kBadInput, {"scale of dims [0]"});
}

TEST(ImportQdq, RefusesScalesThatAreNoConstants) {
  Model m = gemm_model();
  m.proto.mutable_graph()->mutable_node(0)->set_input(1, "x");
  expect_refused(m, ErrorCode::kUnsupported, {"input 1 ('x') depends on the network's input"});
  m = gemm_model();
  m.proto.mutable_graph()->mutable_node(0)->mutable_input()->RemoveLast();
  m.proto.mutable_graph()->mutable_node(0)->mutable_input()->RemoveLast();
  expect_refused(m, ErrorCode::kBadInput, {"'q_node' (QuantizeLinear): input 1 is missing"});
}

TEST(ImportQdq, RefusesChannelsThatDoNotFit) {
  for (const auto& [axis, message] :
       {std::pair(2, "axis 2 of a tensor of 2 dims"), std::pair(1, "2 scales for axis 1 of 3 elements")}) {
    Model m = gemm_model();
    m.proto.mutable_graph()->mutable_node(2)->mutable_attribute(0)->set_i(axis);
    expect_refused(m, ErrorCode::kBadInput, {"wd_node", message});
  }
  Model m = gemm_model();
  set_floats(m, "s", {0.5f, 0.25f, 0.5f});
  replace(m, "z", [](pb::TensorProto& tensor) {
    tensor.set_raw_data(std::string(3, '\0'));
    tensor.add_dims(3);
  });
  expect_refused(m, ErrorCode::kUnsupported, {"3 scales for the channels of an activation"});
  m = gemm_model();
  m.proto.mutable_graph()->mutable_node(2)->add_attribute()->set_name("block_size");
  m.proto.mutable_graph()->mutable_node(2)->mutable_attribute(1)->set_i(2);
  expect_refused(m, ErrorCode::kUnsupported, {"block_size 2"});
}

TEST(ImportQdq, RefusesWhatDoesNotPair) {
  Model m = gemm_model();
  m.floats("t", {0.75f}, {}).proto.mutable_graph()->mutable_node(1)->set_input(1, "t");
  expect_refused(m, ErrorCode::kUnsupported, {"scale 0.75 and zero point 3", "0.5 and 3"});
  m = gemm_model();
  m.proto.mutable_graph()->mutable_node(1)->set_input(0, "x");
  expect_refused(m, ErrorCode::kUnsupported, {"of 'x', supported are constants and what a QuantizeLinear"});
  m = gemm_model();
  m.proto.mutable_graph()->mutable_node(3)->set_input(0, "q");
  expect_refused(m, ErrorCode::kUnsupported, {"'q'", "integers of a QuantizeLinear"});
  m = gemm_model();
  m.proto.mutable_graph()->mutable_output(0)->set_name("q");
  expect_refused(m, ErrorCode::kUnsupported, {"output 'q' holds integers"});
}

TEST(ImportQdq, RefusesWideActivations) {
  Model m = gemm_model();
  constexpr int kUint16 = 4;
  replace(m, "z", [](pb::TensorProto& tensor) {
    tensor.set_data_type(kUint16);
    tensor.set_raw_data(std::string(2, '\0'));
  });
  expect_refused(m, ErrorCode::kUnsupported, {"65536 codes of an activation"});
  m = gemm_model();
  replace(m, "z", [](pb::TensorProto& tensor) {
    tensor.set_data_type(pb::TensorProto::FLOAT);
    tensor.set_raw_data(std::string(4, '\0'));
  });
  expect_refused(m, ErrorCode::kUnsupported, {"zero point of type FLOAT"});
}

TEST(ImportQdq, RefusesTruncatedIntegers) {
  Model m = gemm_model(kInt4, {-7, 3, 5, 1, 0, -8});
  replace(m, "w", [](pb::TensorProto& tensor) { tensor.set_raw_data("ab"); });
  expect_refused(m, ErrorCode::kCorruptFile, {"2 bytes of data, expected 3"});
}

}  // namespace
}  // namespace bitstrata::onnx::testing
