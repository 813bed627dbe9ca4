#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <limits>

#include "core/error.h"
#include "core/file.h"
#include "format/bst.h"
#include "tests/support/random_program.h"
#include "tests/unit/format/program_builder.h"
#include "tests/unit/format/program_difference.h"
#include "tests/unit/format/sample_programs.h"

namespace bitstrata::format {
namespace {

void expect_round_trip(const program::Program& program) {
  const auto bytes = encode(program);
  const auto decoded = decode(bytes, "test");
  EXPECT_EQ(first_difference(program, decoded), "");
  EXPECT_EQ(encode(decoded), bytes);
  EXPECT_TRUE(looks_like_bst(bytes));
}

TEST(RoundTrip, TinyProgram) {
  expect_round_trip(tiny_program());
}
TEST(RoundTrip, EveryKindOfOpStepAndWeights) {
  expect_round_trip(every_kind_program());
}
TEST(RoundTrip, ResNet20) {
  expect_round_trip(resnet20_like_program());
}

TEST(RoundTrip, RandomPrograms) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SCOPED_TRACE(seed);
    expect_round_trip(testing::RandomProgram(seed, {.inexact = seed % 2 == 1}).make());
  }
}

TEST(RoundTrip, SampleHasEveryKindAndStep) {
  std::vector<int> kinds(std::variant_size_v<program::Kind>),
      steps(static_cast<size_t>(program::StepKind::kFunction) + 1);
  for (const auto& op : every_kind_program().ops) {
    ++kinds[op.kind.index()];
    for (const auto& step : op.steps) ++steps[static_cast<size_t>(step.kind)];
  }
  EXPECT_EQ(std::count(kinds.begin(), kinds.end(), 0), 0);
  EXPECT_EQ(std::count(steps.begin(), steps.end(), 0), 0);
}

TEST(RoundTrip, NamesOfAnyBytesAndSizes) {
  auto program = tiny_program();
  program.tensors[0].name = std::string("nul\0inside", 10);
  program.tensors[1].name = std::string(100000, 'n');
  program.ops[0].name = "\xff\xfe not UTF-8";
  program.metadata["\xf0\x9f\xa6\x86"] = std::string(70000, '\xce');
  program.class_names.assign(1000, "cat");
  expect_round_trip(program);
}

TEST(RoundTrip, ContentThatCompressesTooWellIsStoredAsIs) {
  ProgramBuilder b;
  b.program.input = b.tensor("x", {1 << 18});
  const auto zeros = b.constant("zeros", {1 << 18}, std::vector<float>(1 << 18));
  b.program.outputs = {
      b.op("add", program::Elementwise{}, {0}, {1 << 18}, {}, {binary_step(program::StepKind::kAdd, zeros)})};
  expect_round_trip(b.program);
}

TEST(RoundTrip, ExtremeNumbers) {
  ProgramBuilder b;
  b.program.input = b.tensor("x", {4, 1, 1});
  program::TensorId x =
      b.op("slice", program::Slice{.axis = 0, .start = 3, .step = -program::kMaxElements}, {0}, {1, 1, 1});
  x = b.op("clip", program::Elementwise{}, {x}, {1, 1, 1}, quant::CodeType{8, -255, 1e-38f},
           {step(program::StepKind::kClip, -std::numeric_limits<float>::infinity(),
                 std::numeric_limits<float>::denorm_min())});
  const auto type = *b.program.tensors[static_cast<size_t>(x)].code;
  b.program.outputs = {b.op(
      "pad",
      program::Pad{
          .before = {1 << 30, 0, 0}, .after = {7, 0, 0}, .value = -std::numeric_limits<float>::infinity()},
      {x}, {(1 << 30) + 8, 1, 1}, type)};
  expect_round_trip(b.program);
}

TEST(RoundTrip, InvalidProgramIsNotEncoded) {
  auto program = tiny_program();
  program.outputs = {99};
  EXPECT_THROW(encode(program), Error);
}

TEST(RoundTrip, MoreMetadataThanTheFormatHoldsIsRefused) {
  const int64_t count = 17 << 20;
  ProgramBuilder b;
  b.program.input = b.tensor("x", {1});
  const program::Gather gather{.axis = 0, .indices = std::vector<int64_t>(count)};
  b.program.outputs = {b.op("gather", gather, {0}, {count})};
  try {
    encode(b.program);
    FAIL() << "68 MiB of indices were encoded";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
  }
}

TEST(Size, ResNet20At4BitsFitsItsBudget) {
  const auto program = resnet20_like_program();
  size_t packed_bytes = 0, channels = 0;
  for (const auto& op : program.ops) {
    const auto count = [&](const auto& layer) {
      packed_bytes += std::get<program::CodeWeights>(layer.weights).packed.size();
      channels += layer.mul.size();
    };
    if (const auto* conv = std::get_if<program::Conv>(&op.kind)) count(*conv);
    if (const auto* linear = std::get_if<program::Linear>(&op.kind)) count(*linear);
  }
  ASSERT_EQ(packed_bytes, 134168u);
  ASSERT_EQ(channels, 698u);
  const auto size_bytes = encode(program).size();
  RecordProperty("size_bytes", static_cast<int>(size_bytes));
  EXPECT_LE(size_bytes, 143112u);
}

std::filesystem::path golden(const char* name) {
  return std::filesystem::path(BITSTRATA_SOURCE_DIR) / "tests" / "golden" / "v1" / name;
}

TEST(Golden, Version1FilesAreRead) {
  EXPECT_EQ(first_difference(read(golden("tiny.bst")), tiny_program()), "");
  EXPECT_EQ(first_difference(read(golden("every-kind.bst")), every_kind_program()), "");
}

TEST(File, WriteAndRead) {
  const auto folder = std::filesystem::temp_directory_path() / ("format_test." + std::to_string(::getpid()));
  make_folders(folder);
  const auto path = folder / "model.bst";
  write(path, tiny_program());
  EXPECT_EQ(first_difference(read(path), tiny_program()), "");
  std::filesystem::remove_all(folder);
  try {
    read(path);
    FAIL() << "a missing file was read";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
    EXPECT_NE(std::string(error.what()).find(path.string()), std::string::npos);
  }
}

}  // namespace
}  // namespace bitstrata::format
