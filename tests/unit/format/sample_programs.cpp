#include "tests/unit/format/sample_programs.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "core/random.h"
#include "tests/unit/format/program_builder.h"

namespace bitstrata::format {
namespace {

using program::Step;
using program::StepKind;
using program::TensorId;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<Step> relu() {
  return {step(StepKind::kClip, 0, kInfinity)};
}

/// Normal numbers by Box and Muller.
float normal(Random& random) {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - random.uniform()));
  return static_cast<float>(radius * std::cos(6.283185307179586 * random.uniform()));
}

void add_layers_of_every_width(ProgramBuilder& b, TensorId& x) {
  int64_t channels = 3;
  for (int bits = 1; bits <= 8; ++bits) {
    const int half = 1 << (bits - 1);
    const quant::IntegerGrid grids[] = {{2, 1 - 2 * half}, {1, -half}, {1, 1 - half}};
    const auto per_channel = static_cast<size_t>(channels) * 9;
    program::Conv conv;
    conv.window = {
        .kernel_h = 3, .kernel_w = 3, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1};
    conv.oc = 4;
    conv.weights = code_weights(bits, grids[bits % 3], 4 * per_channel, static_cast<unsigned>(bits));
    conv.mul = floats(4, 0.03125f, 0.001f * static_cast<float>(bits));
    conv.add = floats(4, -0.5f, 0.25f);
    channels = 4;
    x = b.op("conv" + std::to_string(bits), conv, {x}, {4, 8, 8},
             quant::CodeType{bits, bits % 2 ? 0 : -1, 0.1f * static_cast<float>(bits)}, relu());
  }
}

void add_every_step(ProgramBuilder& b, TensorId& x) {
  const auto offsets = b.constant("offsets", {4, 1, 1}, floats(4, 0.5f, 0.125f));
  std::vector<Step> steps = {binary_step(StepKind::kAdd, offsets), binary_step(StepKind::kSubtract, x),
                             binary_step(StepKind::kReverseSubtract, offsets),
                             binary_step(StepKind::kMultiply, offsets),
                             binary_step(StepKind::kDivide, offsets)};
  steps.push_back(step(StepKind::kAffine, 0, 0, floats(4, 1, 0.5f), {-0.0f}));
  steps.push_back(step(StepKind::kClip, -0.0f, 6));
  steps.push_back(step(StepKind::kLeakyRelu, 0.01f));
  steps.push_back(step(StepKind::kPRelu, 0, 0, {0.25f}));
  steps.push_back(step(StepKind::kHardSigmoid, 0.2f, 0.5f));
  steps.push_back(step(StepKind::kHardSwish));
  for (int f = 1; f <= static_cast<int>(program::Function::kPower); ++f) {
    const auto function = static_cast<program::Function>(f);
    steps.push_back(
        step(StepKind::kFunction, function == program::Function::kPower ? 2.0f : 0.0f, 0, {}, {}, function));
  }
  const auto code_copy = b.tensor("steps-codes", {4, 8, 8}, quant::CodeType{8, -128, 0.02f});
  x = b.op("steps", program::Elementwise{}, {x}, {4, 8, 8}, {}, steps);
  b.program.ops.back().outputs.push_back(code_copy);
  x = code_copy;
}

}  // namespace

program::Program tiny_program() {
  ProgramBuilder b;
  b.program.input = b.tensor("x", {4});
  const auto codes = b.op("q", program::Elementwise{}, {0}, {4}, quant::CodeType{4, -8, 0.5f});
  program::Linear fc{
      .out = 2, .weights = code_weights(3, {1, -4}, 8, 1), .mul = {0.5f, 0.25f}, .add = {1, -1}};
  b.program.outputs = {b.op("fc", fc, {codes}, {2})};
  return b.program;
}

