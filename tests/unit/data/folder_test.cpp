#include <chrono>

#include "core/file.h"
#include "data/dataset.h"
#include "files.h"

namespace bitstrata::data::test {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr ImageShape kShape{3, 8, 6};

/// Two classes with three train images and one test image each, and files that are not images.
class FolderTest : public FilesTest {
 protected:
  FolderTest() {
    for (int i = 0; i < 3; ++i) {
      put_image("train/cat/" + std::to_string(i) + ".png", i);
      put_image("train/ant/" + std::to_string(i) + ".PNG", 10 + i);
    }
    put_image("test/ant/a.png", 20);
    put(data_ / "test/cat/a.JPEG", encode_jpeg(pattern_image(kShape, 21)));
    put(data_ / "train/cat/notes.txt", std::string("not an image"));
    put(data_ / "train/.hidden/x.png", std::string("not a class"));
    put(data_ / "train/readme", std::string("not a class"));
  }
  void put_image(const std::string& name, int salt) {
    put(data_ / name, encode_png(pattern_image(kShape, salt)));
  }
  Dataset load_cached() { return load(spec_, {.cache_dir = cache_}); }
  std::vector<fs::path> cache_files() {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(cache_)) files.push_back(entry.path());
    return files;
  }

  fs::path data_ = dir_ / "data", cache_ = dir_ / "cache/inner";
  std::string spec_ = "folder:" + data_.string();
};

Bytes train_pixels(const Dataset& dataset) {
  const auto pixels = dataset.pixels(Split::kTrain);
  return {pixels.begin(), pixels.end()};
}

TEST_F(FolderTest, LoadsInOrderOfClassAndName) {
  for (const int threads : {1, 4}) {
    const Dataset folder = load(spec_, {.threads = threads});
    EXPECT_THAT(folder.class_names(), ElementsAre("ant", "cat"));
    EXPECT_THAT(folder.labels(Split::kTrain), ElementsAre(0, 0, 0, 1, 1, 1));
    EXPECT_THAT(folder.labels(Split::kTest), ElementsAre(0, 1));
    EXPECT_EQ(folder.shape(), kShape);
    Bytes expected;
    for (const int salt : {10, 11, 12, 0, 1, 2}) {
      const auto image = pattern_image(kShape, salt).pixels;
      expected.insert(expected.end(), image.begin(), image.end());
    }
    EXPECT_EQ(train_pixels(folder), expected);
    EXPECT_TRUE(folder.default_augmentation().flip);
    EXPECT_THAT(folder.warnings(), IsEmpty());
  }
}

TEST_F(FolderTest, FitsTheNetwork) {
  put(data_ / "train/cat/odd.png", encode_png(pattern_image({1, 40, 90})));
  expect_error(ErrorCode::kBadInput, "odd.png is 1x40x90", [&] { load(spec_); });
  const Dataset folder = load(spec_, {.shape = {1, 5, 5}});
  EXPECT_EQ(folder.shape(), (ImageShape{1, 5, 5}));
  EXPECT_EQ(folder.num_samples(Split::kTrain), 7u);
}

TEST_F(FolderTest, GreyFirstImageAmongColour) {
  put(data_ / "train/ant/0.PNG", encode_png(pattern_image({1, 8, 6})));
  expect_error(ErrorCode::kBadInput, "1.PNG is 3x8x6", [&] { load(spec_); });
  EXPECT_EQ(load(spec_, {.shape = {3, 0, 0}}).shape(), kShape);
}

TEST_F(FolderTest, EvaluationNeedsNoTrainFolder) {
  fs::remove_all(data_ / "train");
  EXPECT_EQ(load(spec_, {.train = false}).num_samples(Split::kTest), 2u);
  expect_error(ErrorCode::kIo, "train is missing", [&] { load(spec_); });
}

TEST_F(FolderTest, ClassesMustAgree) {
  put_image("test/bee/a.png", 1);
  for (const bool train : {true, false}) {
    expect_error(ErrorCode::kBadInput, "'bee' is in test but not in train",
                 [&] { load(spec_, {.train = train}); });
  }
  fs::remove_all(data_ / "test/bee");
  fs::remove_all(data_ / "test/cat");
  expect_error(ErrorCode::kBadInput, "'cat' is in train but not in test", [&] { load(spec_); });
}

