#include "format/container.h"

#include <gtest/gtest.h>
#include <zstd.h>

#include <functional>
#include <numeric>

#include "core/file.h"
#include "tests/unit/format/largest_allocation.h"
#include "tests/unit/format/refusal.h"
#include "tests/unit/format/sample_programs.h"

namespace bitstrata::format {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr size_t kMetadataEntry = 24, kWeightsEntry = 56, kFloatsEntry = 88;
constexpr size_t kCodec = 4, kStoredBytes = 8, kRawBytes = 16, kChecksum = 24;

void put(Bytes& bytes, size_t offset, uint64_t value, size_t size) {
  for (size_t i = 0; i < size; ++i) bytes[offset + i] = static_cast<uint8_t>(value >> (8 * i));
}

/// A file with a changed header whose checksum is right.
Bytes with_header(Bytes bytes, const std::function<void(Bytes&)>& change) {
  change(bytes);
  put(bytes, 120, hash64(std::span(bytes).first(120)), 8);
  return bytes;
}

Sections sections() {
  Sections s;
  s.metadata.assign(1000, 7);
  s.weights = {1, 2, 3};
  s.floats.resize(400);
  std::iota(s.floats.begin(), s.floats.end(), uint8_t{0});
  return s;
}

TEST(Container, RoundTripWithAndWithoutCompression) {
  for (const auto compression : {Compression::kNone, Compression::kBest}) {
    const auto bytes = pack_sections(sections(), compression);
    const auto back = unpack_sections(bytes, "test");
    EXPECT_EQ(back.metadata, sections().metadata);
    EXPECT_EQ(back.weights, sections().weights);
    EXPECT_EQ(back.floats, sections().floats);
    if (compression == Compression::kNone) {
      EXPECT_EQ(bytes.size(), kHeaderBytes + 1403);
    }
  }
  EXPECT_LT(pack_sections(sections(), Compression::kBest).size(), kHeaderBytes + 500);
}

TEST(Container, EmptySections) {
  const auto bytes = pack_sections({}, Compression::kBest);
  EXPECT_EQ(bytes.size(), kHeaderBytes);
  EXPECT_TRUE(unpack_sections(bytes, "test").metadata.empty());
  refusal(bytes, "no metadata");
}

TEST(Container, OversizedClaimsAreRefusedBeforeAllocation) {
  const auto good = encode(tiny_program());
  std::vector<Bytes> hostile;
  for (const size_t entry : {kMetadataEntry, kWeightsEntry, kFloatsEntry}) {
    for (const uint64_t claim :
         {uint64_t{1} << 20, uint64_t{1} << 40, ~uint64_t{0}, ~uint64_t{0} / 16, ~uint64_t{0} - 127}) {
      for (const uint64_t codec : {0, 1}) {
        hostile.push_back(with_header(
            good, [&](Bytes& b) { put(b, entry + kCodec, codec, 4), put(b, entry + kRawBytes, claim, 8); }));
        hostile.push_back(with_header(good, [&](Bytes& b) {
          put(b, entry + kCodec, codec, 4), put(b, entry + kStoredBytes, claim, 8);
        }));
        hostile.push_back(with_header(good, [&](Bytes& b) {
          put(b, entry + kCodec, codec, 4), put(b, entry + kStoredBytes, claim, 8),
              put(b, entry + kRawBytes, claim, 8);
        }));
      }
    }
  }
  reset_largest_allocation();
  for (const auto& bytes : hostile) refusal(bytes);
  EXPECT_LE(largest_allocation(), 200u << 10);
}

TEST(Container, ZstdFrameMustMatchItsEntry) {
  auto file = pack_sections(sections(), Compression::kBest);
  ASSERT_EQ(file[kMetadataEntry + kCodec], 1);
  for (const uint64_t raw : {0, 1, 999, 1001, 60000}) {
    EXPECT_THROW(
        unpack_sections(with_header(file, [&](Bytes& b) { put(b, kMetadataEntry + kRawBytes, raw, 8); }),
                        "test"),
        Error)
        << raw;
  }
  // Random bytes where a frame should be, with a right checksum.
  const size_t stored = file[kMetadataEntry + kStoredBytes];
  for (size_t i = 0; i < stored; ++i) {
    const auto broken = with_header(file, [&](Bytes& b) {
      b[kHeaderBytes + i] ^= 0x55;
      put(b, kMetadataEntry + kChecksum, hash64(std::span(b).subspan(kHeaderBytes, stored)), 8);
    });
    try {
      EXPECT_EQ(unpack_sections(broken, "test").metadata.size(), 1000u);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorruptFile);
    }
  }
}

TEST(Container, DecompressionBombIsRefused) {
  // 32 MiB of zeros in about a kilobyte, all sizes and checksums right.
  const Bytes zeros(32u << 20);
  Bytes frame(ZSTD_compressBound(zeros.size()));
  frame.resize(ZSTD_compress(frame.data(), frame.size(), zeros.data(), zeros.size(), 3));
  auto bytes = pack_sections({frame, {}, {}}, Compression::kNone);
  bytes = with_header(bytes, [&](Bytes& b) {
    put(b, kMetadataEntry + kCodec, 1, 4), put(b, kMetadataEntry + kRawBytes, zeros.size(), 8);
  });
  reset_largest_allocation();
  EXPECT_NE(refusal(bytes).find("more than allowed"), std::string::npos);
  EXPECT_LE(largest_allocation(), 64u << 10);
}

TEST(Container, OtherHeaderFieldsAreChecked) {
  const auto good = encode(tiny_program());
  const auto refused = [&](size_t offset, uint64_t value, size_t size) {
    return refusal(with_header(good, [&](Bytes& b) { put(b, offset, value, size); }), std::to_string(offset));
  };
  EXPECT_NE(refused(8, 0, 4).find("version 0"), std::string::npos);
  EXPECT_NE(refused(12, 4, 4).find("4 sections"), std::string::npos);
  EXPECT_NE(refused(kMetadataEntry, 2, 4).find("id 2"), std::string::npos);
  EXPECT_NE(refused(kMetadataEntry + kCodec, 2, 4).find("codec 2"), std::string::npos);
  EXPECT_NE(refused(kWeightsEntry + kCodec, 1, 4).find("codec 1"), std::string::npos);
  EXPECT_NE(refused(kFloatsEntry + kChecksum, 1, 8).find("checksum of section floats"), std::string::npos);
}

TEST(Container, TooMuchMetadataIsNotWritten) {
  Sections s;
  s.metadata.resize(kMaxMetadataBytes + 1);
  EXPECT_THROW(pack_sections(s, Compression::kNone), Error);
}

}  // namespace
}  // namespace bitstrata::format