program::Program every_kind_program() {
  ProgramBuilder b;
  b.program.input = b.tensor("Bild-\xc3\xa4\xe2\x82\xac", {3, 8, 8});
  TensorId x =
      b.op("quantize", program::Elementwise{}, {b.program.input}, {3, 8, 8}, quant::CodeType{8, -128, 0.02f});
  add_layers_of_every_width(b, x);
  add_every_step(b, x);
  const quant::CodeType type = *b.program.tensors[static_cast<size_t>(x)].code;
  x = b.op("max-pool",
           program::MaxPool{{.kernel_h = 2, .kernel_w = 3, .stride_h = 2, .stride_w = 2, .pad_right = 1}},
           {x}, {4, 4, 4}, type);
  const auto sliced = b.op("slice", program::Slice{.axis = 2, .start = 3, .step = -2}, {x}, {4, 4, 2}, type);
  const auto padded = b.op("pad", program::Pad{.before = {0, 0, 1}, .after = {0, 0, 1}, .value = -0.0f},
                           {sliced}, {4, 4, 4}, type);
  x = b.op("concat", program::Concat{.axis = 0}, {x, padded}, {8, 4, 4}, type);
  x = b.op("transpose", program::Transpose{{0, 2, 1}}, {x}, {8, 4, 4}, type);
  x = b.op("gather", program::Gather{.axis = 1, .indices = {3, 0, 0, 2}}, {x}, {8, 4, 4}, type);
  x = b.op("lookup", program::Lookup{floats(256, -1, 0.0078125f)}, {x}, {8, 4, 4},
           quant::CodeType{8, -127, 0.0078125f});
  x = b.op("average-pool",
           program::AveragePool{.window = {.kernel_h = 2, .kernel_w = 2}, .count_include_pad = true}, {x},
           {8, 3, 3});
  program::Conv depthwise;
  depthwise.window = {.kernel_h = 2, .kernel_w = 2, .dilation_h = 2, .dilation_w = 2};
  depthwise.groups = 8;
  depthwise.oc = 8;
  depthwise.weights = program::FloatWeights{floats(32, -0.25f, 0.0625f)};
  depthwise.add = floats(8, 0, 0.5f);
  x = b.op("float-conv", depthwise, {x}, {8, 1, 1});
  x = b.op("mean", program::ReduceMean{.axes = {1, 2}, .keep_dims = false}, {x}, {8});
  const auto row = b.op("row", program::Reshape{}, {x}, {1, 8});
  const auto matrix = b.constant("matrix \xe8\xa1\x8c\xe5\x88\x97", {8, 3}, floats(24, -1, 0.125f));
  x = b.op("matmul", program::MatMul{}, {row, matrix}, {1, 3});
  const auto probabilities = b.op("softmax", program::Softmax{1}, {x}, {1, 3});
  program::Linear fc{
      .out = 2, .weights = program::FloatWeights{floats(6, 0.5f, 0.25f)}, .mul = {}, .add = {0, -0.0f}};
  b.program.outputs = {b.op("float-linear", fc, {probabilities}, {1, 2}), probabilities};
  b.program.mean = {0.485f, 0.456f, 0.406f};
  b.program.std = {0.229f, 0.224f, 0.225f};
  b.program.class_names = {"K\xc3\xa4se", ""};
  b.program.metadata = {{"method", "ebs"}, {"", "empty key"}, {"\xce\xa9", ""}, {"note", "line\nbreak"}};
  return b.program;
}

