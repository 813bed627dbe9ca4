#include <gtest/gtest.h>

#include <limits>

#include "core/error.h"
#include "core/random.h"
#include "quant/packing.h"

namespace bitstrata::quant {
namespace {

void expect_corrupt(const std::vector<uint8_t>& packed, size_t count, int bits) {
  try {
    unpack_codes(packed, count, bits);
    ADD_FAILURE() << "accepted " << count << " codes of " << bits << " bits in " << packed.size() << " bytes";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCorruptFile);
  }
}

TEST(Packing, RoundTripsEveryWidthAndLength) {
  for (int bits = 1; bits <= 8; ++bits) {
    Random random(5, static_cast<uint64_t>(bits));
    for (size_t count = 0; count < 40; ++count) {
      std::vector<uint8_t> codes(count);
      for (uint8_t& code : codes) code = static_cast<uint8_t>(random.below(1u << bits));
      const auto packed = pack_codes(codes, bits);
      ASSERT_EQ(packed.size(), (count * static_cast<size_t>(bits) + 7) / 8);
      ASSERT_EQ(unpack_codes(packed, count, bits), codes) << bits << " bits, " << count;
    }
  }
}

TEST(Packing, IsALittleEndianBitStream) {
  EXPECT_EQ(pack_codes(std::vector<uint8_t>{1, 2, 7}, 3), (std::vector<uint8_t>{0b11010001, 0b1}));
  EXPECT_EQ(pack_codes(std::vector<uint8_t>{0x3, 0x15, 0x1f}, 5),
            (std::vector<uint8_t>{0b10100011, 0b01111110}));
}

TEST(Packing, RefusesWrongAndHostileSizes) {
  const std::vector<uint8_t> packed = {0x12, 0x34, 0x56};
  expect_corrupt(packed, 5, 4);
  expect_corrupt(packed, 4, 4);
  expect_corrupt(packed, 7, 4);
  expect_corrupt(packed, 6, 0);
  expect_corrupt(packed, 6, 9);
  expect_corrupt(packed, 6, -4);
  expect_corrupt({}, 1, 1);
  // count * bits wraps around to 24 bits.
  expect_corrupt(packed, std::numeric_limits<size_t>::max(), 8);
  expect_corrupt(packed, (std::numeric_limits<size_t>::max() >> 3) + 1 + 3, 8);
  expect_corrupt(packed, (size_t{1} << 61) + 3, 8);
}

TEST(Packing, RefusesUnusedBitsThatAreSet) {
  EXPECT_EQ(unpack_codes(std::vector<uint8_t>{0x1f}, 5, 1), (std::vector<uint8_t>{1, 1, 1, 1, 1}));
  expect_corrupt({0x3f}, 5, 1);
  expect_corrupt({0x80}, 5, 1);
}

}  // namespace
}  // namespace bitstrata::quant
