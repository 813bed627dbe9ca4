#include "data/image.h"

#include <algorithm>

#include "files.h"

namespace bitstrata::data::test {
namespace {

using ImageTest = FilesTest;

/// A smooth image, which JPEG keeps within a few levels.
Image smooth_image(const ImageShape& shape) {
  Image image{shape, Bytes(shape.num_elems())};
  const auto height = static_cast<size_t>(shape.height), width = static_cast<size_t>(shape.width);
  for (size_t i = 0; i < image.pixels.size(); ++i) {
    const size_t c = i / (height * width), y = i / width % height, x = i % width;
    image.pixels[i] = static_cast<uint8_t>(40 + 20 * c + 3 * y + 2 * x);
  }
  return image;
}

int greatest_difference(const Bytes& a, const Bytes& b) {
  int greatest = 0;
  for (size_t i = 0; i < a.size(); ++i) greatest = std::max(greatest, std::abs(a[i] - b[i]));
  return greatest;
}

void set_png_extent(Bytes& png, uint32_t width, uint32_t height) {
  for (size_t i = 0; i < 4; ++i) {
    png[16 + i] = static_cast<uint8_t>(width >> (24 - 8 * i));
    png[20 + i] = static_cast<uint8_t>(height >> (24 - 8 * i));
  }
  uint32_t crc = 0xffffffffu;
  for (size_t i = 12; i < 29; ++i) {
    crc ^= png[i];
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1)));
  }
  for (size_t i = 0; i < 4; ++i) png[29 + i] = static_cast<uint8_t>(~crc >> (24 - 8 * i));
}

TEST_F(ImageTest, PngIsExactInAllForms) {
  for (const int channels : {1, 3}) {
    for (const bool interlaced : {false, true}) {
      for (const bool is_16_bit : {false, true}) {
        const Image image = pattern_image({channels, 13, 7});
        const Image decoded = decode_image(encode_png(image, {interlaced, is_16_bit}), "x.png");
        EXPECT_EQ(decoded.shape, image.shape);
        EXPECT_EQ(decoded.pixels, image.pixels);
      }
    }
  }
}

TEST_F(ImageTest, PngAlphaIsDropped) {
  for (const int channels : {2, 4}) {
    const Image image = pattern_image({channels, 5, 6});
    const Image decoded = decode_image(encode_png(image), "x.png");
    EXPECT_EQ(decoded.shape, (ImageShape{channels - 1, 5, 6}));
    EXPECT_EQ(decoded.pixels, Bytes(image.pixels.begin(), image.pixels.begin() + (channels - 1) * 30));
  }
}

TEST_F(ImageTest, PngPaletteIsExpanded) {
  const Image decoded = decode_image(encode_palette_png(), "x.png");
  EXPECT_EQ(decoded.shape, (ImageShape{3, 1, 4}));
  EXPECT_EQ(decoded.pixels, (Bytes{0, 10, 20, 30, 0, 20, 40, 60, 0, 30, 60, 90}));
}

TEST_F(ImageTest, JpegIsCloseInAllForms) {
  for (const int channels : {1, 3}) {
    for (const bool progressive : {false, true}) {
      const Image image = smooth_image({channels, 19, 33});
      const Image decoded = decode_image(encode_jpeg(image, progressive), "x.jpg");
      EXPECT_EQ(decoded.shape, image.shape);
      EXPECT_LE(greatest_difference(decoded.pixels, image.pixels), 6);
    }
  }
}

TEST_F(ImageTest, AdobeCmykBecomesRgb) {
  // Adobe's inverted ink: 255 is none, so this is pure yellow at four fifths of the light.
  Image image{{4, 8, 8}, Bytes(256)};
  for (size_t i = 0; i < 64; ++i) {
    image.pixels[i] = image.pixels[64 + i] = 255;
    image.pixels[128 + i] = 0;
    image.pixels[192 + i] = 204;
  }
  const Image decoded = decode_image(encode_jpeg(image), "x.jpg");
  ASSERT_EQ(decoded.shape, (ImageShape{3, 8, 8}));
  EXPECT_NEAR(decoded.pixels[0], 204, 3);
  EXPECT_NEAR(decoded.pixels[64], 204, 3);
  EXPECT_NEAR(decoded.pixels[128], 0, 3);
}

