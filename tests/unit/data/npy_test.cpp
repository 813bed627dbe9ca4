#include "data/npy.h"

#include <cstring>

#include "core/file.h"
#include "files.h"

namespace bitstrata::data::test {
namespace {

using NpyTest = FilesTest;

/// A version 1 or 2 file of `header` (unpadded) and `data`.
Bytes npy_file(int version, const std::string& header, const Bytes& data) {
  Bytes file = {0x93, 'N', 'U', 'M', 'P', 'Y', static_cast<uint8_t>(version), 0};
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i)
    file.push_back(static_cast<uint8_t>(header.size() >> (8 * i)));
  file.insert(file.end(), header.begin(), header.end());
  file.insert(file.end(), data.begin(), data.end());
  return file;
}

TEST_F(NpyTest, FloatsRoundTrip) {
  const std::vector<float> values = {1.5f, -2.0f, 3e-30f, 4e30f, 0.0f, -0.25f};
  write_npy(dir_ / "a.npy", {1, 2, 3}, values);
  const NpyArray array = read_npy(dir_ / "a.npy");
  EXPECT_EQ(array.shape, (std::vector<int64_t>{1, 2, 3}));
  EXPECT_EQ(array.dtype(), "<f4");
  EXPECT_EQ(array.num_elems(), 6);
  EXPECT_EQ(array.to_float("a"), values);
  EXPECT_EQ(read_file(dir_ / "a.npy", 1000).size(), 128u + 24u) << "NumPy pads the header to 64 bytes";
}

TEST_F(NpyTest, HeaderIsWhatNumPyWrites) {
  NpyArray array;
  array.shape = {2};
  array.bytes.resize(8);
  const Bytes bytes = serialize_npy(array);
  const std::string header(bytes.begin() + 10, bytes.begin() + 128);
  EXPECT_EQ(header,
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }" + std::string(60, ' ') + "\n");
}

TEST_F(NpyTest, AllRanksRoundTrip) {
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{}, {3}, {0}, {2, 0, 4}, {1, 2, 3, 4, 5}}) {
    NpyArray array;
    array.kind = 'u', array.item_bytes = 1, array.shape = shape;
    size_t count = 1;
    for (const int64_t extent : shape) count *= static_cast<size_t>(extent);
    array.bytes = Bytes(count, 7);
    const NpyArray again = parse_npy(serialize_npy(array), "a");
    EXPECT_EQ(again.shape, shape);
    EXPECT_EQ(again.bytes, array.bytes);
  }
}

TEST_F(NpyTest, IntegersOfAllTypes) {
  const auto read = [](const std::string& descr, const Bytes& data) {
    return parse_npy(
               npy_file(2, "{\"descr\":\"" + descr + "\",\"shape\":(1,),\"fortran_order\":False}\n", data),
               "y")
        .to_int64("y");
  };
  EXPECT_EQ(read("|u1", {200})[0], 200);
  EXPECT_EQ(read("|i1", {200})[0], -56);
  EXPECT_EQ(read("<u2", {1, 2})[0], 513);
  EXPECT_EQ(read("<i2", {0xff, 0xff})[0], -1);
  EXPECT_EQ(read("<u4", {0xff, 0xff, 0xff, 0xff})[0], 4294967295);
  EXPECT_EQ(read("<i4", {0xff, 0xff, 0xff, 0xff})[0], -1);
  EXPECT_EQ(read("<i8", {5, 0, 0, 0, 0, 0, 0, 0})[0], 5);
  EXPECT_EQ(read("<u8", {5, 0, 0, 0, 0, 0, 0, 0})[0], 5);
  expect_error(ErrorCode::kBadInput, "out of range", [&] { read("<u8", Bytes(8, 0xff)); });
  expect_error(ErrorCode::kBadInput, "expected integers", [&] { read("<f4", Bytes(4)); });
}

