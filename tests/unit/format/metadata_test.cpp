#include "format/metadata.h"

#include <gtest/gtest.h>

#include <limits>

#include "core/random.h"
#include "model_generated.h"
#include "tests/unit/format/largest_allocation.h"
#include "tests/unit/format/refusal.h"
#include "tests/unit/format/sample_programs.h"

namespace bitstrata::format {
namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;
using OpOffsets = std::vector<Offset<fbs::Op>>;

/// A file around hand-made metadata, with right checksums.
std::vector<uint8_t> file_of(FlatBufferBuilder& b, Offset<fbs::Model> model, size_t weight_bytes = 0,
                             size_t float_bytes = 0) {
  b.Finish(model);
  return pack_sections({{b.GetBufferPointer(), b.GetBufferPointer() + b.GetSize()},
                        std::vector<uint8_t>(weight_bytes),
                        std::vector<uint8_t>(float_bytes)},
                       Compression::kNone);
}

std::vector<uint8_t> file_with_ops(FlatBufferBuilder& b, const OpOffsets& ops, size_t weight_bytes = 0,
                                   size_t float_bytes = 0) {
  const auto vector = b.CreateVector(ops);
  return file_of(b, fbs::CreateModel(b, 0, 0, 0, 0, vector), weight_bytes, float_bytes);
}

Offset<fbs::Op> op_of(FlatBufferBuilder& b, fbs::Kind type, Offset<void> kind) {
  return fbs::CreateOp(b, type, kind);
}

void expect_refusal(const std::vector<uint8_t>& bytes, const std::string& part) {
  const auto message = refusal(bytes, part);
  EXPECT_NE(message.find(part), std::string::npos) << message;
}

TEST(Metadata, VectorsUsedManyTimesDoNotMultiply) {
  // A thousand ops that share one table, whose inputs are one vector of 100,000 entries: 400 kB that would
  // become 400 MB.
  FlatBufferBuilder b;
  const auto inputs = b.CreateVector(std::vector<int>(100000, 1));
  const auto kind = fbs::CreateReshape(b).Union();
  const auto shared = fbs::CreateOp(b, fbs::Kind::Reshape, kind, inputs);
  const auto bytes = file_with_ops(b, OpOffsets(1000, shared));
  reset_largest_allocation();
  expect_refusal(bytes, "together exceed");
  EXPECT_LE(largest_allocation(), 2 * bytes.size());
}

TEST(Metadata, TablesUsedManyTimesAreLimited) {
  FlatBufferBuilder b;
  const auto shared = op_of(b, fbs::Kind::Reshape, fbs::CreateReshape(b).Union());
  expect_refusal(file_with_ops(b, OpOffsets(100000, shared)), "not a valid FlatBuffer");
}

TEST(Metadata, ArraysBeyondTheirSectionsAreRefused) {
  constexpr uint32_t kHuge = std::numeric_limits<uint32_t>::max();
  for (const uint32_t size : {11u, kHuge}) {
    FlatBufferBuilder b;
    expect_refusal(file_with_ops(b, {op_of(b, fbs::Kind::Lookup, fbs::CreateLookup(b, size).Union())}, 0, 40),
                   "holds 10 elements");
    FlatBufferBuilder c;
    const fbs::Weights weights(size, 1, -8, 4);
    expect_refusal(
        file_with_ops(c, {op_of(c, fbs::Kind::Linear, fbs::CreateLinear(c, &weights, 1).Union())}, 10),
        "holds 10 bytes");
    FlatBufferBuilder d;
    expect_refusal(file_of(d, fbs::CreateModel(d, 0, 0, 0, 0, 0, 0, 0, 0, 0, size)), "names");
    FlatBufferBuilder e;
    expect_refusal(file_of(e, fbs::CreateModel(e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, size)), "names");
    FlatBufferBuilder f;
    const auto sizes = f.CreateVector(std::vector<uint32_t>{size});
    const auto name_bytes = f.CreateVector(std::vector<uint8_t>(10, 'x'));
    expect_refusal(file_of(f, fbs::CreateModel(f, name_bytes, sizes, 0, 0, 0, 0, 0, 0, 0, 1)), "are left");
  }
}

TEST(Metadata, UnusedContentIsRefused) {
  FlatBufferBuilder b;
  expect_refusal(file_of(b, fbs::CreateModel(b), 0, 4), "section floats has 4 bytes");
  FlatBufferBuilder c;
  expect_refusal(file_of(c, fbs::CreateModel(c), 1, 0), "section weights has 1 bytes");
  FlatBufferBuilder d;
  expect_refusal(file_of(d, fbs::CreateModel(d), 0, 3), "multiple of 4");
  FlatBufferBuilder e;
  const auto name_bytes = e.CreateVector(std::vector<uint8_t>(10, 'x'));
  expect_refusal(file_of(e, fbs::CreateModel(e, name_bytes)), "names take 0 bytes");
}

TEST(Metadata, UnknownKindsAndStepsAreRefused) {
  FlatBufferBuilder b;
  expect_refusal(file_with_ops(b, {op_of(b, static_cast<fbs::Kind>(99), fbs::CreateReshape(b).Union())}),
                 "kind 99");
  FlatBufferBuilder c;
  expect_refusal(file_with_ops(c, {op_of(c, fbs::Kind::Reshape, 0)}), "no kind");
  for (const auto& step :
       {fbs::Step(-1, 0, 0, 0, 0, static_cast<fbs::StepKind>(12), fbs::Function::None),
        fbs::Step(-1, 0, 0, 0, 0, fbs::StepKind::Function, static_cast<fbs::Function>(15))}) {
    FlatBufferBuilder d;
    const auto steps = d.CreateVectorOfStructs(&step, 1);
    const auto kind = fbs::CreateElementwise(d).Union();
    expect_refusal(file_with_ops(d, {fbs::CreateOp(d, fbs::Kind::Elementwise, kind, 0, steps)}), "step kind");
  }
}

TEST(Metadata, TensorsHaveOneSpelling) {
  const auto file_with_tensor = [](const fbs::Tensor& tensor) {
    FlatBufferBuilder b;
    const auto tensors = b.CreateVectorOfStructs(&tensor, 1);
    return file_of(b, fbs::CreateModel(b, 0, 0, tensors));
  };
  expect_refusal(file_with_tensor({std::array<uint32_t, 5>{1, 1, 1, 1, 1}, 0, 0, 0, 6}), "rank 6");
  expect_refusal(file_with_tensor({std::array<uint32_t, 5>{1, 1, 0, 0, 1}, 0, 0, 0, 2}), "a dim beyond it");
  expect_refusal(file_with_tensor({std::array<uint32_t, 5>{1, 0, 0, 0, 0}, 0.5f, 0, 0, 1}),
                 "has a code type");
}

TEST(Metadata, KeysMustRise) {
  for (const std::string names : {"ba", "aa"}) {
    FlatBufferBuilder b;
    const auto sizes = b.CreateVector(std::vector<uint32_t>{1, 0, 1, 0});
    const auto name_bytes = b.CreateVector(std::vector<uint8_t>(names.begin(), names.end()));
    expect_refusal(file_of(b, fbs::CreateModel(b, name_bytes, sizes, 0, 0, 0, 0, 0, 0, 0, 0, 2)), "in order");
  }
}

TEST(Metadata, ChangedBytesWithRightChecksumsNeverCrash) {
  // What passes must mean a program that can be written again.
  const Sections good = write_program(every_kind_program());
  Random random(1, 2);
  size_t accepted = 0, refused = 0;
  for (size_t i = 0; i < good.metadata.size(); ++i) {
    for (const uint8_t change : {uint8_t{0xff}, uint8_t{0x80}, static_cast<uint8_t>(1 + random.below(255))}) {
      Sections changed = good;
      changed.metadata[i] ^= change;
      try {
        write_program(decode(pack_sections(changed, Compression::kNone), "changed.bst"));
        ++accepted;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kCorruptFile) << error.what();
        ++refused;
      }
    }
  }
  EXPECT_GT(accepted, 0u);
  EXPECT_GT(refused, 0u);
}

}  // namespace
}  // namespace bitstrata::format