TEST_F(ImageTest, EveryPrefixIsRefused) {
  const Image image = pattern_image({3, 24, 24});
  for (const Bytes& file :
       {encode_png(image), encode_png(image, {true, false}), encode_jpeg(image), encode_jpeg(image, true)}) {
    // A JPEG cut inside its two-byte end marker is complete but for that.
    const size_t complete_bytes = file[0] == 0xff ? file.size() - 2 : file.size();
    for (size_t count = 0; count < complete_bytes; ++count) {
      EXPECT_THROW(decode_image(std::span(file).first(count), "cut"), Error)
          << count << " of " << file.size();
    }
  }
}

TEST_F(ImageTest, FlippedBytesNeverCrash) {
  const Image image = pattern_image({3, 16, 16});
  int refused = 0;
  for (const Bytes& file : {encode_png(image), encode_jpeg(image), encode_jpeg(image, true)}) {
    for (size_t at = 0; at < file.size(); ++at) {
      for (const uint8_t flip : {0x01, 0x80, 0xff}) {
        Bytes damaged = file;
        damaged[at] ^= flip;
        try {
          const Image decoded = decode_image(damaged, "flipped");
          EXPECT_EQ(decoded.pixels.size(), decoded.shape.num_elems());
        } catch (const Error&) {
          ++refused;
        }
      }
    }
  }
  EXPECT_GT(refused, 1000);
}

TEST_F(ImageTest, FlippedPngDataIsRefusedByItsChecksum) {
  Bytes file = encode_png(pattern_image({3, 16, 16}));
  file[file.size() / 2] ^= 4;
  expect_error(ErrorCode::kCorruptFile, "x.png", [&] { decode_image(file, "x.png"); });
}

TEST_F(ImageTest, AbsurdExtentsAreRefusedBeforeAllocation) {
  Bytes file = encode_png(pattern_image({3, 4, 4}));
  set_png_extent(file, 100000, 100000);
  expect_error(ErrorCode::kBadInput, "100000x100000", [&] { decode_image(file, "huge.png"); });
  set_png_extent(file, 30000, 30000);
  expect_error(ErrorCode::kBadInput, "huge.png", [&] { decode_image(file, "huge.png"); });
  set_png_extent(file, 8000, 8000);
  expect_error(ErrorCode::kCorruptFile, "claims 3x8000x8000", [&] { decode_image(file, "huge.png"); });

  Bytes jpeg = encode_jpeg(pattern_image({3, 4, 4}));
  const Bytes marker = {0xff, 0xc0};
  const auto frame = std::search(jpeg.begin(), jpeg.end(), marker.begin(), marker.end());
  ASSERT_NE(frame, jpeg.end());
  std::fill(frame + 5, frame + 9, uint8_t{0x88});
  expect_error(ErrorCode::kBadInput, "34952x34952", [&] { decode_image(jpeg, "huge.jpg"); });
  std::fill(frame + 5, frame + 9, uint8_t{0x1f});
  expect_error(ErrorCode::kCorruptFile, "claims 3x7967x7967", [&] { decode_image(jpeg, "huge.jpg"); });
}

TEST_F(ImageTest, OtherFilesAreRefused) {
  expect_error(ErrorCode::kBadInput, "notes.jpg", [] { decode_image({}, "notes.jpg"); });
  put(dir_ / "notes.jpg", std::string("GIF89a and so on"));
  expect_error(ErrorCode::kBadInput, "expected a JPEG or PNG", [&] { read_image(dir_ / "notes.jpg"); });
  expect_error(ErrorCode::kIo, "absent.png", [&] { read_image(dir_ / "absent.png"); });
}

}  // namespace
}  // namespace bitstrata::data::test
