#include <gtest/gtest.h>

#include "format/container.h"
#include "tests/unit/format/refusal.h"
#include "tests/unit/format/sample_programs.h"

namespace bitstrata::format {
namespace {

TEST(Corruption, EveryPrefixIsRefused) {
  const auto bytes = encode(every_kind_program());
  for (size_t size = 0; size < bytes.size(); ++size)
    refusal(std::span(bytes).first(size), std::to_string(size) + " bytes");
}

TEST(Corruption, EveryFlippedBitOfASmallFileIsRefused) {
  auto bytes = encode(tiny_program());
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    bytes[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    refusal(bytes, "bit " + std::to_string(bit));
    bytes[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
  }
}

TEST(Corruption, EveryChangedByteIsRefused) {
  auto bytes = encode(every_kind_program());
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (const uint8_t change : {0x01, 0x80, 0xff}) {
      bytes[i] ^= change;
      refusal(bytes, "byte " + std::to_string(i));
      bytes[i] ^= change;
    }
  }
}

TEST(Corruption, ExchangedBytesAreRefused) {
  const auto bytes = encode(every_kind_program());
  for (size_t i = 0; i + 1 < bytes.size(); ++i) {
    if (bytes[i] == bytes[i + 1]) continue;
    auto exchanged = bytes;
    std::swap(exchanged[i], exchanged[i + 1]);
    refusal(exchanged, "bytes " + std::to_string(i));
  }
}

TEST(Corruption, AppendedBytesAreRefused) {
  auto bytes = encode(tiny_program());
  for (int i = 0; i < 200; ++i) {
    bytes.push_back(static_cast<uint8_t>(i));
    EXPECT_NE(refusal(bytes).find("followed by other data"), std::string::npos);
  }
}

TEST(Corruption, TruncationIsNamed) {
  const auto bytes = encode(tiny_program());
  EXPECT_NE(refusal(std::span(bytes).first(bytes.size() - 1)).find("cut off"), std::string::npos);
  EXPECT_NE(refusal(std::span(bytes).first(100)).find("cut off"), std::string::npos);
}

TEST(Corruption, OtherFilesAreRefused) {
  const std::string text = "\x89PNG\r\n\x1a\n and more that is not a packed model";
  const std::vector<uint8_t> bytes(text.begin(), text.end());
  EXPECT_FALSE(looks_like_bst(bytes));
  EXPECT_FALSE(looks_like_bst({}));
  EXPECT_NE(refusal(bytes).find("is it the right file"), std::string::npos);
}

TEST(Corruption, NewerVersionIsUnsupportedAndNamed) {
  auto bytes = encode(tiny_program());
  bytes[8] = 7;
  try {
    decode(bytes, "new.bst");
    FAIL() << "a newer version was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_NE(
        std::string(error.what()).find("found .bst format version 7, this program reads versions 1 to 1"),
        std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace bitstrata::format
