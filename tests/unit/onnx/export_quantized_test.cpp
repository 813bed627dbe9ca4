#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>

#include "core/file.h"
#include "core/random.h"
#include "model.h"
#include "onnx/export_qdq.h"
#include "onnx/export_qonnx.h"
#include "quant/policy.h"
#include "tests/support/program_builder.h"

/// What the exported files hold; tests/onnx runs them on ONNX Runtime.
namespace bitstrata::onnx::testing {
namespace {

namespace fs = std::filesystem;
using bitstrata::testing::clip;
using bitstrata::testing::code_weights;
using bitstrata::testing::ProgramBuilder;
using program::Program;
using quant::IntegerGrid;
using quant::Policy;

constexpr int kChannels = 6, kTaps = 2 * 9;
constexpr int kUint8 = 2, kInt8 = 3, kInt4 = 22, kInt2 = 26;

/// One convolution of codes; multipliers are positive, negative and zero.
Program conv_program(int bits, IntegerGrid grid, int activation_bits = 4) {
  ProgramBuilder builder;
  const quant::CodeType pixels{activation_bits, 0, 0.3f},
      hidden{activation_bits, -(1 << activation_bits) / 2, 0.17f};
  const auto codes = builder.add(program::Elementwise{}, {builder.input({2, 5, 5})}, {2, 5, 5}, pixels);
  program::Conv conv;
  conv.oc = kChannels;
  conv.window.kernel_h = conv.window.kernel_w = 3;
  std::vector<uint8_t> weights(kChannels * kTaps);
  Random random(3, static_cast<uint64_t>(bits));
  const bool has_spare_code = grid.mul == 1 && grid.offset != -(1 << (bits - 1));
  for (uint8_t& u : weights) u = static_cast<uint8_t>(random.below((uint64_t{1} << bits) - has_spare_code));
  weights[kTaps] = 0;  // the lowest code in a channel of negative multiplier
  conv.weights = code_weights(bits, grid, weights);
  conv.mul = {0.01f, -0.02f, 0.03f, 0.0f, -0.05f, 0.06f};
  conv.add = {0.1f, 0, 0, 0.2f, 0, 0};
  const auto y = builder.add(conv, {codes}, {kChannels, 3, 3}, hidden, {clip(0, 1.5f)});
  Program program = builder.build({builder.add(program::ReduceMean{{1, 2}, false}, {y}, {kChannels})});
  program.mean = {0.5f, 0.5f};
  program.std = {0.25f, 0.5f};
  program.metadata["policy"] = "lsq";
  return program;
}

class ExportQuantized : public ::testing::Test {
 protected:
  ExportQuantized()
      : path_(fs::path(::testing::TempDir()) / fmt::format("bitstrata_quantized_{}.onnx", ::getpid())) {}
  ~ExportQuantized() override { fs::remove(path_); }

