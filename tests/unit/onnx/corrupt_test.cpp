#include <gtest/gtest.h>

#include "compile/lower.h"
#include "model.h"

namespace bitstrata::onnx::testing {
namespace {

/// A small network that touches most of the importer.
std::string small_model() {
  Model m({0, 2, 6, 6});
  m.ramp("w", {3, 2, 3, 3})
      .ramp("b", {3})
      .ramp("g", {3})
      .ramp("fc", {4, 3})
      .ints("zero", {0})
      .ints("minus", {-1});
  m.ints("pads", {0, 0, 1, 1, 0, 0, 1, 1});
  m.node("Pad", {"x", "pads"}, {"p"});
  m.node("Conv", {"p", "w", "b"}, {"c"}).set("kernel_shape", {3, 3}).set("strides", {2, 2});
  m.node("BatchNormalization", {"c", "g", "g", "g", "g"}, {"n"});
  m.node("Relu", {"n"}, {"r"});
  m.node("MaxPool", {"r"}, {"m"}).set("kernel_shape", {2, 2}).set("ceil_mode", 1);
  m.node("GlobalAveragePool", {"m"}, {"a"});
  m.node("Shape", {"a"}, {"shape"});
  m.node("Gather", {"shape", "zero"}, {"batch"});
  m.node("Concat", {"batch", "minus"}, {"target"}).set("axis", 0);
  m.node("Reshape", {"a", "target"}, {"f"});
  m.node("Gemm", {"f", "fc"}).set("transB", 1);
  return m.bytes();
}

/// A quantized one: QuantizeLinear, operators on integers, movement of integers, a table, Quant.
std::string quantized_model() {
  Model m({0, 2, 4, 4});
  m.floats("s", {0.5f}, {}).floats("ws", {0.25f, 2.0f}, {2}).floats("bits", {4}, {}).floats("zero", {0}, {});
  m.integers("z", kUint8, {3}, {}).integers("wz", kInt8, {0, 0}, {2});
  m.integers("w", kInt8, {-7, 3, 5, 1}, {2, 2, 1, 1}).integers("b", kInt32, {17, -5}, {2});
  m.ints("shape", {0, 8}).ramp("table", {256}).floats("lowest", {-3}, {});
  m.node("QuantizeLinear", {"x", "s", "z"}, {"q"});
  m.node("MaxPool", {"q"}, {"p"}).set("kernel_shape", {2, 2}).set("strides", {2, 2});
  m.node("QLinearConv", {"p", "s", "z", "w", "ws", "wz", "s", "z", "b"}, {"c"});
  m.node("QLinearAdd", {"c", "s", "z", "p", "s", "z", "s", "z"}, {"a"}).domain("com.microsoft");
  m.node("Concat", {"a", "a"}, {"t"}).set("axis", 2);
  m.node("DequantizeLinear", {"t", "s", "z"}, {"d"});
  m.node("Div", {"d", "s"}, {"steps"});
  m.node("Round", {"steps"}, {"rounded"});
  m.node("Sub", {"rounded", "lowest"}, {"code"});
  m.node("Cast", {"code"}, {"index"}).set("to", 7);
  m.node("Gather", {"table", "index"}, {"f"});
  m.node("Quant", {"f", "s", "zero", "bits"}).domain("qonnx.custom_op.general").set("signed", 1);
  return m.bytes();
}

/// Imports, and compiles networks that are quantized; any bitstrata::Error is fine, anything else fails the
/// test. Returns whether it succeeded.
bool import_survives(const std::string& bytes) {
  try {
    const graph::Graph graph = import_bytes({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()},
                                            "corrupt", Options{{}, true});
    graph::verify(graph);
    if (graph::has_quantizers(graph)) compile::lower_quantized(graph);
    return true;
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    EXPECT_NE(error.code(), ErrorCode::kInternal) << error.what();
    return false;
  }
}

TEST(Corrupt, TheModelItselfImports) {
  EXPECT_TRUE(import_survives(small_model()));
  EXPECT_TRUE(import_survives(quantized_model()));
}

TEST(Corrupt, EveryPrefixIsAnError) {
  for (const std::string& bytes : {small_model(), quantized_model()}) {
    // The opset comes last: cut before it and nothing says how to read the graph.
    for (size_t n = 0; n < bytes.size(); ++n)
      EXPECT_FALSE(import_survives(bytes.substr(0, n))) << n << " bytes";
  }
}

TEST(Corrupt, EveryFlippedByteIsSurvived) {
  for (const std::string& bytes : {small_model(), quantized_model()}) {
    for (size_t i = 0; i < bytes.size(); ++i) {
      for (int mask : {0x01, 0x80, 0xff, 0x55}) {
        std::string flipped = bytes;
        flipped[i] = static_cast<char>(flipped[i] ^ mask);
        import_survives(flipped);
      }
    }
  }
}

TEST(Corrupt, DeepNestingIsAnError) {
  // Attribute 'graph' in node in graph in attribute, a thousand deep.
  std::string inner;
  for (int i = 0; i < 1000; ++i) {
    pb::GraphProto graph;
    pb::NodeProto node;
    std::string attribute;
    attribute += '\x32';  // AttributeProto.g, length-delimited
    std::string length;
    for (size_t n = inner.size();; n >>= 7) {
      length += static_cast<char>((n & 0x7f) | (n > 0x7f ? 0x80 : 0));
      if (n <= 0x7f) break;
    }
    attribute += length + inner;
    const auto wrap = [](char tag, const std::string& body) {
      std::string text(1, tag);
      for (size_t n = body.size();; n >>= 7) {
        text += static_cast<char>((n & 0x7f) | (n > 0x7f ? 0x80 : 0));
        if (n <= 0x7f) break;
      }
      return text + body;
    };
    inner = wrap('\x0a', wrap('\x2a', attribute));  // GraphProto.node, NodeProto.attribute
  }
  EXPECT_FALSE(import_survives("\x3a" + inner));
}

TEST(Corrupt, HugeClaimsAllocateNothing) {
  Model m({0, 4});
  auto& tensor = *m.proto.mutable_graph()->add_initializer();
  tensor.set_name("w");
  tensor.set_data_type(pb::TensorProto::FLOAT);
  tensor.add_dims(4);
  tensor.add_dims(int64_t{1} << 28);
  tensor.set_raw_data("1234");
  m.node("MatMul", {"x", "w"});
  expect_error(ErrorCode::kUnsupported, {"'w'", "far more memory than its size"}, [&] { m.import(); });
}

TEST(Corrupt, OneWeightReadByManyNodesRunsOutOfBudget) {
  Model m({0, 1024});
  m.ramp("w", {1024, 1024});
  std::string x = "x";
  for (int i = 0; i < 60; ++i) {
    const std::string y = i == 59 ? "y" : fmt::format("v{}", i);
    m.node("MatMul", {x, "w"}, {y});
    x = y;
  }
  expect_error(ErrorCode::kUnsupported, {"far more memory than its size"}, [&] { m.import(); });
}

}  // namespace
}  // namespace bitstrata::onnx::testing
