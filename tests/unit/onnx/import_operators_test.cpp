#include <gtest/gtest.h>

#include "compile/lower.h"
#include "model.h"
#include "program/reference.h"

/// Import of operators on integers: each is the same as the float operator between DequantizeLinear and
/// QuantizeLinear.
namespace bitstrata::onnx::testing {
namespace {

const Options kQuantized{{}, true};

/// Scales and zero points that all models here share; "x" is quantized to "q", uint8 of zero point 3.
Model quantized_input(std::vector<int64_t> dims, int opset = 13) {
  Model m(std::move(dims), opset);
  auto& domain = *m.proto.add_opset_import();
  domain.set_domain("com.microsoft");
  domain.set_version(1);
  m.floats("s", {0.5f}, {})
      .floats("t", {0.75f}, {})
      .floats("ws", {0.25f, 2.0f}, {2})
      .floats("us", {0.25f}, {});
  m.integers("z", kUint8, {3}, {}).integers("zt", kUint8, {120}, {});
  m.integers("wz", kInt8, {0, 0}, {2}).integers("uz", kInt8, {0}, {});
  m.node("QuantizeLinear", {"x", "s", "z"}, {"q"});
  return m;
}

void dequantize(Model& m, const std::string& codes, const std::string& y, const std::string& scale = "t",
                const std::string& zero = "zt", int axis = 0) {
  m.node("DequantizeLinear", {codes, scale, zero}, {y}).set("axis", axis);
}
void quantize(Model& m, const std::string& x, const std::string& codes) {
  m.node("QuantizeLinear", {x, "t", "zt"}, {codes});
}

std::vector<float> run(const Model& m, const std::vector<float>& x) {
  const program::Program program = compile::lower_quantized(m.import(kQuantized)).program;
  const auto tensors = program::run_reference(program, x);
  const auto id = static_cast<size_t>(program.outputs[0]);
  if (!program.tensors[id].code) return tensors.floats[id];
  std::vector<float> values;
  for (uint8_t v : tensors.codes[id]) values.push_back(quant::dequantize(v, *program.tensors[id].code));
  return values;
}

/// Both networks on the same input; the outputs differ from one another, so that something is compared.
void expect_same(const Model& operators, const Model& qdq, size_t elems) {
  std::vector<float> x;
  for (size_t i = 0; i < elems; ++i) x.push_back(static_cast<float>(i * 37 % 23) - 9.2f);
  const std::vector<float> found = run(operators, x), expected = run(qdq, x);
  EXPECT_EQ(found, expected);
  EXPECT_NE(expected, std::vector<float>(expected.size(), expected.at(0)));
}

TEST(ImportOperators, Convolution) {
  for (bool per_channel : {true, false}) {
    const char *ws = per_channel ? "ws" : "us", *wz = per_channel ? "wz" : "uz";
    Model a = quantized_input({0, 1, 3, 3}), b = a;
    for (Model* m : {&a, &b}) {
      m->integers("w", kInt8, {-7, 3, 5, 1, 0, -8, 100, -128}, {2, 1, 2, 2});
      m->integers("bias", kInt32, {17, -5}, {2}).floats("bs", {0.125f, per_channel ? 1.0f : 0.125f}, {2});
    }
    a.node("QLinearConv", {"q", "s", "z", "w", ws, wz, "t", "zt", "bias"}, {"c"}).set("strides", {1, 1});
    dequantize(b, "q", "d", "s", "z");
    dequantize(b, "w", "wd", ws, wz);
    b.node("DequantizeLinear", {"bias", "bs"}, {"bd"}).set("axis", 0);
    b.node("Conv", {"d", "wd", "bd"}, {"f"});
    quantize(b, "f", "c");
    for (Model* m : {&a, &b}) dequantize(*m, "c", "y");
    expect_same(a, b, 9);
    EXPECT_TRUE(compile::lower_quantized(a.import(kQuantized)).float_layers.empty());
  }
}

TEST(ImportOperators, LinearLayers) {
  for (const std::string op : {"QLinearMatMul", "QGemm", "QGemm transposed", "QGemm to floats"}) {
    SCOPED_TRACE(op);
    const bool is_gemm = op != "QLinearMatMul", transposed = op == "QGemm transposed";
    Model a = quantized_input({0, 3}), b = a;
    const std::vector<int64_t> dims = transposed ? std::vector<int64_t>{2, 3} : std::vector<int64_t>{3, 2};
    for (Model* m : {&a, &b}) {
      m->integers("w", kInt8, {-7, 3, 5, 1, 0, -8}, dims);
      m->integers("bias", kInt32, {17, -5}, {2}).floats("bs", {0.125f, 1.0f}, {2});
    }
    std::vector<std::string> inputs = {"q", "s", "z", "w", "ws", "wz"};
    if (is_gemm) inputs.push_back("bias");
    if (op != "QGemm to floats") inputs.insert(inputs.end(), {"t", "zt"});
    const std::string result = op == "QGemm to floats" ? "y" : "c";
    auto node = a.node(is_gemm ? "QGemm" : "QLinearMatMul", inputs, {result});
    if (is_gemm) node.domain("com.microsoft").set("transB", transposed);
    dequantize(b, "q", "d", "s", "z");
    dequantize(b, "w", "wd", "ws", "wz", transposed ? 0 : 1);
    b.node("DequantizeLinear", {"bias", "bs"}, {"bd"}).set("axis", 0);
    if (is_gemm)
      b.node("Gemm", {"d", "wd", "bd"}, {result == "y" ? "y" : "f"}).set("transB", transposed);
    else
      b.node("MatMul", {"d", "wd"}, {"f"});
    if (result == "c") {
      quantize(b, "f", "c");
      for (Model* m : {&a, &b}) dequantize(*m, "c", "y");
    }
    expect_same(a, b, 3);
  }
}

TEST(ImportOperators, ArithmeticOfOneAndTwoTensors) {
  for (const std::string op : {"Add", "Mul"}) {
    Model a = quantized_input({0, 5}), b = a;
    for (Model* m : {&a, &b}) quantize(*m, "x", "p");
    a.node(("QLinear" + op).c_str(), {"q", "s", "z", "p", "t", "zt", "t", "zt"}, {"c"})
        .domain("com.microsoft");
    dequantize(b, "q", "d", "s", "z");
    dequantize(b, "p", "e");
    b.node(op.c_str(), {"d", "e"}, {"f"});
    quantize(b, "f", "c");
    for (Model* m : {&a, &b}) dequantize(*m, "c", "y");
    expect_same(a, b, 5);
  }
  for (const std::string op : {"GlobalAveragePool", "AveragePool", "LeakyRelu", "Sigmoid"}) {
    SCOPED_TRACE(op);
    Model a = quantized_input({0, 3, 4, 4}), b = a;
    auto node = a.node(("QLinear" + op).c_str(), {"q", "s", "z", "t", "zt"}, {"c"}).domain("com.microsoft");
    if (op == "GlobalAveragePool") node.set("channels_last", 0);
    dequantize(b, "q", "d", "s", "z");
    auto twin = b.node(op.c_str(), {"d"}, {"f"});
    if (op == "AveragePool") {
      node.set("kernel_shape", {3, 3});
      twin.set("kernel_shape", {3, 3});
    }
    quantize(b, "f", "c");
    for (Model* m : {&a, &b}) dequantize(*m, "c", "y");
    expect_same(a, b, 48);
  }
}

TEST(ImportOperators, Softmax) {
  Model a = quantized_input({0, 5}), b = a;
  for (Model* m : {&a, &b}) m->floats("fine", {1.0f / 256}, {}).integers("z0", kUint8, {0}, {});
  a.node("QLinearSoftmax", {"q", "s", "z", "fine", "z0"}, {"c"}).domain("com.microsoft").set("opset", 13);
  dequantize(b, "q", "d", "s", "z");
  b.node("Softmax", {"d"}, {"f"});
  b.node("QuantizeLinear", {"f", "fine", "z0"}, {"c"});
  for (Model* m : {&a, &b}) dequantize(*m, "c", "y", "fine", "z0");
  expect_same(a, b, 5);
  a.proto.mutable_graph()->mutable_node(1)->mutable_attribute(0)->set_i(12);
  expect_error(ErrorCode::kUnsupported, {"'c_node' (QLinearSoftmax): opset 12 in a file of opset 13"},
               [&] { a.import(kQuantized); });
}

TEST(ImportOperators, Concatenation) {
  Model a = quantized_input({0, 2, 3}), b = a;
  for (Model* m : {&a, &b}) quantize(*m, "x", "p");
  a.node("QLinearConcat", {"t", "zt", "q", "s", "z", "p", "t", "zt"}, {"c"})
      .domain("com.microsoft")
      .set("axis", 1);
  dequantize(b, "q", "d", "s", "z");
  dequantize(b, "p", "e");
  b.node("Concat", {"d", "e"}, {"f"}).set("axis", 1);
  quantize(b, "f", "c");
  for (Model* m : {&a, &b}) dequantize(*m, "c", "y");
  expect_same(a, b, 6);
}

/// Integers that move between QuantizeLinear and DequantizeLinear keep what they stand for.
TEST(ImportOperators, DataMovementOfIntegers) {
  struct Move {
    const char* op;
    std::vector<std::string> arguments;
  };
  for (const auto& [op, arguments] : std::vector<Move>{{"MaxPool", {}},
                                                       {"Transpose", {}},
                                                       {"Reshape", {"shape"}},
                                                       {"Slice", {"one", "two", "one"}},
                                                       {"Pad", {"pads"}},
                                                       {"Pad", {"pads", "five"}},
                                                       {"Concat", {"q"}},
                                                       {"Split", {}}}) {
    SCOPED_TRACE(std::string(op) + (arguments.size() == 2 ? " with value" : ""));
    Model a = quantized_input({0, 2, 3, 4}), b = a;
    for (Model* m : {&a, &b}) {
      m->ints("shape", {0, 4, 6}).ints("one", {1}).ints("two", {2}).ints("pads", {0, 0, 0, 1, 0, 0, 0, 2});
      m->integers("five", kUint8, {5}, {}).floats("one_real", {1.0f}, {}).floats("minus", {-1.5f}, {});
    }
    const auto move = [&](Model& m, const std::string& x, std::vector<std::string> rest, const char* y) {
      if (std::string(op) == "Concat") rest = {x};
      // What pads integers: 0, or 5 here, less the zero point.
      const bool is_pad = std::string(op) == "Pad", on_floats = x == "d";
      if (is_pad && on_floats) rest = {"pads", arguments.size() == 2 ? "one_real" : "minus"};
      rest.insert(rest.begin(), x);
      auto node = m.node(op, rest, {y});
      if (std::string(op) == "MaxPool") node.set("kernel_shape", {2, 2}).set("pads", {1, 0, 0, 0});
      if (std::string(op) == "Transpose") node.set("perm", {0, 3, 1, 2});
      if (std::string(op) == "Concat") node.set("axis", 2);
      if (std::string(op) == "Split") {
        node.set("axis", 2);
        auto& proto = *m.proto.mutable_graph()->mutable_node(m.proto.graph().node_size() - 1);
        for (const char* suffix : {"1", "2"}) proto.add_output(y + std::string(suffix));
      }
    };
    move(a, "q", arguments, "moved");
    dequantize(a, std::string(op) == "Split" ? "moved1" : "moved", "y", "s", "z");
    dequantize(b, "q", "d", "s", "z");
    move(b, "d", arguments, "f");
    b.node("Identity", {std::string(op) == "Split" ? "f1" : "f"}, {"y"});
    expect_same(a, b, 24);
    // Nothing is rounded behind the movement.
    const std::string nodes = a.nodes(kQuantized);
    EXPECT_EQ(nodes.find("quantize(moved"), std::string::npos) << nodes;
  }
}

void expect_refused(const Model& m, ErrorCode code, const std::vector<std::string>& parts) {
  expect_error(code, parts, [&] { compile::lower_quantized(m.import(kQuantized)); });
}

TEST(ImportOperators, RefusesWhatIsMissing) {
  Model m = quantized_input({0, 5});
  m.node("QLinearAdd", {"q", "s", "z", "q", "s", "z", "t"}, {"y"}).domain("com.microsoft");
  expect_refused(m, ErrorCode::kUnsupported,
                 {"'y_node' (QLinearAdd): input 7, the zero point of the output"});
  m = quantized_input({0, 5});
  m.node("QLinearAdd", {"q", "s", "z"}, {"y"}).domain("com.microsoft");
  expect_refused(m, ErrorCode::kBadInput, {"'y_node' (QLinearAdd): input 3 is missing"});
  m = quantized_input({0, 5});
  m.node("QLinearAdd", {"q", "s", "z", "q", "s", "z", "t", "zt"}, {"y"});
  expect_refused(m, ErrorCode::kUnsupported, {"(QLinearAdd): operator is not supported"});
}

TEST(ImportOperators, RefusesWhatDoesNotFit) {
  Model m = quantized_input({0, 1, 3, 3});
  m.node("QLinearGlobalAveragePool", {"q", "s", "z", "t", "zt"}, {"y"})
      .domain("com.microsoft")
      .set("channels_last", 1);
  expect_refused(m, ErrorCode::kUnsupported, {"'y_node' (QLinearGlobalAveragePool): channels_last = 1"});
  m = quantized_input({0, 5});
  quantize(m, "x", "p");
  m.node("Concat", {"q", "p"}, {"y"}).set("axis", 1);
  expect_refused(m, ErrorCode::kUnsupported, {"'y_node' (Concat): integers of scales 0.5 and 0.75"});
  m = quantized_input({0, 3});
  m.integers("w", kInt8, {1, 2, 3, 4, 5, 6}, {3, 2}).integers("bias", kInt32, {1, 2}, {2});
  m.node("QGemm", {"q", "s", "z", "w", "ws", "wz", "bias"}, {"y"}).domain("com.microsoft").set("alpha", 2.0f);
  expect_refused(m, ErrorCode::kUnsupported, {"'y_node' (QGemm): alpha 2 with C"});
  m = quantized_input({0, 5});
  m.node("QLinearLeakyRelu", {"q", "us", "z", "t", "zt"}, {"y"}).domain("com.microsoft");
  expect_refused(m, ErrorCode::kUnsupported,
                 {"scale 0.25 and zero point 3, supported are those of its QuantizeLinear"});
}

TEST(ImportOperators, RefusesScalesChosenAsItRuns) {
  for (const char* op : {"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"}) {
    Model m({0, 5});
    m.node(op, {"x"}, {"y"});
    expect_refused(m, ErrorCode::kUnsupported,
                   {op, "takes its scale from each input", "quantize statically"});
  }
}

}  // namespace
}  // namespace bitstrata::onnx::testing
