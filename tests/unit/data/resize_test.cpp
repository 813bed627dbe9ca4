#include "data/resize.h"

#include "files.h"

namespace bitstrata::data::test {
namespace {

Bytes fit(const Image& image, const ImageShape& to) {
  Bytes out(to.num_elems());
  fit_image(image.pixels.data(), image.shape, out.data(), to);
  return out;
}

Image row_image(const Bytes& row, int height) {
  Image image{{1, height, static_cast<int>(row.size())}, {}};
  image.pixels.resize(image.shape.num_elems());
  for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = row[i % row.size()];
  return image;
}

TEST(Resize, EqualExtentCopies) {
  const Image image = pattern_image({3, 9, 5});
  EXPECT_EQ(fit(image, image.shape), image.pixels);
}

TEST(Resize, ConstantStaysConstant) {
  for (const uint8_t value : {0, 1, 127, 254, 255}) {
    for (const ImageShape& from : {ImageShape{3, 7, 31}, {3, 64, 64}, {3, 1, 1}, {3, 100, 3}}) {
      const Image image{from, Bytes(from.num_elems(), value)};
      for (const ImageShape& to : {ImageShape{3, 32, 32}, {3, 5, 9}, {3, 1, 1}}) {
        EXPECT_EQ(fit(image, to), Bytes(to.num_elems(), value)) << to_string(from) << " to " << to_string(to);
      }
    }
  }
}

TEST(Resize, HalvedRamp) {
  // The triangle of half-width 2 about 2 i + 1 weighs 1, 3, 3, 1 over 8; at the borders 3, 3, 1 over 7:
  // (0 * 3 + 10 * 3 + 20) / 7 = 7.14 and (50 + 60 * 3 + 70 * 3) / 7 = 62.86.
  const Image ramp = row_image({0, 10, 20, 30, 40, 50, 60, 70}, 8);
  const Bytes expected = {7, 25, 45, 63};
  const Bytes out = fit(ramp, {1, 4, 4});
  for (size_t y = 0; y < 4; ++y) EXPECT_EQ(Bytes(out.begin() + y * 4, out.begin() + y * 4 + 4), expected);
}

TEST(Resize, HalvedRampDownwards) {
  Image ramp{{1, 8, 8}, {}};
  for (size_t i = 0; i < 64; ++i) ramp.pixels.push_back(static_cast<uint8_t>(i / 8 * 10));
  const Bytes out = fit(ramp, {1, 4, 4});
  const Bytes expected = {7, 25, 45, 63};
  for (size_t i = 0; i < 16; ++i) EXPECT_EQ(out[i], expected[i / 4]);
}

TEST(Resize, DoubledRow) {
  // Bilinear at quarter positions, borders held.
  const Bytes out = fit(row_image({0, 100}, 2), {1, 4, 4});
  EXPECT_EQ(Bytes(out.begin(), out.begin() + 4), (Bytes{0, 25, 75, 100}));
}

TEST(Resize, ShorterSideFitsAndTheCentreIsKept) {
  // 4x8 to 2x2: scaled to 2x4 and columns 1 and 2 kept, of which each covers source columns centred on 3
  // and 5.
  const Bytes out = fit(row_image({0, 10, 20, 30, 40, 50, 60, 70}, 4), {1, 2, 2});
  EXPECT_EQ(out, (Bytes{25, 45, 25, 45}));
  // A tall image likewise: rows.
  Image tall{{1, 8, 4}, {}};
  for (size_t i = 0; i < 32; ++i) tall.pixels.push_back(static_cast<uint8_t>(i / 4 * 10));
  EXPECT_EQ(fit(tall, {1, 2, 2}), (Bytes{25, 25, 45, 45}));
}

TEST(Resize, ColourAndGrey) {
  const Image colour{{3, 1, 2}, {255, 10, 0, 20, 0, 30}};
  EXPECT_EQ(fit(colour, {1, 1, 2}), (Bytes{76, 18}));  // (299 * 10 + 587 * 20 + 114 * 30 + 500) / 1000 = 18
  const Image grey{{1, 1, 2}, {5, 9}};
  EXPECT_EQ(fit(grey, {3, 1, 2}), (Bytes{5, 9, 5, 9, 5, 9}));
  EXPECT_EQ(fit(Image{{1, 1, 1}, {77}}, {3, 2, 2}), Bytes(12, 77));
}

TEST(Resize, ExtremeExtents) {
  const Image strip = pattern_image({1, 1, kMaxImageSide});
  EXPECT_EQ(fit(strip, {1, 32, 32}).size(), 1024u);
  EXPECT_EQ(fit(pattern_image({1, kMaxImageSide, 2}), {1, 3, 1}).size(), 3u);
}

TEST(Resize, ShapesAreResolved) {
  const ImageShape found{3, 20, 30};
  EXPECT_EQ(resolve_shape({}, found, "d"), found);
  EXPECT_EQ(resolve_shape({1, 0, 0}, found, "d"), (ImageShape{1, 20, 30}));
  EXPECT_EQ(resolve_shape({0, 8, 9}, found, "d"), (ImageShape{3, 8, 9}));
  expect_error(ErrorCode::kBadInput, "has 3 channels", [&] { resolve_shape({4, 8, 8}, found, "d"); });
  expect_error(ErrorCode::kInvalidArgument, "0x8x0", [&] { resolve_shape({0, 8, 0}, found, "d"); });
  expect_error(ErrorCode::kInvalidArgument, "-1", [&] { resolve_shape({-1, 8, 8}, found, "d"); });
}

}  // namespace
}  // namespace bitstrata::data::test
