#include "files.h"

#include <cstdio>
#include <cstdlib>
#include <stdexcept>

#include <jpeglib.h>
#include <png.h>
#include <unistd.h>

#include "core/file.h"

namespace bitstrata::data::test {

namespace fs = std::filesystem;

FilesTest::FilesTest() {
  std::string name = (fs::temp_directory_path() / "bitstrata-data-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make a temporary folder");
  dir_ = name;
}

FilesTest::~FilesTest() {
  std::error_code ignored;
  fs::remove_all(dir_, ignored);
}

void put(const fs::path& path, std::span<const uint8_t> bytes) {
  make_folders(path.parent_path());
  write_file_atomically(path, bytes);
}

void put(const fs::path& path, const std::string& text) {
  put(path, std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

Image pattern_image(const ImageShape& shape, int salt) {
  Image image{shape, Bytes(shape.num_elems())};
  for (size_t i = 0; i < image.pixels.size(); ++i)
    image.pixels[i] = static_cast<uint8_t>(i * 37 + i / 11 + salt * 53);
  return image;
}

namespace {

Bytes interleave(const Image& image) {
  const auto channels = static_cast<size_t>(image.shape.channels);
  const size_t plane_elems = image.pixels.size() / channels;
  Bytes interleaved(image.pixels.size());
  for (size_t i = 0; i < interleaved.size(); ++i)
    interleaved[i] = image.pixels[i % channels * plane_elems + i / channels];
  return interleaved;
}

/// A PNG being written to memory. Errors abort the test program: the input is this file's own.
struct PngWriter {
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  Bytes bytes;

  PngWriter() {
    png_set_write_fn(
        png, &bytes,
        [](png_structp writer, png_bytep data, size_t count) {
          auto* sink = static_cast<Bytes*>(png_get_io_ptr(writer));
          sink->insert(sink->end(), data, data + count);
        },
        nullptr);
  }
  ~PngWriter() { png_destroy_write_struct(&png, &info); }
};

}  // namespace

Bytes encode_png(const Image& image, const PngOptions& options) {
  constexpr int kColours[] = {PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_GRAY_ALPHA, PNG_COLOR_TYPE_RGB,
                              PNG_COLOR_TYPE_RGB_ALPHA};
  PngWriter writer;
  const auto height = static_cast<png_uint_32>(image.shape.height),
             width = static_cast<png_uint_32>(image.shape.width);
  png_set_IHDR(writer.png, writer.info, width, height, options.is_16_bit ? 16 : 8,
               kColours[image.shape.channels - 1],
               options.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  Bytes samples = interleave(image);
  if (options.is_16_bit) {
    Bytes wide;
    // v * 257 is v in both bytes.
    for (const uint8_t sample : samples) wide.insert(wide.end(), {sample, sample});
    samples = std::move(wide);
  }
  std::vector<png_bytep> rows;
  for (size_t y = 0; y < height; ++y) rows.push_back(samples.data() + y * (samples.size() / height));
  png_set_rows(writer.png, writer.info, rows.data());
  png_write_png(writer.png, writer.info, PNG_TRANSFORM_IDENTITY, nullptr);
  return writer.bytes;
}

Bytes encode_palette_png() {
  PngWriter writer;
  png_set_IHDR(writer.png, writer.info, 4, 1, 2, PNG_COLOR_TYPE_PALETTE, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  const png_color palette[] = {{0, 0, 0}, {10, 20, 30}, {20, 40, 60}, {30, 60, 90}};
  png_set_PLTE(writer.png, writer.info, palette, 4);
  // The reader must drop this transparency too.
  const png_byte alpha[] = {255, 128, 0, 255};
  png_set_tRNS(writer.png, writer.info, alpha, 4, nullptr);
  png_byte row[] = {0b00'01'10'11};
  png_bytep rows[] = {row};
  png_set_rows(writer.png, writer.info, rows);
  png_write_png(writer.png, writer.info, PNG_TRANSFORM_IDENTITY, nullptr);
  return writer.bytes;
}

Bytes encode_jpeg(const Image& image, bool progressive) {
  jpeg_compress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* memory = nullptr;
  unsigned long count = 0;
  jpeg_mem_dest(&jpeg, &memory, &count);
  jpeg.image_height = static_cast<JDIMENSION>(image.shape.height);
  jpeg.image_width = static_cast<JDIMENSION>(image.shape.width);
  jpeg.input_components = image.shape.channels;
  jpeg.in_color_space = image.shape.channels == 1   ? JCS_GRAYSCALE
                        : image.shape.channels == 3 ? JCS_RGB
                                                    : JCS_CMYK;
  jpeg_set_defaults(&jpeg);
  jpeg_set_quality(&jpeg, 95, TRUE);
  if (image.shape.channels == 4) jpeg.write_Adobe_marker = TRUE;
  if (progressive) jpeg_simple_progression(&jpeg);
  jpeg_start_compress(&jpeg, TRUE);
  Bytes samples = interleave(image);
  const size_t row_bytes = samples.size() / jpeg.image_height;
  while (jpeg.next_scanline < jpeg.image_height) {
    JSAMPROW row = samples.data() + jpeg.next_scanline * row_bytes;
    jpeg_write_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
  Bytes bytes(memory, memory + count);
  std::free(memory);
  return bytes;
}

}  // namespace bitstrata::data::test
