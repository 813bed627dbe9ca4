#include <csetjmp>
#include <cstdio>
#include <cstring>

#include <png.h>

#include "core/error.h"
#include "data/codecs.h"

namespace bitstrata::data {
namespace {

/// libpng reports errors by a jump. Each member function that calls it sets its own jump target and holds no
/// object with a destructor, so a jump skips none; the decoder itself is released by ~PngReader.
class PngReader {
 public:
  explicit PngReader(std::span<const uint8_t> bytes) noexcept : bytes_(bytes) {}
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  /// Reads up to the pixels and asks for 8-bit grey or RGB.
  bool read_header() noexcept {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, on_error, on_warning);
    if (png_ == nullptr) return false;
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    info_ = png_create_info_struct(png_);
    if (info_ == nullptr) png_error(png_, "out of memory");
    png_set_read_fn(png_, this, on_read);
    // Extents are judged by check_image_extent, which names the file.
    png_set_user_limits(png_, 0x7fffffff, 0x7fffffff);
    png_read_info(png_, info_);
    if (png_get_color_type(png_, info_) == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png_);
    if (png_get_bit_depth(png_, info_) < 8 && png_get_color_type(png_, info_) == PNG_COLOR_TYPE_GRAY) {
      png_set_expand_gray_1_2_4_to_8(png_);
    }
    png_set_scale_16(png_);
    png_set_strip_alpha(png_);
    png_set_interlace_handling(png_);
    return true;
  }

  /// Once the extent is accepted: fixes the output format.
  bool start() noexcept {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    png_read_update_info(png_, info_);
    return true;
  }

  /// rows: one pointer for each row of [width, channels] interleaved samples.
  bool read_pixels(uint8_t** rows) noexcept {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    png_read_image(png_, rows);
    png_read_end(png_, nullptr);
    return true;
  }

  uint64_t height() const noexcept { return png_get_image_height(png_, info_); }
  uint64_t width() const noexcept { return png_get_image_width(png_, info_); }
  int channels() const noexcept { return png_get_channels(png_, info_); }
  size_t row_bytes() const noexcept { return png_get_rowbytes(png_, info_); }
  const char* message() const noexcept { return message_; }

 private:
  [[noreturn]] static void on_error(png_structp png, png_const_charp message) {
    auto* self = static_cast<PngReader*>(png_get_error_ptr(png));
    std::snprintf(self->message_, sizeof(self->message_), "%s", message);
    png_longjmp(png, 1);
  }
  static void on_warning(png_structp, png_const_charp) {}
  static void on_read(png_structp png, png_bytep dst, size_t count_bytes) {
    auto* self = static_cast<PngReader*>(png_get_io_ptr(png));
    if (count_bytes > self->bytes_.size() - self->position_) png_error(png, "the file ends too early");
    std::memcpy(dst, self->bytes_.data() + self->position_, count_bytes);
    self->position_ += count_bytes;
  }

  std::span<const uint8_t> bytes_;
  size_t position_ = 0;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  char message_[128] = "out of memory";
};

[[noreturn]] void fail_corrupt(const PngReader& reader, const std::string& name) {
  fail(ErrorCode::kCorruptFile, "PNG file {} is damaged: {}; replace or remove it", printable(name),
       reader.message());
}

// One bit a pixel is the least that any colour type stores, and deflate expands at most 1032 times.
constexpr size_t kMostPixelsPerByte = 8 * 1032;

}  // namespace

Image decode_png(std::span<const uint8_t> bytes, const std::string& name) {
  PngReader reader(bytes);
  if (!reader.read_header()) fail_corrupt(reader, name);
  check_image_extent(reader.height(), reader.width(), name);
  if (!reader.start()) fail_corrupt(reader, name);
  const ImageShape shape{reader.channels(), static_cast<int>(reader.height()),
                         static_cast<int>(reader.width())};
  check_expansion(shape, bytes.size(), kMostPixelsPerByte, name);
  const size_t row_bytes = static_cast<size_t>(shape.width) * static_cast<size_t>(shape.channels);
  if (row_bytes != reader.row_bytes() || (shape.channels != 1 && shape.channels != 3)) {
    fail(ErrorCode::kUnsupported,
         "PNG file {} has an unsupported layout of {} channels; convert it to 8-bit RGB", printable(name),
         shape.channels);
  }
  std::vector<uint8_t> interleaved(shape.num_elems());
  std::vector<uint8_t*> rows(static_cast<size_t>(shape.height));
  for (size_t y = 0; y < rows.size(); ++y) rows[y] = interleaved.data() + y * row_bytes;
  if (!reader.read_pixels(rows.data())) fail_corrupt(reader, name);
  return {shape, to_planes(interleaved, shape)};
}

}  // namespace bitstrata::data
