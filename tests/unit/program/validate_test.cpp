#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <set>

#include "core/error.h"
#include "tests/support/random_program.h"

namespace bitstrata::program {
namespace {

using testing::ProgramBuilder;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr quant::CodeType kCode{4, 0, 0.25f};

/// One op of each kind; op and tensor indices are named below.
Program example() {
  ProgramBuilder b;
  const TensorId x = b.input({4, 6, 6});                           // 0
  const TensorId q = b.add(Elementwise{}, {x}, {4, 6, 6}, kCode);  // 1, op 0
  Conv conv;
  conv.window = {.kernel_h = 3, .kernel_w = 3, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1};
  conv.groups = 2;
  conv.oc = 2;
  conv.weights = testing::code_weights(3, {1, -4}, std::vector<uint8_t>(36, 5));
  conv.mul = {1, 2};
  conv.add = {0, 1};
  Step affine;
  affine.kind = StepKind::kAffine;
  affine.mul = {1};
  affine.add = {1, 2};
  const TensorId c = b.constant({2, 1, 1}, {1, 2});      // 2
  const TensorId y = b.add(conv, {q}, {2, 6, 6}, kCode,  // 3, op 1
                           {affine, testing::binary(StepKind::kAdd, c), testing::clip(0, kInf)});
  const TensorId p = b.add(MaxPool{{.kernel_h = 2, .kernel_w = 2, .stride_h = 2, .stride_w = 2}}, {y},
                           {2, 3, 3}, kCode);                                                    // 4, op 2
  const TensorId cat = b.add(Concat{0}, {p, p}, {4, 3, 3}, kCode);                               // 5, op 3
  const TensorId s = b.add(Slice{1, 2, -2}, {cat}, {4, 2, 3}, kCode);                            // 6, op 4
  const TensorId pad = b.add(Pad{{0, 1, 0}, {0, 0, 1}, 0}, {s}, {4, 3, 4}, kCode);               // 7, op 5
  const TensorId t = b.add(Transpose{{0, 2, 1}}, {pad}, {4, 4, 3}, kCode);                       // 8, op 6
  const TensorId g = b.add(Gather{0, {3, 3, 0}}, {t}, {3, 4, 3}, kCode);                         // 9, op 7
  const TensorId a = b.add(AveragePool{{.kernel_h = 2, .kernel_w = 2}}, {g}, {3, 3, 2}, kCode);  // 10, op 8
  const TensorId m = b.add(ReduceMean{{1, 2}, false}, {a}, {3}, kCode);                          // 11, op 9
  Linear linear;
  linear.out = 2;
  linear.weights = testing::code_weights(1, {2, -1}, {0, 1, 1, 0, 1, 0});
  linear.mul = {1, 1};
  linear.add = {0, 0};
  const TensorId l = b.add(linear, {m}, {2}, kCode);                         // 12, op 10
  const TensorId k = b.add(Lookup{std::vector<float>(16, 0.5f)}, {l}, {2});  // 13, op 11
  const TensorId soft = b.add(Softmax{0}, {k}, {2});                         // 14, op 12
  const TensorId r = b.add(Reshape{}, {soft}, {1, 2});                       // 15, op 13
  const TensorId w = b.constant({2, 3}, std::vector<float>(6, 1));           // 16
  Step function;
  function.kind = StepKind::kFunction;
  function.function = Function::kTanh;
  const TensorId out = b.add(MatMul{}, {r, w}, {1, 3}, {}, {function});  // 17, op 14
  Program program = b.build({out});
  program.mean = {0, 0, 0, 0};
  program.std = {1, 1, 1, 1};
  return program;
}

template <typename K>
K& kind(Program& p, size_t op) {
  return std::get<K>(p.ops[op].kind);
}
CodeWeights& weights(Program& p) {
  return std::get<CodeWeights>(kind<Conv>(p, 1).weights);
}

struct Broken {
  const char* message;  ///< part of the expected message
  std::function<void(Program&)> change;
};

const std::vector<Broken>& broken_programs() {
  static const std::vector<Broken> table = {
      // Tensors.
      {"rank 0", [](Program& p) { p.tensors[13].dims = {}; }},
      {"rank 6", [](Program& p) { p.tensors[13].dims = {1, 1, 1, 1, 1, 2}; }},
      {"dims [0]", [](Program& p) { p.tensors[13].dims = {0}; }},
      {"dims [-2]", [](Program& p) { p.tensors[13].dims = {-2}; }},
      {"dims >= 1",
       [](Program& p) {
         p.tensors[0].dims = {int64_t{1} << 32, int64_t{1} << 32, 6};
       }},
      {"dims >= 1",
       [](Program& p) {
         p.tensors[0].dims = {1, 1, int64_t{1} << 31};
       }},
      {"dims >= 1",
       [](Program& p) {
         p.tensors[0].dims = {std::numeric_limits<int64_t>::min(), -1, 6};
       }},
      {"0 bits", [](Program& p) { p.tensors[1].code->bits = 0; }},
      {"9 bits", [](Program& p) { p.tensors[1].code->bits = 9; }},
      {"-31 bits", [](Program& p) { p.tensors[1].code->bits = -31; }},
      {"zero point 1", [](Program& p) { p.tensors[1].code->zero = 1; }},
      {"zero point -16", [](Program& p) { p.tensors[1].code->zero = -16; }},
      {"zero point -2147483648",
       [](Program& p) { p.tensors[1].code->zero = std::numeric_limits<int>::min(); }},
      {"scale 0", [](Program& p) { p.tensors[1].code->scale = 0; }},
      {"scale -1", [](Program& p) { p.tensors[1].code->scale = -1; }},
      {"scale nan", [](Program& p) { p.tensors[1].code->scale = kNan; }},
      {"scale inf", [](Program& p) { p.tensors[1].code->scale = kInf; }},
      {"finite reciprocal", [](Program& p) { p.tensors[1].code->scale = 1e-45f; }},
      {"no op, constant or input",
       [](Program& p) {
         p.tensors.push_back({"lost", {1}, {}});
       }},
      // Program.
      {"input tensor -1", [](Program& p) { p.input = -1; }},
      {"input tensor 99", [](Program& p) { p.input = 99; }},
      {"holds codes", [](Program& p) { p.tensors[0].code = kCode; }},
      {"normalisation of 3",
       [](Program& p) {
         p.mean = {0, 0, 0};
       }},
      {"normalisation value", [](Program& p) { p.std[1] = 0; }},
      {"normalisation value", [](Program& p) { p.mean[1] = kNan; }},
      {"4 normalisation means and 0", [](Program& p) { p.std.clear(); }},
      {"no output", [](Program& p) { p.outputs.clear(); }},
      {"tensor -1", [](Program& p) { p.outputs = {-1}; }},
      {"tensor 18", [](Program& p) { p.outputs = {18}; }},
      {"output twice",
       [](Program& p) {
         p.outputs = {17, 17};
       }},
      // Constants.
      {"tensor 99", [](Program& p) { p.constants[0].tensor = 99; }},
      {"written twice", [](Program& p) { p.constants[0].tensor = 0; }},
      {"written twice",
       [](Program& p) {
         p.constants.push_back({13, {1, 2}});
       }},
      {"tensor of codes", [](Program& p) { p.tensors[2].code = kCode; }},
      {"found 3 values, expected 2", [](Program& p) { p.constants[0].values.push_back(1); }},
      {"finite values", [](Program& p) { p.constants[0].values[1] = kInf; }},
      // Ops in general.
      {"unique names", [](Program& p) { p.ops[1].name = p.ops[0].name; }},
      {"tensor 42", [](Program& p) { p.ops[1].inputs = {42}; }},
      {"tensor -1", [](Program& p) { p.ops[1].inputs = {-1}; }},
      {"read before", [](Program& p) { p.ops[1].inputs = {3}; }},
      {"read before", [](Program& p) { std::swap(p.ops[0], p.ops[1]); }},
      {"read before", [](Program& p) { p.ops[1].steps[1].operand = 3; }},
      {"tensor 77", [](Program& p) { p.ops[1].steps[1].operand = 77; }},
      {"tensor -2", [](Program& p) { p.ops[1].steps[0].operand = -2; }},
      {"no output", [](Program& p) { p.ops[1].outputs.clear(); }},
      {"written twice",
       [](Program& p) {
         p.ops[1].outputs = {3, 3};
       }},
      {"written twice", [](Program& p) { p.ops[1].outputs = {0}; }},
      {"found 0 inputs", [](Program& p) { p.ops[1].inputs.clear(); }},
      {"found 2 inputs",
       [](Program& p) {
         p.ops[1].inputs = {1, 1};
       }},
      {"output [2, 6, 5], expected [2, 6, 6]",
       [](Program& p) {
         p.tensors[3].dims = {2, 6, 5};
       }},
      {"code types", [](Program& p) { p.tensors[4].code->bits = 3; }},
      {"code types", [](Program& p) { p.tensors[4].code->scale = 0.5f; }},
      {"code types", [](Program& p) { p.tensors[4].code.reset(); }},
      {"found 1 steps", [](Program& p) { p.ops[2].steps.push_back(testing::clip(0, 1)); }},
      {"found 2 outputs",
       [](Program& p) {
         p.tensors.push_back(p.tensors[4]);
         p.ops[2].outputs.push_back(18);
       }},
      // Conv.
      {"found 3 groups", [](Program& p) { kind<Conv>(p, 1).groups = 3; }},
      {"found 0 groups", [](Program& p) { kind<Conv>(p, 1).groups = 0; }},
      {"found -2 groups", [](Program& p) { kind<Conv>(p, 1).groups = -2; }},
      {"0 output channels", [](Program& p) { kind<Conv>(p, 1).oc = 0; }},
      {"-2 output channels", [](Program& p) { kind<Conv>(p, 1).oc = -2; }},
      {"dilation 0", [](Program& p) { kind<Conv>(p, 1).window.kernel_h = 0; }},
      {"dilation 0", [](Program& p) { kind<Conv>(p, 1).window.stride_w = 0; }},
      {"dilation -1", [](Program& p) { kind<Conv>(p, 1).window.dilation_w = -1; }},
      {"dilation 2147483647",
       [](Program& p) { kind<Conv>(p, 1).window.kernel_h = std::numeric_limits<int>::max(); }},
      {"padding -1", [](Program& p) { kind<Conv>(p, 1).window.pad_top = -1; }},
      {"padding 2147483647",
       [](Program& p) { kind<Conv>(p, 1).window.pad_left = std::numeric_limits<int>::max(); }},
      {"kernel that spans 9", [](Program& p) { kind<Conv>(p, 1).window.dilation_h = 4; }},
      {"found 3 values of add", [](Program& p) { kind<Conv>(p, 1).add.push_back(0); }},
      {"found 1 values of mul", [](Program& p) { kind<Conv>(p, 1).mul.pop_back(); }},
      {"inf in mul", [](Program& p) { kind<Conv>(p, 1).mul[0] = kInf; }},
      {"nan in add", [](Program& p) { kind<Conv>(p, 1).add[0] = kNan; }},
      {"0 bits", [](Program& p) { weights(p).bits = 0; }},
      {"9 bits", [](Program& p) { weights(p).bits = 9; }},
      {"weight grid",
       [](Program& p) {
         weights(p).grid = {1, -5};
       }},
      {"weight grid",
       [](Program& p) {
         weights(p).grid = {std::numeric_limits<int>::max(), 0};
       }},
      {"bytes of weights", [](Program& p) { weights(p).packed.pop_back(); }},
      {"bytes of weights", [](Program& p) { weights(p).packed.clear(); }},
      {"behind the last weight", [](Program& p) { weights(p).packed.back() |= 0x80; }},
      {"float weights on an input of codes",
       [](Program& p) { kind<Conv>(p, 1).weights = FloatWeights{std::vector<float>(36)}; }},
      {"weight codes on a float32", [](Program& p) { p.tensors[1].code.reset(); }},
      {"values of mul",
       [](Program& p) {
         p.tensors[1].code.reset();
         kind<Conv>(p, 1).weights = FloatWeights{std::vector<float>(36)};
       }},
      {"values of weights",
       [](Program& p) {
         p.tensors[1].code.reset();
         kind<Conv>(p, 1).mul.clear();
         kind<Conv>(p, 1).weights = FloatWeights{std::vector<float>(35)};
       }},
      {"nan in weights",
       [](Program& p) {
         p.tensors[1].code.reset();
         kind<Conv>(p, 1).mul.clear();
         kind<Conv>(p, 1).weights = FloatWeights{std::vector<float>(36, kNan)};
       }},
      // Steps.
      {"no operand", [](Program& p) { p.ops[1].steps[1].operand = -1; }},
      {"an operand", [](Program& p) { p.ops[1].steps[2].operand = 2; }},
      {"operands [2, 6, 6] and [4, 6, 6]", [](Program& p) { p.ops[1].steps[1].operand = 1; }},
      {"dims that broadcast to [3]",
       [](Program& p) { p.ops[9].steps.push_back(testing::binary(StepKind::kAdd, 16)); }},
      {"found 3 parameters",
       [](Program& p) {
         p.ops[1].steps[0].mul = {1, 2, 3};
       }},
      {"found 0 parameters", [](Program& p) { p.ops[1].steps[0].add = {}; }},
      {"found 1 parameters", [](Program& p) { p.ops[1].steps[2].add = {1}; }},
      {"finite values", [](Program& p) { p.ops[1].steps[0].mul = {kNan}; }},
      {"a <= b", [](Program& p) { p.ops[1].steps[2].a = kNan; }},
      {"a <= b", [](Program& p) { p.ops[1].steps[2].b = -1; }},
      {"finite ones", [](Program& p) { p.ops[1].steps[2].kind = StepKind::kLeakyRelu; }},
      {"found kind 12", [](Program& p) { p.ops[1].steps[2].kind = static_cast<StepKind>(12); }},
      {"found function 0", [](Program& p) { p.ops[14].steps[0].function = Function::kNone; }},
      {"found function 15", [](Program& p) { p.ops[14].steps[0].function = static_cast<Function>(15); }},
      {"found function 1", [](Program& p) { p.ops[1].steps[0].function = Function::kSigmoid; }},
      // The other kinds.
      {"expected less than the 2", [](Program& p) { kind<MaxPool>(p, 2).window.pad_top = 2; }},
      {"expected less than the 2", [](Program& p) { kind<AveragePool>(p, 8).window.pad_right = 2; }},
      {"found axis 3", [](Program& p) { kind<Concat>(p, 3).axis = 3; }},
      {"found axis -1", [](Program& p) { kind<Concat>(p, 3).axis = -1; }},
      {"found no inputs", [](Program& p) { p.ops[3].inputs.clear(); }},
      {"joined axis", [](Program& p) { p.ops[3].inputs[1] = 3; }},
      {"joined axis", [](Program& p) { p.ops[3].inputs[1] = 16; }},
      {"found step 0", [](Program& p) { kind<Slice>(p, 4).step = 0; }},
      {"found step", [](Program& p) { kind<Slice>(p, 4).step = std::numeric_limits<int64_t>::min(); }},
      {"found elements 3", [](Program& p) { kind<Slice>(p, 4).start = 3; }},
      {"found elements -1", [](Program& p) { kind<Slice>(p, 4).start = -1; }},
      {"found elements 1", [](Program& p) { kind<Slice>(p, 4).start = 1; }},
      {"found axis 9", [](Program& p) { kind<Slice>(p, 4).axis = 9; }},
      {"found padding of 2", [](Program& p) { kind<Pad>(p, 5).before.pop_back(); }},
      {"found padding -1", [](Program& p) { kind<Pad>(p, 5).after[2] = -1; }},
      {"found padding", [](Program& p) { kind<Pad>(p, 5).after[2] = std::numeric_limits<int64_t>::max(); }},
      {"NaN", [](Program& p) { kind<Pad>(p, 5).value = kNan; }},
      {"found axis 2 twice", [](Program& p) { kind<Transpose>(p, 6).perm = {0, 2, 2}; }},
      {"permutation of 2", [](Program& p) { kind<Transpose>(p, 6).perm = {0, 2}; }},
      {"found axis 7", [](Program& p) { kind<Transpose>(p, 6).perm = {0, 7, 1}; }},
      {"found index 4", [](Program& p) { kind<Gather>(p, 7).indices[0] = 4; }},
      {"found index -1", [](Program& p) { kind<Gather>(p, 7).indices[0] = -1; }},
      {"expected [2, 4, 3]", [](Program& p) { kind<Gather>(p, 7).indices.pop_back(); }},
      {"found no axes", [](Program& p) { kind<ReduceMean>(p, 9).axes.clear(); }},
      {"rising axes", [](Program& p) { kind<ReduceMean>(p, 9).axes = {2, 1}; }},
      {"rising axes", [](Program& p) { kind<ReduceMean>(p, 9).axes = {1, 1, 2}; }},
      {"found axis 3", [](Program& p) { kind<ReduceMean>(p, 9).axes = {1, 3}; }},
      {"expected [3, 1, 1]", [](Program& p) { kind<ReduceMean>(p, 9).keep_dims = true; }},
      {"0 output features", [](Program& p) { kind<Linear>(p, 10).out = 0; }},
      {"found 15 values of table", [](Program& p) { kind<Lookup>(p, 11).table.pop_back(); }},
      {"float32 input, expected codes", [](Program& p) { p.tensors[12].code.reset(); }},
      {"found axis 1", [](Program& p) { kind<Softmax>(p, 12).axis = 1; }},
      {"input of codes", [](Program& p) { p.tensors[13].code = kCode; }},
      {"output of codes", [](Program& p) { p.tensors[14].code = kCode; }},
      {"as many elements", [](Program& p) { p.tensors[15].dims = {1, 3}; }},
      {"[..., m, k]", [](Program& p) { p.ops[14].inputs[1] = 15; }},
      {"[..., m, k]", [](Program& p) { p.ops[14].inputs[0] = 14; }},
      {"found 1 inputs", [](Program& p) { p.ops[14].inputs.pop_back(); }},
  };
  return table;
}

TEST(Validate, AcceptsOneOpOfEachKind) {
  const Program program = example();
  EXPECT_NO_THROW(validate(program));
  std::set<size_t> kinds;
  for (const Op& op : program.ops) kinds.insert(op.kind.index());
  EXPECT_EQ(kinds.size(), std::variant_size_v<Kind>);
}

TEST(Validate, RejectsBrokenPrograms) {
  for (size_t i = 0; i < broken_programs().size(); ++i) {
    const Broken& broken = broken_programs()[i];
    SCOPED_TRACE(::testing::Message() << "row " << i << ": " << broken.message);
    Program program = example();
    broken.change(program);
    try {
      validate(program);
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorruptFile);
      EXPECT_THAT(error.what(), ::testing::HasSubstr(broken.message));
      EXPECT_THAT(error.what(), ::testing::Not(::testing::HasSubstr("\n")));
    }
  }
}

TEST(Validate, AcceptsTablesOfFunctionsThatAreNotFiniteEverywhere) {
  Program program = example();
  kind<Lookup>(program, 11).table[0] = -kInf;
  kind<Lookup>(program, 11).table[1] = kNan;
  EXPECT_NO_THROW(validate(program));
}

TEST(Validate, RejectsAccumulatorsOf31Bits) {
  // The largest reduction that fits is floor((2^31 - 1) / (255 * 255)) = 33025.
  for (int64_t features : {33025, 33026}) {
    ProgramBuilder b;
    const TensorId x = b.input({features});
    const TensorId q = b.add(Elementwise{}, {x}, {features}, quant::CodeType{8, 0, 1});
    Linear linear;
    linear.out = 1;
    linear.weights =
        testing::code_weights(8, {2, -255}, std::vector<uint8_t>(static_cast<size_t>(features), 255));
    linear.mul = linear.add = {1};
    const TensorId y = b.add(linear, {q}, {1});
    const Program program = b.build({y});
    if (features == 33025) {
      EXPECT_NO_THROW(validate(program));
      EXPECT_EQ(accumulator_bound(program, program.ops[1]), 255 * 255 * features);
      EXPECT_EQ(macs(program, program.ops[1]), features);
    } else {
      EXPECT_THROW(validate(program), Error);
    }
  }
}

TEST(Validate, RejectsPoolingWindowsThatStepOverTheImage) {
  for (int length : {1, 2}) {
    ProgramBuilder b;
    const TensorId x = b.input({1, length, 1});
    // Positions -2, 1 and -1, 2 (and for length 2 only the former) around a dilation of 3.
    const MaxPool pool{{.kernel_h = 2, .dilation_h = 3, .pad_top = 2, .pad_bottom = 1}};
    const TensorId y = b.add(pool, {x}, {1, length, 1});
    const Program program = b.build({y});
    EXPECT_THROW(validate(program), Error) << length;
  }
  ProgramBuilder b;
  const TensorId x = b.input({1, 2, 1});
  const MaxPool pool{{.kernel_h = 3, .dilation_h = 3, .pad_top = 3, .pad_bottom = 3}};
  const TensorId y = b.add(pool, {x}, {1, 2, 1});
  EXPECT_NO_THROW(validate(b.build({y})));
}

TEST(Validate, AcceptsRandomProgramsOfEveryKindAndStep) {
  std::set<size_t> kinds;
  std::set<StepKind> steps;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    const Program program = testing::random_program(seed, {.ops = 12, .inexact = seed % 2 == 1});
    EXPECT_NO_THROW(validate(program));
    for (const Op& op : program.ops) {
      kinds.insert(op.kind.index());
      for (const Step& step : op.steps) steps.insert(step.kind);
    }
  }
  EXPECT_EQ(kinds.size(), std::variant_size_v<Kind>);
  EXPECT_EQ(steps.size(), static_cast<size_t>(StepKind::kFunction) + 1);
}

TEST(Program, CountsMacsAndBoundsAccumulatorsFromWeights) {
  Program program = example();
  EXPECT_EQ(macs(program, program.ops[1]), 2 * 36 * 18);
  EXPECT_EQ(macs(program, program.ops[0]), 0);
  // All weights are 5 - 4 = 1, codes reach 15.
  EXPECT_EQ(accumulator_bound(program, program.ops[1]), 18 * 15);
  EXPECT_EQ(accumulator_bound(program, program.ops[0]), 0);
}

}  // namespace
}  // namespace bitstrata::program