TEST_F(NpyTest, EveryPrefixAndExtraByteIsRefused) {
  NpyArray array;
  array.shape = {2, 3};
  array.bytes = Bytes(24, 1);
  for (Bytes file : {serialize_npy(array),
                     npy_file(2, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", array.bytes)}) {
    for (size_t count = 0; count < file.size(); ++count) {
      EXPECT_THROW(parse_npy(std::span(file).first(count), "cut"), Error) << count;
    }
    file.push_back(0);
    expect_error(ErrorCode::kCorruptFile, "long.npy is too long", [&] { parse_npy(file, "long.npy"); });
  }
}

TEST_F(NpyTest, FlippedHeaderBytesNeverCrash) {
  NpyArray array;
  array.shape = {2, 3};
  array.bytes = Bytes(24, 1);
  const Bytes file = serialize_npy(array);
  for (size_t at = 0; at < 128; ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      Bytes damaged = file;
      damaged[at] ^= static_cast<uint8_t>(1 << bit);
      try {
        const NpyArray read = parse_npy(damaged, "flipped");
        EXPECT_EQ(read.bytes.size(), 24u) << "only a header that still fits the bytes may pass";
      } catch (const Error&) {
      }
    }
  }
}

TEST_F(NpyTest, WrongHeadersAreRefused) {
  const auto parse = [](const std::string& header) { parse_npy(npy_file(1, header, Bytes(4)), "bad.npy"); };
  const std::string rest = ", 'fortran_order': False, 'shape': (1,)}";
  EXPECT_NO_THROW(parse("{'descr': '<f4'" + rest));
  expect_error(ErrorCode::kUnsupported, "'>f4'", [&] { parse("{'descr': '>f4'" + rest); });
  expect_error(ErrorCode::kUnsupported, "'|O'", [&] { parse("{'descr': '|O'" + rest); });
  expect_error(ErrorCode::kUnsupported, "structured", [&] { parse("{'descr': [('a', '<f4')]" + rest); });
  expect_error(ErrorCode::kUnsupported, "Fortran order",
               [&] { parse("{'descr': '<f4', 'fortran_order': True, 'shape': (1,)}"); });
  for (const std::string shape : {"(1", "(-1,)", "(1.5,)", "(99999999999999999999,)", "1", "(a,)", "(,)"}) {
    expect_error(ErrorCode::kCorruptFile, "bad.npy",
                 [&] { parse("{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + "}"); });
  }
  // 2^48 * 2^48 elements wrap around 64 bits.
  expect_error(ErrorCode::kCorruptFile, "truncated", [&] {
    parse("{'descr': '<f4', 'fortran_order': False, 'shape': (281474976710656, 281474976710656)}");
  });
  expect_error(ErrorCode::kCorruptFile, "bad.npy", [&] { parse("{'descr': '<f4'}"); });
  expect_error(ErrorCode::kCorruptFile, "bad.npy", [&] { parse("{'descr': '<f4', 'descr': '<f4'" + rest); });
  expect_error(ErrorCode::kCorruptFile, "bad.npy", [&] { parse("{'descr': '<f4'" + rest + "x"); });
  expect_error(ErrorCode::kCorruptFile, "bad.npy", [&] { parse(""); });
  expect_error(ErrorCode::kUnsupported, "version 3.0", [&] { parse_npy(npy_file(3, "{}", {}), "bad.npy"); });
  Bytes huge_header = npy_file(2, "{}", {});
  huge_header[11] = 0xff;
  expect_error(ErrorCode::kCorruptFile, "claims a header", [&] { parse_npy(huge_header, "bad.npy"); });
}

TEST_F(NpyTest, FloatsMustBeFiniteFloat32) {
  const float nan[] = {1.0f, NAN};
  write_npy(dir_ / "nan.npy", {2}, nan);
  expect_error(ErrorCode::kBadInput, "at element 1", [&] { read_npy(dir_ / "nan.npy").to_float("nan.npy"); });
  const NpyArray wide =
      parse_npy(npy_file(1, "{'descr': '<f8', 'fortran_order': False, 'shape': ()}", Bytes(8)), "w");
  expect_error(ErrorCode::kBadInput, "'<f8'", [&] { wide.to_float("wide.npy"); });
}

TEST_F(NpyTest, WritingChecksTheShape) {
  const float value = 1.0f;
  expect_error(ErrorCode::kInvalidArgument, "[2]", [&] { write_npy(dir_ / "a.npy", {2}, {&value, 1}); });
  expect_error(ErrorCode::kIo, "absent", [&] { write_npy(dir_ / "absent" / "a.npy", {1}, {&value, 1}); });
}

}  // namespace
}  // namespace bitstrata::data::test