TEST_F(FolderTest, EmptyFoldersAreRefused) {
  fs::remove(data_ / "test/cat/a.JPEG");
  expect_error(ErrorCode::kBadInput, "test/cat has no jpeg or png files", [&] { load(spec_); });
  fs::remove_all(data_ / "test/cat");
  fs::remove_all(data_ / "test/ant");
  expect_error(ErrorCode::kBadInput, "test has no class folders", [&] { load(spec_); });
}

TEST_F(FolderTest, TheFirstDamagedFileIsNamed) {
  Bytes cut = encode_png(pattern_image(kShape));
  cut.resize(cut.size() - 20);
  put(data_ / "train/ant/2.PNG", cut);
  put(data_ / "train/cat/1.png", std::string("no image"));
  for (const int threads : {1, 8}) {
    expect_error(ErrorCode::kCorruptFile, "ant/2.PNG", [&] { load(spec_, {.threads = threads}); });
  }
}

TEST_F(FolderTest, CacheIsUsed) {
  const Bytes pixels = train_pixels(load_cached());
  ASSERT_EQ(cache_files().size(), 2u);
  // Same name, size and time but other content: only the cache can still give the old pixels.
  const fs::path image = data_ / "train/cat/1.png";
  const auto time = fs::last_write_time(image);
  put(image, Bytes(fs::file_size(image), 0));
  fs::last_write_time(image, time);
  EXPECT_EQ(train_pixels(load_cached()), pixels);
}

TEST_F(FolderTest, StaleCacheIsRebuilt) {
  load_cached();
  const Bytes other = encode_png(pattern_image(kShape, 99));
  const fs::path image = data_ / "train/cat/1.png";
  put(image, other);
  fs::last_write_time(image, fs::last_write_time(image) + std::chrono::seconds(2));
  const Dataset fresh = load_cached();
  EXPECT_EQ(train_pixels(fresh), train_pixels(load(spec_)));
  EXPECT_EQ(cache_files().size(), 2u) << "the stale file is replaced";

  fs::rename(image, data_ / "train/cat/9.png");
  EXPECT_EQ(train_pixels(load_cached()), train_pixels(load(spec_)));
  put_image("train/cat/7.png", 7);
  EXPECT_EQ(load_cached().num_samples(Split::kTrain), 7u);
}

TEST_F(FolderTest, CacheKnowsTheExtent) {
  const Bytes pixels = train_pixels(load_cached());
  EXPECT_EQ(load(spec_, {.shape = {3, 4, 3}, .cache_dir = cache_}).shape(), (ImageShape{3, 4, 3}));
  EXPECT_EQ(load(spec_, {.shape = {3, 3, 4}, .cache_dir = cache_}).shape(), (ImageShape{3, 3, 4}));
  EXPECT_EQ(train_pixels(load_cached()), pixels);
}

TEST_F(FolderTest, DamagedCacheIsRebuilt) {
  const Bytes pixels = train_pixels(load_cached());
  fs::path largest = cache_files()[0];
  for (const auto& path : cache_files())
    largest = fs::file_size(path) > fs::file_size(largest) ? path : largest;
  const Bytes good = read_file(largest, 1 << 20);
  const auto damage_and_load = [&](const Bytes& damaged) {
    put(largest, damaged);
    EXPECT_EQ(train_pixels(load_cached()), pixels);
    EXPECT_EQ(read_file(largest, 1 << 20), good) << "the cache is repaired";
  };
  for (size_t at = 0; at < good.size(); at += at + 40 < good.size() ? 23 : 1) {
    Bytes damaged = good;
    damaged[at] ^= 0x10;
    damage_and_load(damaged);
  }
  for (const size_t count : {size_t{0}, size_t{10}, good.size() - 32, good.size() - 1}) {
    damage_and_load(Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(count)));
  }
  Bytes longer = good;
  longer.push_back(0);
  damage_and_load(longer);
}

TEST_F(FolderTest, UnwritableCacheIsAWarning) {
  // A file where a folder is needed stops even the superuser.
  put(dir_ / "cache", std::string("in the way"));
  const Dataset folder = load_cached();
  EXPECT_EQ(folder.num_samples(Split::kTrain), 6u);
  ASSERT_EQ(folder.warnings().size(), 2u);
  EXPECT_THAT(folder.warnings()[0], ::testing::HasSubstr("not cached"));
}

}  // namespace
}  // namespace bitstrata::data::test
