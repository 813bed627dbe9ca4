#include "program/reference.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/random_program.h"

namespace bitstrata::program {
namespace {

using testing::ProgramBuilder;

std::vector<float> run_one(const Program& program, const std::vector<float>& input) {
  validate(program);
  ReferenceTensors tensors = run_reference(program, input);
  const auto id = static_cast<size_t>(program.outputs[0]);
  std::vector<float> values = tensors.floats[id];
  for (uint8_t v : tensors.codes[id]) values.push_back(quant::dequantize(v, *program.tensors[id].code));
  return values;
}

TEST(Reference, QuantizedConvolutionWithResidualByHand) {
  ProgramBuilder b;
  const TensorId x = b.input({1, 2, 2});
  const TensorId q = b.add(Elementwise{}, {x}, {1, 2, 2}, quant::CodeType{2, -1, 0.5f});
  Conv conv;
  conv.window = {.kernel_h = 1, .kernel_w = 2, .pad_left = 1};
  conv.oc = 1;
  conv.weights = testing::code_weights(2, {1, -2}, {3, 0});  // w = 1, -2
  conv.mul = {0.25f};
  conv.add = {0.5f};
  const TensorId y =
      b.add(conv, {q}, {1, 2, 2}, quant::CodeType{3, 0, 0.25f},
            {testing::binary(StepKind::kAdd, q), testing::clip(0, std::numeric_limits<float>::infinity())});
  const Program program = b.build({y});
  validate(program);
  // x / 0.5 = 0.5 (ties to 0), 1.5 (ties to 2), -9 (clamps to -1), 9 (clamps to 2); codes are one more.
  const ReferenceTensors tensors = run_reference(program, std::vector<float>{0.25f, 0.75f, -4.5f, 4.5f});
  EXPECT_EQ(tensors.codes[1], (std::vector<uint8_t>{1, 3, 0, 3}));
  // Integers 0 2 / -1 2. acc = left * 1 + here * -2: 0, -4, 2, -5. y = acc / 4 + 0.5: 0.5, -0.5, 1, -0.75.
  // Plus the shortcut 0, 1, -0.5, 1: 0.5, 0.5, 0.5, 0.25; divided by 0.25.
  EXPECT_EQ(tensors.codes[2], (std::vector<uint8_t>{2, 2, 2, 1}));
}

TEST(Reference, StoreRoundsHalfToEvenAndMapsNanToTheLowestCode) {
  ProgramBuilder b;
  const TensorId x = b.input({5});
  const TensorId q = b.add(Elementwise{}, {x}, {5}, quant::CodeType{4, -3, 1.0f});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const ReferenceTensors tensors =
      run_reference(b.build({q}), std::vector<float>{0.5f, 1.5f, -2.5f, nan, 100});
  EXPECT_EQ(tensors.codes[1], (std::vector<uint8_t>{3, 5, 1, 0, 15}));
}

TEST(Reference, StepsByHand) {
  const auto after = [](Step step, float y) {
    ProgramBuilder b;
    const TensorId x = b.input({1});
    const TensorId two = b.constant({1}, {2});
    if (step.kind <= StepKind::kDivide) step.operand = two;
    const TensorId out = b.add(Elementwise{}, {x}, {1}, {}, {step});
    return run_one(b.build({out}), {y})[0];
  };
  const auto step = [](StepKind kind, float a = 0, float p = 0) {
    Step s;
    s.kind = kind;
    s.a = a;
    s.b = p;
    return s;
  };
  EXPECT_EQ(after(step(StepKind::kAdd), 3), 5);
  EXPECT_EQ(after(step(StepKind::kSubtract), 3), 1);
  EXPECT_EQ(after(step(StepKind::kReverseSubtract), 3), -1);
  EXPECT_EQ(after(step(StepKind::kMultiply), 3), 6);
  EXPECT_EQ(after(step(StepKind::kDivide), 3), 1.5f);
  EXPECT_EQ(after(step(StepKind::kClip, -1, 1), 3), 1);
  EXPECT_EQ(after(step(StepKind::kClip, -1, 1), std::nanf("")), -1);
  EXPECT_EQ(after(step(StepKind::kLeakyRelu, 0.5f), -3), -1.5f);
  EXPECT_EQ(after(step(StepKind::kHardSigmoid, 0.25f, 0.5f), 1), 0.75f);
  EXPECT_EQ(after(step(StepKind::kHardSwish), 6), 6);
  EXPECT_EQ(after(step(StepKind::kHardSwish), -6), 0);
  Step affine = step(StepKind::kAffine);
  affine.mul = {3};
  affine.add = {-1};
  EXPECT_EQ(after(affine, 2), 5);
  Step prelu = step(StepKind::kPRelu);
  prelu.mul = {0.25f};
  EXPECT_EQ(after(prelu, -2), -0.5f);
  Step power = step(StepKind::kFunction, 3);
  power.function = Function::kPower;
  EXPECT_EQ(after(power, 2), 8);
}

TEST(Reference, PoolingAndMeansByHand) {
  ProgramBuilder b;
  const TensorId x = b.input({1, 2, 2});
  const TensorId q = b.add(Elementwise{}, {x}, {1, 2, 2}, quant::CodeType{3, -2, 0.5f});
  const Window w{.kernel_h = 2, .kernel_w = 2, .pad_top = 1, .pad_left = 1};
  const TensorId inside = b.add(AveragePool{w, false}, {q}, {1, 2, 2});
  const TensorId whole = b.add(AveragePool{w, true}, {q}, {1, 2, 2});
  const TensorId largest = b.add(MaxPool{w}, {q}, {1, 2, 2}, quant::CodeType{3, -2, 0.5f});
  const TensorId mean = b.add(ReduceMean{{1}, true}, {x}, {1, 1, 2});
  const Program program = b.build({mean});
  validate(program);
  const ReferenceTensors t = run_reference(program, std::vector<float>{-0.5f, 1, 0.5f, 2});
  EXPECT_EQ(t.codes[static_cast<size_t>(q)], (std::vector<uint8_t>{1, 4, 3, 6}));
  EXPECT_EQ(t.floats[static_cast<size_t>(inside)], (std::vector<float>{-0.5f, 0.25f, 0, 0.75f}));
  EXPECT_EQ(t.floats[static_cast<size_t>(whole)], (std::vector<float>{-0.125f, 0.125f, 0, 0.75f}));
  EXPECT_EQ(t.codes[static_cast<size_t>(largest)], (std::vector<uint8_t>{1, 4, 3, 6}));
  EXPECT_EQ(t.floats[static_cast<size_t>(mean)], (std::vector<float>{0, 1.5f}));
}

TEST(Reference, DataMovementByHand) {
  ProgramBuilder b;
  const TensorId x = b.input({2, 3});
  const TensorId joined = b.add(Concat{1}, {x, x}, {2, 6});
  const TensorId sliced = b.add(Slice{1, 2, -2}, {x}, {2, 2});
  const TensorId padded = b.add(Pad{{1, 0}, {0, 1}, 9}, {x}, {3, 4});
  const TensorId turned = b.add(Transpose{{1, 0}}, {x}, {3, 2});
  const TensorId shaped = b.add(Reshape{}, {turned}, {6});
  const TensorId taken = b.add(Gather{0, {1, 1, 0}}, {x}, {3, 3});
  const Program program = b.build({taken});
  validate(program);
  const ReferenceTensors t = run_reference(program, std::vector<float>{1, 2, 3, 4, 5, 6});
  const auto at = [&](TensorId id) { return t.floats[static_cast<size_t>(id)]; };
  EXPECT_EQ(at(joined), (std::vector<float>{1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6}));
  EXPECT_EQ(at(sliced), (std::vector<float>{3, 1, 6, 4}));
  EXPECT_EQ(at(padded), (std::vector<float>{9, 9, 9, 9, 1, 2, 3, 9, 4, 5, 6, 9}));
  EXPECT_EQ(at(turned), (std::vector<float>{1, 4, 2, 5, 3, 6}));
  EXPECT_EQ(at(shaped), at(turned));
  EXPECT_EQ(at(taken), (std::vector<float>{4, 5, 6, 4, 5, 6, 1, 2, 3}));
}

TEST(Reference, FloatLayersByHand) {
  ProgramBuilder b;
  const TensorId x = b.input({2, 2});
  Linear linear;
  linear.out = 1;
  linear.weights = FloatWeights{{2, -1}};
  linear.add = {0.5f};
  const TensorId y = b.add(linear, {x}, {2, 1});
  const TensorId product = b.add(MatMul{}, {x, x}, {2, 2});
  const TensorId soft = b.add(Softmax{1}, {x}, {2, 2});
  const TensorId map = b.add(Reshape{}, {x}, {2, 1, 2});
  Conv conv;
  conv.window = {.kernel_w = 2};
  conv.oc = 1;
  conv.weights = FloatWeights{{1, 2, 3, 4}};
  conv.add = {1};
  const TensorId z = b.add(conv, {map}, {1, 1, 1});
  const Program program = b.build({y});
  validate(program);
  const ReferenceTensors t = run_reference(program, std::vector<float>{1, 2, 3, 4});
  const auto at = [&](TensorId id) { return t.floats[static_cast<size_t>(id)]; };
  EXPECT_EQ(at(y), (std::vector<float>{0.5f, 2.5f}));
  EXPECT_EQ(at(product), (std::vector<float>{7, 10, 15, 22}));
  EXPECT_FLOAT_EQ(at(soft)[1], 1 / (1 + std::exp(-1.0f)));
  EXPECT_FLOAT_EQ(at(soft)[0] + at(soft)[1], 1);
  EXPECT_EQ(at(z), (std::vector<float>{31}));
}

TEST(Reference, RunsRandomProgramsToFullSizedTensors) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    const Program program = testing::random_program(seed, {.ops = 12, .inexact = seed % 2 == 1});
    const ReferenceTensors tensors = run_reference(program, testing::random_input(program, 1, seed));
    for (size_t i = 0; i < program.tensors.size(); ++i) {
      const auto count = static_cast<size_t>(elements(program.tensors[i].dims));
      EXPECT_EQ(tensors.codes[i].size(), program.tensors[i].code ? count : 0);
      EXPECT_EQ(tensors.floats[i].size(), program.tensors[i].code ? 0 : count);
      for (uint8_t v : tensors.codes[i]) ASSERT_LE(v, program.tensors[i].code->max_code());
    }
  }
}

}  // namespace
}  // namespace bitstrata::program
