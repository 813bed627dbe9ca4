#include "data/input.h"

#include "data/npy.h"
#include "data/resize.h"
#include "files.h"

namespace bitstrata::data::test {
namespace {

using InputTest = FilesTest;
using ::testing::Each;

TEST_F(InputTest, ImageIsNormalized) {
  const Image image = pattern_image({3, 8, 8});
  put(dir_ / "a.png", encode_png(image));
  const Input input = load_input(dir_ / "a.png", {3, 8, 8}, default_normalization(3));
  EXPECT_EQ(input.count, 1);
  EXPECT_EQ(input.shape, image.shape);
  const auto table = normalization_table(default_normalization(3), 3);
  ASSERT_EQ(input.values.size(), 192u);
  for (size_t i = 0; i < 192; ++i) ASSERT_EQ(input.values[i], table[i / 64 * 256 + image.pixels[i]]);
}

TEST_F(InputTest, ImageIsFitted) {
  put(dir_ / "a.jpg", encode_jpeg(Image{{3, 40, 60}, Bytes(7200, 255)}));
  const Input input = load_input(dir_ / "a.jpg", {1, 28, 28}, default_normalization(1));
  EXPECT_EQ(input.shape, (ImageShape{1, 28, 28}));
  EXPECT_EQ(input.values.size(), 784u);
  EXPECT_THAT(input.values, Each(1.0f));
  EXPECT_EQ(load_input(dir_ / "a.jpg", {}, default_normalization(3)).shape, (ImageShape{3, 40, 60}));
}

TEST_F(InputTest, ArraysAreTakenAsTheyAre) {
  std::vector<float> values(24);
  for (size_t i = 0; i < 24; ++i) values[i] = static_cast<float>(i) - 3.5f;
  write_npy(dir_ / "one.npy", {2, 3, 4}, values);
  Input input = load_input(dir_ / "one.npy", {2, 3, 4}, {});
  EXPECT_EQ(input.count, 1);
  EXPECT_EQ(input.values, values);
  write_npy(dir_ / "two.npy", {2, 1, 3, 4}, values);
  input = load_input(dir_ / "two.npy", {}, {});
  EXPECT_EQ(input.count, 2);
  EXPECT_EQ(input.shape, (ImageShape{1, 3, 4}));
  EXPECT_EQ(input.values, values);
}

TEST_F(InputTest, WrongFilesAreRefused) {
  write_npy(dir_ / "a.npy", {1, 2, 2}, std::vector<float>(4));
  expect_error(ErrorCode::kBadInput, "expected [3, 2, 2] or [N, 3, 2, 2]", [&] {
    load_input(dir_ / "a.npy", {3, 2, 2}, {});
  });
  write_npy(dir_ / "flat.npy", {4}, std::vector<float>(4));
  expect_error(ErrorCode::kBadInput, "expected [C, H, W]", [&] { load_input(dir_ / "flat.npy", {}, {}); });
  write_npy(dir_ / "none.npy", {0, 1, 2, 2}, {});
  expect_error(ErrorCode::kBadInput, "none.npy", [&] { load_input(dir_ / "none.npy", {}, {}); });
  put(dir_ / "int.npy", serialize_npy({'u', 1, {1, 2, 2}, Bytes(4)}));
  expect_error(ErrorCode::kBadInput, "expected float32", [&] { load_input(dir_ / "int.npy", {}, {}); });
  put(dir_ / "text", std::string("hello"));
  expect_error(ErrorCode::kBadInput, "expected a JPEG or PNG", [&] { load_input(dir_ / "text", {}, {}); });
  expect_error(ErrorCode::kBadInput, "a folder", [&] { load_input(dir_, {}, {}); });
  expect_error(ErrorCode::kIo, "absent", [&] { load_input(dir_ / "absent", {}, {}); });
  put(dir_ / "a.png", encode_png(pattern_image({3, 4, 4})));
  expect_error(ErrorCode::kInvalidArgument, "normalisation", [&] {
    load_input(dir_ / "a.png", {1, 4, 4}, default_normalization(3));
  });
}

}  // namespace
}  // namespace bitstrata::data::test
