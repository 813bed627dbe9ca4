#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "data/image.h"

namespace bitstrata::data::test {

using Bytes = std::vector<uint8_t>;

/// A folder of its own for each test, removed afterwards.
class FilesTest : public ::testing::Test {
 protected:
  FilesTest();
  ~FilesTest() override;
  std::filesystem::path dir_;
};

/// Writes a file, making its folders.
void put(const std::filesystem::path& path, std::span<const uint8_t> bytes);
void put(const std::filesystem::path& path, const std::string& text);

/// An image whose every sample differs from its neighbours; `salt` makes different ones.
Image pattern_image(const ImageShape& shape, int salt = 0);

/// Encoded files. channels: 1 grey, 3 colour; PNG also 2 grey and alpha, 4 colour and alpha. JPEG also 4, as
/// Adobe CMYK.
struct PngOptions {
  bool interlaced = false;
  bool is_16_bit = false;
};
Bytes encode_png(const Image& image, const PngOptions& options = {});
Bytes encode_jpeg(const Image& image, bool progressive = false);

/// A 2-bit palette PNG of [1, 1, 4] indices 0..3 with the colours (c, 2c, 3c) for c = 0, 10, 20, 30.
Bytes encode_palette_png();

/// Expects an Error of `code` whose one-line message contains `text`.
template <typename Body>
void expect_error(ErrorCode code, const std::string& text, Body&& body) {
  try {
    body();
    ADD_FAILURE() << "no error; expected one with '" << text << "'";
  } catch (const Error& error) {
    EXPECT_STREQ(to_string(error.code()), to_string(code)) << error.what();
    EXPECT_THAT(error.what(), ::testing::HasSubstr(text));
    EXPECT_THAT(error.what(), ::testing::Not(::testing::HasSubstr("\n")));
  }
}

}  // namespace bitstrata::data::test
