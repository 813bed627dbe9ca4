#include "runtime/session.h"

#include <gtest/gtest.h>

#include <atomic>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <new>
#include <thread>

#include "core/error.h"
#include "program/reference.h"
#include "runtime/model.h"
#include "tests/support/random_program.h"

namespace {
std::atomic<long> allocations{0};

void* counted(std::size_t bytes, std::size_t alignment) {
  ++allocations;
  const std::size_t size = (std::max<std::size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
  if (void* memory = std::aligned_alloc(alignment, size)) return memory;
  throw std::bad_alloc();
}
}  // namespace

// Every form of new in the process, to prove that run() uses none.
void* operator new(std::size_t bytes) {
  return counted(bytes, 16);
}
void* operator new[](std::size_t bytes) {
  return counted(bytes, 16);
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return counted(bytes, 16);
}
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept {
  return counted(bytes, 16);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete[](void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}

namespace bitstrata::runtime {
namespace {

using program::Program;
using testing::ProgramBuilder;

size_t elements(const Program& p, TensorId id) {
  return static_cast<size_t>(program::elements(p.tensors[static_cast<size_t>(id)].dims));
}

/// Room for the outputs of `images` images.
struct Outputs {
  Outputs(const Program& p, int images) {
    for (TensorId id : p.outputs)
      values.emplace_back(elements(p, id) * static_cast<size_t>(images), -12345.0f);
    for (auto& v : values) spans.emplace_back(v);
  }
  std::vector<std::vector<float>> values;
  std::vector<std::span<float>> spans;
};

bool same(float a, float b, float tolerance) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  if (tolerance == 0 || a == b) return a == b;
  return std::fabs(a - b) <= tolerance * std::max(1.0f, std::fabs(b));
}

std::string describe(const Program& p, TensorId id) {
  for (const program::Op& op : p.ops) {
    if (std::find(op.outputs.begin(), op.outputs.end(), id) != op.outputs.end()) return op.name;
  }
  return "no op";
}

/// Runs `images` images and compares every tensor of every image with the reference. `ran` says that no
/// family refused.
void expect_equals_reference(const Program& program, int images, const Options& options, uint64_t seed,
                             float tolerance = 0, bool* ran = nullptr) {
  std::shared_ptr<const Model> model;
  try {
    model = Model::prepare(program, options);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kUnsupported && options.family)
      return;  // a family may refuse a layer, by name
    throw;
  }
  if (ran != nullptr) *ran = true;
  Session session(model);
  const std::vector<float> input = testing::random_input(program, images, seed);
  Outputs outputs(program, images);
  session.run(input, images, outputs.spans);
  const size_t in_elems = elements(program, program.input);
  for (int image = 0; image < images; ++image) {
    const auto one = std::span(input).subspan(static_cast<size_t>(image) * in_elems, in_elems);
    const program::ReferenceTensors expected = program::run_reference(program, one);
    for (size_t i = 0; options.keep_all_tensors && i < program.tensors.size(); ++i) {
      const auto id = static_cast<TensorId>(i);
      if (program.tensors[i].code) {
        ASSERT_EQ(session.codes(id, image), expected.codes[i])
            << "tensor " << i << " of " << describe(program, id);
        continue;
      }
      const std::vector<float> values = session.values(id, image);
      ASSERT_EQ(values.size(), expected.floats[i].size());
      for (size_t k = 0; k < values.size(); ++k) {
        ASSERT_TRUE(same(values[k], expected.floats[i][k], tolerance))
            << "tensor " << i << " of " << describe(program, id) << " at " << k << ": " << values[k]
            << ", expected " << expected.floats[i][k];
      }
    }
    for (size_t i = 0; i < program.outputs.size(); ++i) {
      const auto id = static_cast<size_t>(program.outputs[i]);
      const size_t count = elements(program, program.outputs[i]);
      for (size_t k = 0; k < count; ++k) {
        const float value = program.tensors[id].code
                                ? quant::dequantize(expected.codes[id][k], *program.tensors[id].code)
                                : expected.floats[id][k];
        ASSERT_TRUE(same(outputs.values[i][static_cast<size_t>(image) * count + k], value, tolerance))
            << "output " << i << " at " << k;
      }
    }
  }
}

TEST(Session, ConvolutionWithResidualByHand) {
  ProgramBuilder b;
  const TensorId x = b.input({1, 2, 2});
  const TensorId q = b.add(program::Elementwise{}, {x}, {1, 2, 2}, quant::CodeType{2, -1, 0.5f});
  program::Conv conv;
  conv.window = {.kernel_h = 1, .kernel_w = 2, .pad_left = 1};
  conv.oc = 1;
  conv.weights = testing::code_weights(2, {1, -2}, {3, 0});  // w = 1, -2
  conv.mul = {0.25f};
  conv.add = {0.5f};
  const TensorId y = b.add(conv, {q}, {1, 2, 2}, quant::CodeType{3, 0, 0.25f},
                           {testing::binary(program::StepKind::kAdd, q),
                            testing::clip(0, std::numeric_limits<float>::infinity())});
  Options options;
  options.keep_all_tensors = true;
  Session session(Model::prepare(b.build({y}), options));
  std::vector<float> out(4);
  session.run(std::vector<float>{0.25f, 0.75f, -4.5f, 4.5f}, 1, out);
  EXPECT_EQ(session.codes(q, 0), (std::vector<uint8_t>{1, 3, 0, 3}));
  // Integers 0 2 / -1 2; acc 0, -4, 2, -5; y = acc / 4 + 0.5 plus the shortcut 0, 1, -0.5, 1: 0.5, 0.5, 0.5,
  // 0.25.
  EXPECT_EQ(session.codes(y, 0), (std::vector<uint8_t>{2, 2, 2, 1}));
  EXPECT_EQ(out, (std::vector<float>{0.5f, 0.5f, 0.5f, 0.25f}));
}

TEST(Session, RandomProgramsEqualTheReference) {
  for (uint64_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE(seed);
    Options options;
    options.threads = 1 + static_cast<int>(seed % 2);
    options.isa = available_isas()[seed / 2 % available_isas().size()];
    options.max_batch = seed % 3 == 0 ? 1 : 4;
    options.keep_all_tensors = seed % 4 != 3;
    const int images = options.max_batch == 1 ? 1 : 1 + static_cast<int>(seed / 3 % 4);
    ASSERT_NO_FATAL_FAILURE(expect_equals_reference(testing::random_program(seed), images, options, seed));
  }
}

TEST(Session, EveryFamilyAndInstructionSetEqualsTheReference) {
  for (kernels::Family family :
       {kernels::Family::kReference, kernels::Family::kBitplane, kernels::Family::kInt8}) {
    int runs = 0;
    for (Isa isa : available_isas()) {
      for (uint64_t seed = 1000; seed < 1008; ++seed) {
        SCOPED_TRACE(::testing::Message()
                     << kernels::to_string(family) << " " << to_string(isa) << " " << seed);
        Options options;
        options.threads = 2;
        options.isa = isa;
        options.max_batch = 3;
        options.family = family;
        options.keep_all_tensors = true;
        bool ran = false;
        ASSERT_NO_FATAL_FAILURE(
            expect_equals_reference(testing::random_program(seed), 3, options, seed, 0, &ran));
        runs += ran;
      }
    }
    EXPECT_GE(runs, 4) << kernels::to_string(family);
  }
}

// Float layers, softmax, products and functions, one at a time: what follows them may differ by whole codes.
TEST(Session, FloatOpsAreCloseToTheReference) {
  ProgramBuilder b;
  Random random(5, 5);
  const auto reals = [&](size_t count) {
    std::vector<float> values(count);
    for (float& v : values) v = static_cast<float>(2 * random.uniform() - 1);
    return values;
  };
  const TensorId x = b.input({6, 5, 7});
  program::Conv conv;
  conv.window = {.kernel_h = 3, .kernel_w = 2, .stride_h = 2, .pad_top = 1, .pad_bottom = 1};
  conv.groups = 2;
  conv.oc = 4;
  conv.weights = program::FloatWeights{reals(4 * 3 * 3 * 2)};
  conv.add = reals(4);
  const TensorId c =
      b.add(conv, {x}, {4, 3, 6}, {}, {testing::clip(0, std::numeric_limits<float>::infinity())});
  program::Linear linear;
  linear.out = 5;
  linear.weights = program::FloatWeights{reals(5 * 6)};
  linear.add = reals(5);
  const TensorId l = b.add(linear, {c}, {4, 3, 5});
  std::vector<TensorId> outputs = {
      b.add(program::MatMul{}, {l, b.add(program::Transpose{{0, 2, 1}}, {l}, {4, 5, 3})}, {4, 3, 3})};
  for (int axis = 0; axis < 3; ++axis) outputs.push_back(b.add(program::Softmax{axis}, {x}, {6, 5, 7}));
  const TensorId flat = b.add(program::Reshape{}, {x}, {30, 7});
  outputs.push_back(b.add(program::MatMul{}, {flat, b.constant({7, 4}, reals(28))}, {30, 4}));
  for (int i = 1; i <= static_cast<int>(program::Function::kPower); ++i) {
    program::Step step;
    step.kind = program::StepKind::kFunction;
    step.function = static_cast<program::Function>(i);
    step.a = 2;
    outputs.push_back(b.add(program::Elementwise{}, {x}, {6, 5, 7}, {}, {step}));
  }
  const Program program = b.build(outputs);
  for (int threads : {1, 2}) {
    Options options;
    options.threads = threads;
    options.max_batch = 3;
    options.keep_all_tensors = threads == 1;
    expect_equals_reference(program, 2, options, 9, 1e-5f);
    expect_equals_reference(program, 3, options, 9, 1e-5f);
  }
}

// Rows longer than a tile, and broadcasts along every axis of them.
TEST(Session, LongRowsEqualTheReference) {
  ProgramBuilder b;
  const TensorId x = b.input({2, 5001});
  const auto constant = [&](Dims dims) {
    std::vector<float> values(static_cast<size_t>(program::elements(dims)));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 17) * 0.25f - 1;
    return b.constant(std::move(dims), values);
  };
  program::Step affine;
  affine.kind = program::StepKind::kAffine;
  affine.mul = {2, 3};
  affine.add = {1};
  const quant::CodeType code{8, -100, 0.05f};
  const TensorId y = b.add(program::Elementwise{}, {x}, {2, 5001}, code,
                           {affine, testing::binary(program::StepKind::kAdd, constant({5001})),
                            testing::binary(program::StepKind::kMultiply, constant({2, 1})),
                            testing::binary(program::StepKind::kSubtract, x)});
  const TensorId m = b.add(program::ReduceMean{{1}, false}, {y}, {2});
  const TensorId wide = b.add(program::Reshape{}, {y}, {10002, 1, 1}, code);
  const TensorId pooled = b.add(program::AveragePool{}, {wide}, {10002, 1, 1});
  Options options;
  options.max_batch = 2;
  options.keep_all_tensors = true;
  expect_equals_reference(b.build({m, pooled}), 2, options, 3);
}

// What random programs leave out: constants read as tensors, the input as an output, and an input broadcast
// by its operands.
TEST(Session, ConstantsAndBroadcastInputsEqualTheReference) {
  ProgramBuilder b;
  const TensorId x = b.input({3, 1, 2});
  const TensorId c = b.constant({3, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  const TensorId joined = b.add(program::Concat{1}, {x, c}, {3, 3, 2});
  const TensorId same_order = b.add(program::Reshape{}, {c}, {3, 4, 1});
  const TensorId turned = b.add(program::Reshape{}, {c}, {2, 3, 2});
  const TensorId wide = b.add(program::Elementwise{}, {x}, {3, 2, 2}, quant::CodeType{6, -20, 0.25f},
                              {testing::binary(program::StepKind::kMultiply, c)});
  const TensorId outer =
      b.add(program::Elementwise{}, {x}, {4, 3, 5, 2}, std::nullopt,
            {testing::binary(program::StepKind::kAdd, b.constant({4, 1, 5, 1}, std::vector<float>(20, 0.5f))),
             testing::binary(program::StepKind::kSubtract, b.add(program::Slice{1}, {x}, {3, 1, 2}))});
  for (int threads : {1, 2}) {
    Options options;
    options.threads = threads;
    options.max_batch = 3;
    options.keep_all_tensors = threads == 1;
    expect_equals_reference(b.build({c, x, joined, same_order, turned, wide, outer}), 2, options, 4);
  }
}

Program convolutions() {
  ProgramBuilder b;
  const quant::CodeType code{4, 0, 0.25f};
  TensorId x = b.add(program::Elementwise{}, {b.input({3, 16, 16})}, {3, 16, 16}, code);
  int64_t ic = 3;
  for (int layer = 0; layer < 4; ++layer) {
    program::Conv conv;
    conv.window = {
        .kernel_h = 3, .kernel_w = 3, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1};
    conv.oc = 16;
    std::vector<uint8_t> codes(static_cast<size_t>(16 * ic * 9));
    for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(mix64(i) % 4);
    conv.weights = testing::code_weights(2, {1, -2}, codes);
    conv.mul.assign(16, 0.01f);
    conv.add.assign(16, 0.125f);
    std::vector<program::Step> steps;
    if (layer > 0) steps.push_back(testing::binary(program::StepKind::kAdd, x));
    steps.push_back(testing::clip(0, std::numeric_limits<float>::infinity()));
    x = b.add(conv, {x}, {16, 16, 16}, code, steps);
    ic = 16;
  }
  return b.build({b.add(program::ReduceMean{{1, 2}, false}, {x}, {16})});
}

TEST(Session, RunAllocatesNothing) {
  const Program program = convolutions();
  for (kernels::Family family : {kernels::Family::kReference, kernels::Family::kBitplane}) {
    Options options;
    options.max_batch = 4;
    options.family = family;
    Session session(Model::prepare(program, options));
    const std::vector<float> input = testing::random_input(program, 4, 1);
    std::vector<float> output(4 * 16);
    const std::span<float> span(output);
    session.run(input, 4, span);
    const long before = allocations;
    session.run(input, 4, span);
    EXPECT_EQ(allocations, before) << kernels::to_string(family);
  }
}

TEST(Session, RandomProgramsRunWithoutAllocating) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const Program program = testing::random_program(seed);
    Options options;
    options.family = kernels::Family::kReference;
    Session session(Model::prepare(program, options));
    const std::vector<float> input = testing::random_input(program, 1, 1);
    Outputs outputs(program, 1);
    const long before = allocations;
    session.run(input, 1, outputs.spans);
    EXPECT_EQ(allocations, before) << seed;
  }
}

TEST(Session, ReusesMemoryWithoutOverlap) {
  const Program program = convolutions();
  Options options;
  options.max_batch = 2;
  const auto model = Model::prepare(program, options);
  options.keep_all_tensors = true;
  EXPECT_LT(model->arena_bytes(), Model::prepare(program, options)->arena_bytes());
  const auto& blocks = dynamic_cast<const PreparedModel&>(*model).blocks();
  for (size_t i = 0; i < blocks.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const Block &a = blocks[i], &b = blocks[j];
      if (a.last < b.first || b.last < a.first || a.size_bytes == 0 || b.size_bytes == 0) continue;
      EXPECT_TRUE(a.offset_bytes + a.size_bytes <= b.offset_bytes ||
                  b.offset_bytes + b.size_bytes <= a.offset_bytes);
    }
  }
}

