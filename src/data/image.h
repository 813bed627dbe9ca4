#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace bitstrata::data {

/// Extent of one image or one network input. As a wish (LoadOptions, load_input), 0 means "as the data has
/// it".
struct ImageShape {
  int channels = 0;
  int height = 0;
  int width = 0;

  size_t num_elems() const noexcept {
    return static_cast<size_t>(channels) * static_cast<size_t>(height) * static_cast<size_t>(width);
  }
  bool operator==(const ImageShape&) const = default;
};

/// "3x32x32", for messages.
std::string to_string(const ImageShape& shape);

/// One decoded image. pixels: [channels, height, width], 0..255; 1 channel is grey, 3 are R, G, B.
struct Image {
  ImageShape shape;
  std::vector<uint8_t> pixels;
};

/// Longest side and greatest number of pixels of an image that is decoded; anything larger is refused before
/// memory is taken for it.
inline constexpr int kMaxImageSide = 32768;
inline constexpr int64_t kMaxImagePixels = int64_t{1} << 26;
/// Largest image file that is read.
inline constexpr uint64_t kMaxImageFileBytes = uint64_t{256} << 20;

/// Decodes a JPEG or PNG (told apart by its first bytes) to grey or RGB: palettes are expanded, 16-bit
/// samples shortened to 8, alpha dropped, CMYK converted. `name` is the file named in errors: kBadInput when
/// it is neither format or of absurd extent, kCorruptFile when it is truncated or damaged. Thread-safe.
Image decode_image(std::span<const uint8_t> bytes, const std::string& name);

/// decode_image of a file's content. Also kIo when it cannot be read.
Image read_image(const std::filesystem::path& path);

}  // namespace bitstrata::data
