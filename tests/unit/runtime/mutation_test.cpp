// Programs with one number changed: each is refused as corrupt, or runs as the reference does. Nothing
// crashes (run it under sanitizers).
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "core/error.h"
#include "program/reference.h"
#include "runtime/session.h"
#include "tests/support/random_program.h"

namespace bitstrata::runtime {
namespace {

using program::Program;
using program::TensorId;

/// Setters of every integer of a program.
class Numbers {
 public:
  explicit Numbers(Program& p) {
    add(p.input);
    add_all(p.outputs);
    for (auto& tensor : p.tensors) {
      add_all(tensor.dims);
      if (tensor.code) add(tensor.code->bits), add(tensor.code->zero);
    }
    for (auto& constant : p.constants) add(constant.tensor);
    for (auto& op : p.ops) {
      add_all(op.inputs);
      add_all(op.outputs);
      for (auto& step : op.steps) add(step.operand);
      std::visit([&](auto& kind) { visit(kind); }, op.kind);
    }
  }

  std::vector<std::function<void(int64_t)>> setters;

 private:
  template <typename T>
  void add(T& number) {
    setters.push_back([&number](int64_t value) { number = static_cast<T>(value); });
  }
  template <typename T>
  void add_all(std::vector<T>& numbers) {
    for (T& number : numbers) add(number);
  }
  void visit(program::Window& w) {
    for (int* field : {&w.kernel_h, &w.kernel_w, &w.stride_h, &w.stride_w, &w.dilation_h, &w.dilation_w,
                       &w.pad_top, &w.pad_left, &w.pad_bottom, &w.pad_right}) {
      add(*field);
    }
  }
  void visit(program::Weights& weights) {
    auto* codes = std::get_if<program::CodeWeights>(&weights);
    if (codes != nullptr) add(codes->bits), add(codes->grid.mul), add(codes->grid.offset);
  }
  void visit(program::Conv& conv) { visit(conv.window), visit(conv.weights), add(conv.groups), add(conv.oc); }
  void visit(program::Linear& linear) { visit(linear.weights), add(linear.out); }
  void visit(program::AveragePool& pool) { visit(pool.window); }
  void visit(program::MaxPool& pool) { visit(pool.window); }
  void visit(program::ReduceMean& mean) { add_all(mean.axes); }
  void visit(program::Softmax& softmax) { add(softmax.axis); }
  void visit(program::Concat& concat) { add(concat.axis); }
  void visit(program::Slice& slice) { add(slice.axis), add(slice.start), add(slice.step); }
  void visit(program::Pad& pad) { add_all(pad.before), add_all(pad.after); }
  void visit(program::Transpose& transpose) { add_all(transpose.perm); }
  void visit(program::Gather& gather) { add(gather.axis), add_all(gather.indices); }
  template <typename Other>
  void visit(Other&) {}
};

TEST(Mutation, ChangedProgramsAreRefusedOrRun) {
  constexpr int64_t kValues[] = {-1,
                                 0,
                                 1,
                                 2,
                                 3,
                                 4,
                                 7,
                                 100,
                                 std::numeric_limits<int32_t>::max(),
                                 std::numeric_limits<int32_t>::min(),
                                 (int64_t{1} << 32) + 1,
                                 std::numeric_limits<int64_t>::max(),
                                 std::numeric_limits<int64_t>::min()};
  int refused = 0, ran = 0;
  for (uint64_t seed = 0; seed < 4000; ++seed) {
    SCOPED_TRACE(seed);
    Program program = testing::random_program(seed % 40, {.ops = 6});
    const Numbers numbers(program);
    Random random(seed, 3);
    numbers.setters[random.below(numbers.setters.size())](kValues[random.below(std::size(kValues))]);
    try {
      program::validate(program);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorruptFile);
      ++refused;
      continue;
    }
    if (seed % 8 != 0) continue;  // most changes that pass are no changes
    ++ran;
    Options options;
    options.family = kernels::Family::kReference;
    options.keep_all_tensors = true;
    Session session(Model::prepare(program, options));
    const std::vector<float> input = testing::random_input(program, 1, seed);
    std::vector<std::vector<float>> outputs;
    for (TensorId id : program.outputs)
      outputs.emplace_back(program::elements(program.tensors[static_cast<size_t>(id)].dims));
    const std::vector<std::span<float>> spans(outputs.begin(), outputs.end());
    session.run(input, 1, spans);
    const program::ReferenceTensors expected = program::run_reference(program, input);
    for (size_t i = 0; i < program.tensors.size(); ++i) {
      if (!program.tensors[i].code) continue;
      ASSERT_EQ(session.codes(static_cast<TensorId>(i), 0), expected.codes[i]) << i;
    }
  }
  EXPECT_GT(refused, 1000);
  EXPECT_GT(ran, 20);
}

}  // namespace
}  // namespace bitstrata::runtime
