#include "data/image.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/file.h"
#include "data/codecs.h"

namespace bitstrata::data {
namespace {

template <size_t N>
bool starts_with(std::span<const uint8_t> bytes, const std::array<uint8_t, N>& magic) noexcept {
  return bytes.size() >= N && std::equal(magic.begin(), magic.end(), bytes.begin());
}

}  // namespace

std::string to_string(const ImageShape& shape) {
  return fmt::format("{}x{}x{}", shape.channels, shape.height, shape.width);
}

bool is_jpeg(std::span<const uint8_t> bytes) noexcept {
  return starts_with(bytes, std::array<uint8_t, 3>{0xff, 0xd8, 0xff});
}

bool is_png(std::span<const uint8_t> bytes) noexcept {
  return starts_with(bytes, std::array<uint8_t, 8>{0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'});
}

void check_image_extent(uint64_t height, uint64_t width, const std::string& name) {
  constexpr auto kSide = static_cast<uint64_t>(kMaxImageSide);
  if (height == 0 || width == 0 || height > kSide || width > kSide ||
      height * width > static_cast<uint64_t>(kMaxImagePixels)) {
    fail(ErrorCode::kBadInput,
         "image {} has an unusable extent: found {}x{} (height x width), expected 1 to {} a side and at most "
         "{} "
         "pixels; remove or shrink it",
         printable(name), height, width, kMaxImageSide, kMaxImagePixels);
  }
}

void check_expansion(const ImageShape& shape, size_t file_bytes, size_t most_pixels_per_byte,
                     const std::string& name) {
  const size_t pixels = static_cast<size_t>(shape.height) * static_cast<size_t>(shape.width);
  if (pixels / most_pixels_per_byte > file_bytes) {
    fail(ErrorCode::kCorruptFile,
         "image {} is damaged: its header claims {} but it has only {} bytes; replace it", printable(name),
         to_string(shape), file_bytes);
  }
}

std::vector<uint8_t> to_planes(std::span<const uint8_t> interleaved, const ImageShape& shape) {
  const auto channels = static_cast<size_t>(shape.channels);
  const size_t plane_elems = shape.num_elems() / channels;
  std::vector<uint8_t> planes(shape.num_elems());
  for (size_t c = 0; c < channels; ++c) {
    uint8_t* plane = planes.data() + c * plane_elems;
    for (size_t i = 0; i < plane_elems; ++i) plane[i] = interleaved[i * channels + c];
  }
  return planes;
}

Image decode_image(std::span<const uint8_t> bytes, const std::string& name) {
  if (is_jpeg(bytes)) return decode_jpeg(bytes, name);
  if (is_png(bytes)) return decode_png(bytes, name);
  fail(ErrorCode::kBadInput, "{} is not an image that can be read: expected a JPEG or PNG file",
       printable(name));
}

Image read_image(const std::filesystem::path& path) {
  return decode_image(read_file(path, kMaxImageFileBytes), path.string());
}

}  // namespace bitstrata::data
