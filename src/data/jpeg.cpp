#include <csetjmp>
#include <cstdio>

#include <jpeglib.h>
// After jpeglib.h, which it needs.
#include <jerror.h>

#include "core/error.h"
#include "data/codecs.h"

namespace bitstrata::data {
namespace {

/// libjpeg reports errors by a call that must not return. Each member function that calls libjpeg sets its
/// own jump target and holds no object with a destructor, so a jump skips none; the decoder itself is
/// released by ~JpegReader.
class JpegReader {
 public:
  explicit JpegReader(std::span<const uint8_t> bytes) noexcept : bytes_(bytes) {
    jpeg_.err = jpeg_std_error(&errors_);
    jpeg_.client_data = this;
    errors_.error_exit = on_error;
    errors_.emit_message = on_message;
    progress_.progress_monitor = on_progress;
  }
  ~JpegReader() { jpeg_destroy_decompress(&jpeg_); }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  /// Reads up to the first scan and chooses the output colours.
  bool read_header() noexcept {
    if (setjmp(jump_) != 0) return false;
    jpeg_create_decompress(&jpeg_);
    jpeg_.progress = &progress_;
    jpeg_mem_src(&jpeg_, bytes_.data(), bytes_.size());
    jpeg_read_header(&jpeg_, TRUE);
    if (jpeg_.num_components == 1)
      jpeg_.out_color_space = JCS_GRAYSCALE;
    else
      jpeg_.out_color_space = jpeg_.num_components == 4 ? JCS_CMYK : JCS_RGB;
    // The accurate transform on every machine, whatever the library's build chose.
    jpeg_.dct_method = JDCT_ISLOW;
    jpeg_calc_output_dimensions(&jpeg_);
    return true;
  }

  /// dst: [height, width, channels] interleaved.
  bool read_pixels(uint8_t* dst) noexcept {
    if (setjmp(jump_) != 0) return false;
    jpeg_start_decompress(&jpeg_);
    while (jpeg_.output_scanline < jpeg_.output_height) {
      JSAMPROW row = dst + static_cast<size_t>(jpeg_.output_scanline) * jpeg_.output_width *
                               static_cast<size_t>(jpeg_.output_components);
      jpeg_read_scanlines(&jpeg_, &row, 1);
    }
    jpeg_finish_decompress(&jpeg_);
    return true;
  }

  uint64_t height() const noexcept { return jpeg_.image_height; }
  uint64_t width() const noexcept { return jpeg_.image_width; }
  int channels() const noexcept { return jpeg_.out_color_components; }
  bool is_adobe() const noexcept { return jpeg_.saw_Adobe_marker != 0; }
  bool is_arithmetic() const noexcept { return jpeg_.arith_code != 0; }
  const char* message() const noexcept { return message_; }

 private:
  // A hostile progressive file may repeat scans for minutes of work; honest ones have about ten.
  static constexpr int kMaxScans = 200;

  [[noreturn]] static void give_up(j_common_ptr jpeg) {
    auto* self = static_cast<JpegReader*>(jpeg->client_data);
    jpeg->err->format_message(jpeg, self->message_);
    std::longjmp(self->jump_, 1);
  }
  static void on_error(j_common_ptr jpeg) { give_up(jpeg); }
  // Level -1 is a warning: the library would invent the missing pixels. Stray bytes between segments are
  // harmless and common.
  static void on_message(j_common_ptr jpeg, int level) {
    if (level < 0 && jpeg->err->msg_code != JWRN_EXTRANEOUS_DATA) give_up(jpeg);
  }
  static void on_progress(j_common_ptr jpeg) {
    if (reinterpret_cast<j_decompress_ptr>(jpeg)->input_scan_number <= kMaxScans) return;
    auto* self = static_cast<JpegReader*>(jpeg->client_data);
    std::snprintf(self->message_, sizeof(self->message_), "more than %d scans", kMaxScans);
    std::longjmp(self->jump_, 1);
  }

  std::span<const uint8_t> bytes_;
  jpeg_decompress_struct jpeg_{};
  jpeg_error_mgr errors_{};
  jpeg_progress_mgr progress_{};
  std::jmp_buf jump_{};
  char message_[JMSG_LENGTH_MAX] = "";
};

// Each block of 64 pixels takes at least a bit of a Huffman-coded scan; doubled for odd subsampling.
constexpr size_t kMostPixelsPerByte = 1024;

[[noreturn]] void fail_corrupt(const JpegReader& reader, const std::string& name) {
  fail(ErrorCode::kCorruptFile, "JPEG file {} is damaged: {}; replace or remove it", printable(name),
       reader.message());
}

/// Four-channel files hold ink, Adobe's inverted; the usual conversion without a colour profile.
std::vector<uint8_t> cmyk_to_rgb(std::span<const uint8_t> cmyk, bool inverted) {
  std::vector<uint8_t> rgb(cmyk.size() / 4 * 3);
  for (size_t i = 0; i < cmyk.size() / 4; ++i) {
    const uint8_t* ink = &cmyk[i * 4];
    const int flip = inverted ? 0 : 255;
    for (size_t c = 0; c < 3; ++c) {
      rgb[i * 3 + c] = static_cast<uint8_t>(((ink[c] ^ flip) * (ink[3] ^ flip) + 127) / 255);
    }
  }
  return rgb;
}

}  // namespace

Image decode_jpeg(std::span<const uint8_t> bytes, const std::string& name) {
  JpegReader reader(bytes);
  if (!reader.read_header()) fail_corrupt(reader, name);
  check_image_extent(reader.height(), reader.width(), name);
  ImageShape shape{reader.channels(), static_cast<int>(reader.height()), static_cast<int>(reader.width())};
  if (!reader.is_arithmetic()) check_expansion(shape, bytes.size(), kMostPixelsPerByte, name);
  std::vector<uint8_t> interleaved(shape.num_elems());
  if (!reader.read_pixels(interleaved.data())) fail_corrupt(reader, name);
  if (shape.channels == 4) {
    interleaved = cmyk_to_rgb(interleaved, reader.is_adobe());
    shape.channels = 3;
  }
  return {shape, to_planes(interleaved, shape)};
}

}  // namespace bitstrata::data