program::Program resnet20_like_program() {
  ProgramBuilder b;
  Random random(20, 0);
  const auto activation = [&](int bits, int zero) {
    return quant::CodeType{bits, zero, 0.05f + 0.2f * static_cast<float>(random.uniform())};
  };
  const auto layer_values = [&](int64_t oc, float centre, float spread) {
    std::vector<float> values(static_cast<size_t>(oc));
    for (float& value : values) value = centre + spread * normal(random);
    return values;
  };
  const auto weights = [&](int64_t count) {
    std::vector<uint8_t> codes(static_cast<size_t>(count));
    for (uint8_t& code : codes) code = static_cast<uint8_t>(random.below(16));
    return program::CodeWeights{4, {1, -8}, quant::pack_codes(codes, 4)};
  };
  const auto conv = [&](const std::string& name, TensorId in, int64_t oc, int stride, program::Dims dims,
                        std::vector<Step> steps) {
    const int64_t ic = b.program.tensors[static_cast<size_t>(in)].dims[0];
    program::Conv c;
    c.window = {.kernel_h = 3,
                .kernel_w = 3,
                .stride_h = stride,
                .stride_w = stride,
                .pad_top = 1,
                .pad_left = 1,
                .pad_bottom = 1,
                .pad_right = 1};
    c.oc = static_cast<int>(oc);
    c.weights = weights(oc * ic * 9);
    c.mul = layer_values(oc, 0.01f, 0.003f);
    c.add = layer_values(oc, 0, 0.5f);
    return b.op(name, c, {in}, std::move(dims), activation(4, 0), std::move(steps));
  };
  const std::vector<Step> rectify = relu();
  b.program.input = b.tensor("input", {3, 32, 32});
  TensorId x =
      b.op("input_quantize", program::Elementwise{}, {b.program.input}, {3, 32, 32}, activation(8, -118));
  x = conv("/conv1/Conv", x, 16, 1, {16, 32, 32}, rectify);
  TensorId stream = x;
  for (int stage = 1; stage <= 3; ++stage) {
    const int64_t oc = 8 << stage, side = 64 >> stage;
    for (int block = 0; block < 3; ++block) {
      const std::string prefix = fmt::format("/layer{0}/layer{0}.{1}", stage, block);
      const bool down = stage > 1 && block == 0;
      const TensorId hidden = conv(prefix + "/conv1/Conv", x, oc, down ? 2 : 1, {oc, side, side}, rectify);
      TensorId shortcut = stream;
      if (down) {
        const auto type = *b.program.tensors[static_cast<size_t>(shortcut)].code;
        const int64_t ic = oc / 2;
        shortcut = b.op(prefix + "/shortcut/Slice", program::Slice{.axis = 1, .start = 0, .step = 2},
                        {shortcut}, {ic, side, 2 * side}, type);
        shortcut = b.op(prefix + "/shortcut/Slice_1", program::Slice{.axis = 2, .start = 0, .step = 2},
                        {shortcut}, {ic, side, side}, type);
        shortcut = b.op(prefix + "/shortcut/Pad",
                        program::Pad{.before = {ic / 2, 0, 0}, .after = {ic / 2, 0, 0}, .value = 0},
                        {shortcut}, {oc, side, side}, type);
      }
      std::vector<Step> steps = {binary_step(StepKind::kAdd, shortcut)};
      steps.push_back(rectify[0]);
      x = conv(prefix + "/conv2/Conv", hidden, oc, 1, {oc, side, side}, steps);
      // The shortcut stream keeps its own, finer codes beside those that the next convolution reads.
      stream = b.tensor(prefix + "/relu_1/Relu_output_0", {oc, side, side}, activation(8, 0));
      b.program.ops.back().outputs.push_back(stream);
    }
  }
  x = b.op("/avgpool/GlobalAveragePool", program::ReduceMean{.axes = {1, 2}, .keep_dims = false}, {x}, {64},
           activation(8, 0));
  program::Linear fc{.out = 10,
                     .weights = weights(640),
                     .mul = layer_values(10, 0.01f, 0.003f),
                     .add = layer_values(10, 0, 0.5f)};
  b.program.outputs = {b.op("/fc/Gemm", fc, {x}, {10})};
  b.program.mean = {0.485f, 0.456f, 0.406f};
  b.program.std = {0.229f, 0.224f, 0.225f};
  b.program.class_names = {"airplane", "automobile", "bird",  "cat",  "deer",
                           "dog",      "frog",       "horse", "ship", "truck"};
  b.program.metadata = {
      {"method", "ebs"},        {"policy", "lsq"},   {"seed", "0"}, {"source", "resnet20-cifar10.onnx"},
      {"target", "avg-bits=4"}, {"version", "0.1.0"}};
  return b.program;
}

}  // namespace bitstrata::format