  pb::ModelProto parsed() const {
    pb::ModelProto model;
    const auto bytes = read_file(path_, uint64_t{1} << 30);
    EXPECT_TRUE(model.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
    return model;
  }
  pb::ModelProto qdq(const Program& program, int opset = kQdqDefaultOpset) const {
    const ExportSummary summary = export_qdq(program, path_, opset);
    EXPECT_EQ(summary.bytes, fs::file_size(path_));
    return parsed();
  }
  pb::ModelProto qonnx(const Program& program) const {
    export_qonnx(program, path_);
    return parsed();
  }

  fs::path path_;
};

const pb::TensorProto& initialiser(const pb::ModelProto& model, const std::string& name) {
  for (const auto& tensor : model.graph().initializer()) {
    if (tensor.name() == name) return tensor;
  }
  throw std::runtime_error("no initialiser " + name);
}

const pb::NodeProto* producer(const pb::ModelProto& model, const std::string& value) {
  for (const auto& node : model.graph().node()) {
    if (node.output(0) == value) return &node;
  }
  return nullptr;
}

const pb::NodeProto& only(const pb::ModelProto& model, const std::string& op) {
  for (const auto& node : model.graph().node()) {
    if (node.op_type() == op) return node;
  }
  throw std::runtime_error("no node " + op);
}

int64_t integer(const pb::NodeProto& node, const std::string& name) {
  for (const auto& attribute : node.attribute()) {
    if (attribute.name() == name) return attribute.i();
  }
  throw std::runtime_error("no attribute " + name);
}

std::vector<float> floats(const pb::TensorProto& tensor) {
  std::vector<float> values(tensor.raw_data().size() / sizeof(float));
  std::memcpy(values.data(), tensor.raw_data().data(), tensor.raw_data().size());
  return values;
}

/// Elements by the packing of ONNX: the first in the lowest bits.
std::vector<int> integers(const pb::TensorProto& tensor) {
  const int type = tensor.data_type(), bits = type == kInt2 ? 2 : type == kInt4 ? 4 : 8;
  std::vector<int> values;
  for (char byte : tensor.raw_data()) {
    for (int shift = 0; shift < 8; shift += bits) {
      const int field = (static_cast<uint8_t>(byte) >> shift) & ((1 << bits) - 1);
      values.push_back(type != kUint8 && field >= 1 << (bits - 1) ? field - (1 << bits) : field);
    }
  }
  return values;
}

/// scale * (q - zero point), or with half a step added, as the nodes in front of the layer compute it.
std::vector<double> real_weights(const pb::ModelProto& model, const std::string& value) {
  const pb::NodeProto& node = *producer(model, value);
  if (node.op_type() == "Add") {
    std::vector<double> weights = real_weights(model, node.input(0));
    const auto steps = floats(initialiser(model, node.input(1)));
    for (size_t i = 0; i < weights.size(); ++i) weights[i] += steps[i / kTaps];
    return weights;
  }
  EXPECT_EQ(node.op_type(), "DequantizeLinear");
  EXPECT_EQ(integer(node, "axis"), 0);
  const auto q = integers(initialiser(model, node.input(0))),
             zeros = integers(initialiser(model, node.input(2)));
  const auto scales = floats(initialiser(model, node.input(1)));
  std::vector<double> weights;
  for (size_t i = 0; i < static_cast<size_t>(kChannels * kTaps); ++i)
    weights.push_back(double{scales[i / kTaps]} * (q[i] - zeros[i / kTaps]));
  return weights;
}

/// Multiplier behind the layer, 1 without one.
std::vector<float> gains(const pb::ModelProto& model) {
  for (const auto& node : model.graph().node()) {
    if (node.name() == "conv1/gain") return floats(initialiser(model, node.input(1)));
  }
  return std::vector<float>(kChannels, 1.0f);
}

/// Input scale * weight * gain must be the multiplier * integer of the program.
void expect_weights(const Program& program, const std::vector<double>& weights,
                    const std::vector<float>& gain) {
  const auto& conv = std::get<program::Conv>(program.ops[1].kind);
  const auto& packed = std::get<program::CodeWeights>(conv.weights);
  const auto codes = quant::unpack_codes(packed.packed, kChannels * kTaps, packed.bits);
  const double input_scale = program.tensors[static_cast<size_t>(program.ops[1].inputs[0])].code->scale;
  for (size_t i = 0; i < codes.size(); ++i) {
    const double expected = double{conv.mul[i / kTaps]} * packed.grid.at(codes[i]);
    EXPECT_NEAR(input_scale * weights[i] * gain[i / kTaps], expected, 1e-6 * std::fabs(expected))
        << "weight " << i;
  }
}

int weight_type(const pb::ModelProto& model) {
  for (const auto& tensor : model.graph().initializer()) {
    if (tensor.name().starts_with("conv1.weight") && tensor.name().ends_with(".codes"))
      return tensor.data_type();
  }
  return 0;
}

TEST_F(ExportQuantized, QdqHoldsTheWeightsOfEveryPolicyAndWidth) {
  for (Policy policy : quant::kAllPolicies) {
    for (int bits = 1; bits <= 8; ++bits) {
      for (int opset : {13, 21, 25}) {
        SCOPED_TRACE(fmt::format("{} {} bits, opset {}", quant::to_string(policy), bits, opset));
        const Program program = conv_program(bits, quant::grid_of(policy, bits));
        const auto model = qdq(program, opset);
        expect_weights(program, real_weights(model, only(model, "Conv").input(1)), gains(model));
        for (float scale : floats(initialiser(model, only(model, "DequantizeLinear").input(1))))
          EXPECT_GT(scale, 0);
      }
    }
  }
}

TEST_F(ExportQuantized, QdqStoresWeightsInTheNarrowestType) {
  const auto type = [&](int bits, Policy policy, int opset) {
    return weight_type(qdq(conv_program(bits, quant::grid_of(policy, bits)), opset));
  };
  for (int bits = 1; bits <= 8; ++bits) {
    EXPECT_EQ(type(bits, Policy::kLsq, 13), kInt8) << bits;
    EXPECT_EQ(type(bits, Policy::kLsq, 21), bits <= 4 ? kInt4 : kInt8) << bits;
    EXPECT_EQ(type(bits, Policy::kLsq, 25), bits <= 2 ? kInt2 : bits <= 4 ? kInt4 : kInt8) << bits;
    EXPECT_EQ(type(bits, Policy::kSawb, 21), bits <= 3 ? kInt4 : kInt8) << bits;
  }
  // The code that WRPN's quantization never yields, +128 at 8 bits, is kept all the same.
  Program spare = conv_program(8, quant::grid_of(Policy::kWrpn, 8));
  auto& conv = std::get<program::Conv>(spare.ops[1].kind);
  std::get<program::CodeWeights>(conv.weights).packed.back() = 255;
  const auto model = qdq(spare);
  EXPECT_EQ(weight_type(model), kUint8);
  expect_weights(spare, real_weights(model, only(model, "Conv").input(1)), gains(model));
}

TEST_F(ExportQuantized, QdqRoundsActivationsToTheProgramsCodes) {
  for (int bits = 1; bits <= 8; ++bits) {
    SCOPED_TRACE(bits);
    const Program program = conv_program(4, quant::grid_of(Policy::kLsq, 4), bits);
    const auto model = qdq(program);
    int rounded = 0, clipped = 0;
    for (const auto& node : model.graph().node()) {
      if (node.op_type() != "QuantizeLinear") continue;
      const auto& output =
          *program.tensors[static_cast<size_t>(program.ops[static_cast<size_t>(rounded)].outputs[0])].code;
      EXPECT_EQ(floats(initialiser(model, node.input(1)))[0], output.scale);
      EXPECT_EQ(integers(initialiser(model, node.input(2)))[0], -output.zero);
      const pb::NodeProto* before = producer(model, node.input(0));
      if (before != nullptr && before->name().ends_with("/clip") && bits < 8) {
        EXPECT_EQ(floats(initialiser(model, before->input(1)))[0], quant::dequantize(0, output));
        EXPECT_EQ(floats(initialiser(model, before->input(2)))[0],
                  quant::dequantize(static_cast<uint8_t>(output.max_code()), output));
        ++clipped;
      }
      ++rounded;
    }
    EXPECT_EQ(rounded, 2);
    EXPECT_EQ(clipped, bits < 8 ? 2 : 0);
    // Both inputs of the layer come out of DequantizeLinear.
    for (int i : {0, 1})
      EXPECT_EQ(producer(model, only(model, "Conv").input(i))->op_type(), "DequantizeLinear");
  }
}

TEST_F(ExportQuantized, QdqShrinksWithTheBits) {
  ProgramBuilder builder;
  const auto codes =
      builder.add(program::Elementwise{}, {builder.input({512})}, {512}, quant::CodeType{8, 0, 0.1f});
  program::Linear linear;
  linear.out = 256;
  linear.mul.assign(256, 0.01f);
  linear.add.assign(256, 0.0f);
  const auto bytes = [&](int bits, int opset) {
    ProgramBuilder copy = builder;
    linear.weights = code_weights(bits, {1, -(1 << (bits - 1))}, std::vector<uint8_t>(512 * 256));
    const Program program = copy.build({copy.add(linear, {codes}, {256})});
    return static_cast<double>(export_qdq(program, path_, opset).bytes);
  };
  EXPECT_NEAR(bytes(8, 21), 512 * 256, 5000);
  EXPECT_NEAR(bytes(4, 21), 512 * 256 / 2.0, 5000);
  EXPECT_NEAR(bytes(2, 25), 512 * 256 / 4.0, 5000);
}

TEST_F(ExportQuantized, HeaderNamesOpsetAndMetadata) {
  const Program program = conv_program(3, {1, -4});
  for (const auto& [opset, ir] :
       std::map<int, int>{{13, 7}, {17, 8}, {19, 9}, {21, 10}, {23, 11}, {25, 13}}) {
    const auto model = qdq(program, opset);
    EXPECT_EQ(model.opset_import(0).version(), opset);
    EXPECT_EQ(model.ir_version(), ir);
    std::map<std::string, std::string> metadata;
    for (const auto& entry : model.metadata_props()) metadata[entry.key()] = entry.value();
    EXPECT_EQ(metadata["policy"], "lsq");
    EXPECT_EQ(metadata["bitstrata.mean"], "[0.5,0.5]");
    EXPECT_EQ(metadata["bitstrata.bits"], R"({"t1":4,"t2":4})");
    EXPECT_EQ(model.graph().input(0).name(), "t0");
    EXPECT_EQ(model.graph().output(0).name(), "t3");
  }
}

TEST_F(ExportQuantized, QonnxHoldsTheWeightsOfEveryPolicyAndWidth) {
  for (Policy policy : quant::kAllPolicies) {
    for (int bits = 1; bits <= 8; ++bits) {
      SCOPED_TRACE(fmt::format("{} {} bits", quant::to_string(policy), bits));
      const IntegerGrid grid = quant::grid_of(policy, bits);
      const Program program = conv_program(bits, grid);
      const auto model = qonnx(program);
      const pb::NodeProto& node = *producer(model, only(model, "Conv").input(1));
      EXPECT_EQ(node.domain(), "qonnx.custom_op.general");
      EXPECT_EQ(node.op_type(), bits == 1 ? "BipolarQuant" : "Quant");
      const auto values = floats(initialiser(model, node.input(0))),
                 scales = floats(initialiser(model, node.input(1)));
      expect_weights(program, {values.begin(), values.end()}, gains(model));
      if (bits == 1) {
        for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(std::fabs(values[i]), scales[i / kTaps]);
        continue;
      }
      const int width = grid.mul == 2 ? bits + 1 : bits;
      EXPECT_EQ(floats(initialiser(model, node.input(2))), std::vector<float>{0});
      EXPECT_EQ(floats(initialiser(model, node.input(3))), std::vector<float>{static_cast<float>(width)});
      EXPECT_EQ(integer(node, "signed"), 1);
      EXPECT_EQ(integer(node, "narrow"), policy != Policy::kLsq);
      const int lowest = -(1 << (width - 1)) + (policy != Policy::kLsq), highest = (1 << (width - 1)) - 1;
      for (size_t i = 0; i < values.size(); ++i) {
        const float q = std::nearbyint(values[i] / scales[i / kTaps]);
        EXPECT_TRUE(lowest <= q && q <= highest) << q;
        EXPECT_EQ(q * scales[i / kTaps], values[i]);
      }
    }
  }
}

TEST_F(ExportQuantized, QonnxImportsItsDomainAndDescribesActivations) {
  const auto model = qonnx(conv_program(4, {1, -8}, 3));
  ASSERT_EQ(model.opset_import_size(), 2);
  EXPECT_EQ(model.opset_import(1).domain(), "qonnx.custom_op.general");
  const auto activation = [&](const char* name) { return *producer(model, name); };
  const auto unsigned_code = activation("t1"), signed_code = activation("t2");
  EXPECT_EQ(integer(unsigned_code, "signed"), 0);
  EXPECT_EQ(integer(signed_code, "signed"), 1);
  for (const auto& node : {unsigned_code, signed_code}) {
    EXPECT_EQ(floats(initialiser(model, node.input(2)))[0], 0);
    EXPECT_EQ(floats(initialiser(model, node.input(3)))[0], 3);
  }
}

TEST_F(ExportQuantized, RefusesWhatOnnxDoesNotHave) {
  const Program program = conv_program(4, {1, -8});
  for (int opset : {12, 26}) {
    const std::string found = fmt::format("found opset {}", opset);
    expect_error(ErrorCode::kInvalidArgument, {found, "13 to 25"},
                 [&] { export_qdq(program, path_, opset); });
    expect_error(ErrorCode::kInvalidArgument, {found, "13 to 25"},
                 [&] { export_qonnx(program, path_, opset); });
  }
  ProgramBuilder builder;
  program::AveragePool pool;
  pool.window.kernel_h = pool.window.kernel_w = pool.window.dilation_h = 2;
  const Program dilated = builder.build({builder.add(pool, {builder.input({1, 6, 6})}, {1, 4, 5})});
  expect_error(ErrorCode::kUnsupported, {"'average-pool0' (average-pool)", "dilated average pooling"},
               [&] { export_qdq(dilated, path_); });
  ProgramBuilder joined;
  const auto x = joined.input({2});
  const Program constant =
      joined.build({joined.add(program::Concat{0}, {x, joined.constant({1}, {1})}, {3})});
  expect_error(ErrorCode::kUnsupported, {"concat0", "constant"}, [&] { export_qonnx(constant, path_); });
  EXPECT_FALSE(fs::exists(path_));
}

}  // namespace
}  // namespace bitstrata::onnx::testing