TEST(Session, SessionsShareAModelAcrossThreads) {
  const Program program = convolutions();
  Options options;
  options.max_batch = 2;
  const auto model = Model::prepare(program, options);
  const std::vector<float> input = testing::random_input(program, 2, 7);
  std::vector<float> expected(2 * 16);
  Session(model).run(input, 2, expected);
  std::vector<std::vector<float>> found(2, std::vector<float>(2 * 16));
  std::vector<std::thread> threads;
  for (auto& output : found) {
    threads.emplace_back([&] {
      Session session(model);
      for (int i = 0; i < 20; ++i) session.run(input, 2, output);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& output : found) EXPECT_EQ(output, expected);
}

TEST(Session, ProfileTimesEveryOp) {
  const Program program = convolutions();
  const auto model = Model::prepare(program, {});
  Session session(model);
  const std::vector<float> input = testing::random_input(program, 1, 7);
  Outputs profiled(program, 1), plain(program, 1);
  const std::vector<OpTime> times = session.profile(input, 1, profiled.spans);
  session.run(input, 1, plain.spans);
  EXPECT_EQ(profiled.values, plain.values);
  ASSERT_EQ(times.size(), program.ops.size());
  for (size_t i = 0; i < times.size(); ++i) {
    EXPECT_EQ(times[i].op_index, i);
    EXPECT_GE(times[i].milliseconds, 0);
  }
  EXPECT_EQ(model->kernel_name(0), "-");
  EXPECT_TRUE(model->kernel_name(1).starts_with("conv_"));
}

TEST(Session, RefusesWrongSizes) {
  const Program program = convolutions();
  Options options;
  options.max_batch = 2;
  Session session(Model::prepare(program, options));
  std::vector<float> input(3 * 16 * 16), output(16);
  const auto code_of = [](const auto& body) {
    try {
      body();
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::kInternal;
  };
  std::span<float> out(output);
  Options wrong_threads, wrong_batch;
  wrong_threads.threads = 0;
  wrong_batch.max_batch = 0;
  EXPECT_EQ(code_of([&] { session.run(input, 0, out); }), ErrorCode::kBadInput);
  EXPECT_EQ(code_of([&] { session.run(input, 3, out); }), ErrorCode::kBadInput);
  EXPECT_EQ(code_of([&] { session.run(input, 2, out); }), ErrorCode::kBadInput);
  EXPECT_EQ(code_of([&] { session.run(std::span(input).first(5), 1, out); }), ErrorCode::kBadInput);
  EXPECT_EQ(code_of([&] { session.run(input, 1, out.first(3)); }), ErrorCode::kBadInput);
  EXPECT_EQ(code_of([&] { session.run(input, 1, std::span<const std::span<float>>()); }),
            ErrorCode::kBadInput);
  EXPECT_EQ(code_of([&] { session.values(0, 0); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { Model::prepare(program, wrong_threads); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { Model::prepare(program, wrong_batch); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { Model::prepare(Program{}, {}); }), ErrorCode::kCorruptFile);
  EXPECT_EQ(code_of([&] { Session empty(nullptr); }), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace bitstrata::runtime
