#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "core/file.h"
#include "data/dataset.h"
#include "data/npy.h"
#include "data/sources.h"
#include "files.h"

namespace bitstrata::data::test {
namespace {

using SourcesTest = FilesTest;
using ::testing::Each;
using ::testing::ElementsAre;

const LoadOptions kTestOnly = {.train = false};

std::string spec_of(const char* kind, const std::filesystem::path& dir) {
  return std::string(kind) + ":" + dir.string();
}

std::vector<uint8_t> sample(const Dataset& dataset, Split split, size_t index) {
  const size_t count = dataset.shape().num_elems();
  const auto pixels = dataset.pixels(split).subspan(index * count, count);
  return {pixels.begin(), pixels.end()};
}

// digits

TEST_F(SourcesTest, DigitsAreBuiltIn) {
  const Dataset digits = load("digits");
  EXPECT_EQ(digits.shape(), (ImageShape{1, 8, 8}));
  EXPECT_EQ(digits.num_samples(Split::kTrain) + digits.num_samples(Split::kTest), 1797u);
  EXPECT_NEAR(static_cast<double>(digits.num_samples(Split::kTest)), 359.4, 5);
  EXPECT_THAT(digits.class_names(), ElementsAre("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"));
  EXPECT_EQ(digits.default_augmentation().flip, false);
  EXPECT_FALSE(digits.is_normalized());
  std::map<int, int> per_class;
  for (const int32_t label : digits.labels(Split::kTest)) ++per_class[label];
  for (int c = 0; c < 10; ++c) EXPECT_NEAR(per_class[c], 36, 2);
}

TEST_F(SourcesTest, DigitsAreThePublishedOnes) {
  // The first image of the set; 16 becomes 255. Checksum over all: the published values sum to 561,718, of
  // which 16s lose 1.
  const Dataset digits = load("digits");
  const Bytes first = {0, 0, 80, 208, 144, 16, 0, 0};
  bool found = false;
  int64_t sum = 0, full = 0;
  for (const Split split : {Split::kTrain, Split::kTest}) {
    for (size_t i = 0; i < digits.num_samples(split); ++i) {
      const auto pixels = sample(digits, split, i);
      found |= digits.labels(split)[i] == 0 && std::equal(first.begin(), first.end(), pixels.begin());
      sum += std::accumulate(pixels.begin(), pixels.end(), int64_t{0});
      full += std::count(pixels.begin(), pixels.end(), 255);
    }
  }
  EXPECT_TRUE(found);
  EXPECT_EQ((sum + full) / 16, 561718);
}

TEST_F(SourcesTest, DigitsFitANetwork) {
  const Dataset digits = load("digits", {.train = false, .shape = {3, 32, 32}});
  EXPECT_EQ(digits.shape(), (ImageShape{3, 32, 32}));
  EXPECT_EQ(digits.num_samples(Split::kTrain), 0u);
  const auto pixels = sample(digits, Split::kTest, 5);
  EXPECT_TRUE(std::equal(pixels.begin(), pixels.begin() + 1024, pixels.begin() + 2048));
  EXPECT_GT(*std::max_element(pixels.begin(), pixels.end()), 100);
}

TEST_F(SourcesTest, WrongSpecsAreRefused) {
  for (const char* spec : {"", "digits:", "mnist", "cifar10", "cifar10:", "folder:", ":", "CIFAR10:x"}) {
    expect_error(ErrorCode::kInvalidArgument, "expected digits, cifar10:DIR", [&] { load(spec); });
  }
  expect_error(ErrorCode::kInvalidArgument, "no split",
               [] { load("digits", {.train = false, .test = false}); });
  for (const char* kind : {"cifar10", "folder", "idx", "npy"}) {
    expect_error(ErrorCode::kIo, "absent", [&] { load(spec_of(kind, dir_ / "absent")); });
  }
}

// cifar10

Bytes cifar_batch(int records, int salt) {
  Bytes bytes;
  for (int i = 0; i < records; ++i) {
    bytes.push_back(static_cast<uint8_t>((i + salt) % 10));
    const auto pixels = pattern_image({3, 32, 32}, i + salt).pixels;
    bytes.insert(bytes.end(), pixels.begin(), pixels.end());
  }
  return bytes;
}

void put_cifar(const std::filesystem::path& dir) {
  for (int i = 1; i <= 5; ++i) put(dir / ("data_batch_" + std::to_string(i) + ".bin"), cifar_batch(4, i));
  put(dir / "test_batch.bin", cifar_batch(7, 9));
}

TEST_F(SourcesTest, Cifar10) {
  put_cifar(dir_);
  const Dataset cifar = load(spec_of("cifar10", dir_));
  EXPECT_EQ(cifar.name(), spec_of("cifar10", dir_));
  EXPECT_EQ(cifar.shape(), (ImageShape{3, 32, 32}));
  EXPECT_EQ(cifar.num_samples(Split::kTrain), 20u);
  EXPECT_EQ(cifar.num_samples(Split::kTest), 7u);
  EXPECT_EQ(cifar.labels(Split::kTrain)[4], 2);
  EXPECT_EQ(sample(cifar, Split::kTrain, 6), pattern_image({3, 32, 32}, 4).pixels);
  EXPECT_EQ(cifar.class_names()[9], "truck");
  EXPECT_EQ(cifar.default_augmentation().pad, 4);
  EXPECT_TRUE(cifar.default_augmentation().flip);
}

TEST_F(SourcesTest, Cifar10ClassNames) {
  put_cifar(dir_);
  put(dir_ / "batches.meta.txt", std::string("a\nb\nc\nd\ne\nf\r\ng\nh\ni\nj\n\n"));
  EXPECT_EQ(load(spec_of("cifar10", dir_)).class_names()[5], "f");
  put(dir_ / "batches.meta.txt", std::string("a\nb\n"));
  expect_error(ErrorCode::kBadInput, "has 2 class names", [&] { load(spec_of("cifar10", dir_)); });
  put(dir_ / "batches.meta.txt", std::string("a\nb\n\nd\n"));
  expect_error(ErrorCode::kBadInput, "blank", [&] { load(spec_of("cifar10", dir_)); });
}

TEST_F(SourcesTest, Cifar10EvaluationNeedsNoTrainFiles) {
  put(dir_ / "test_batch.bin", cifar_batch(3, 0));
  EXPECT_EQ(load(spec_of("cifar10", dir_), kTestOnly).num_samples(Split::kTest), 3u);
  expect_error(ErrorCode::kIo, "data_batch_1.bin", [&] { load(spec_of("cifar10", dir_)); });
}

TEST_F(SourcesTest, Cifar10DamagedFiles) {
  put_cifar(dir_);
  Bytes batch = cifar_batch(2, 0);
  batch[3073] = 10;
  put(dir_ / "test_batch.bin", batch);
  expect_error(ErrorCode::kCorruptFile, "label 10 at byte 3073", [&] { load(spec_of("cifar10", dir_)); });
  for (const size_t count : {0ul, 1ul, 3072ul, 3074ul, 6145ul}) {
    put(dir_ / "test_batch.bin", std::span(batch).first(count));
    expect_error(ErrorCode::kCorruptFile, "test_batch.bin", [&] { load(spec_of("cifar10", dir_)); });
  }
}

// idx

Bytes idx_file(const std::vector<uint32_t>& extents, const Bytes& data) {
  Bytes file = {0, 0, 8, static_cast<uint8_t>(extents.size())};
  for (const uint32_t extent : extents) {
    for (int shift = 24; shift >= 0; shift -= 8) file.push_back(static_cast<uint8_t>(extent >> shift));
  }
  file.insert(file.end(), data.begin(), data.end());
  return file;
}

const Bytes kIdxTrainImages = idx_file({3, 4, 5}, pattern_image({3, 4, 5}).pixels);
const Bytes kIdxTestImages = idx_file({2, 4, 5}, pattern_image({2, 4, 5}, 1).pixels);

void put_idx(const std::filesystem::path& dir, const std::string& dash = "-") {
  put(dir / ("train-images" + dash + "idx3-ubyte"), kIdxTrainImages);
  put(dir / ("train-labels" + dash + "idx1-ubyte"), idx_file({3}, {2, 0, 1}));
  put(dir / ("t10k-images" + dash + "idx3-ubyte"), kIdxTestImages);
  put(dir / ("t10k-labels" + dash + "idx1-ubyte"), idx_file({2}, {1, 1}));
}

TEST_F(SourcesTest, Idx) {
  for (const std::string dash : {"-", "."}) {
    const auto dir = dir_ / dash;
    put_idx(dir / "x", dash);
    const Dataset idx = load(spec_of("idx", dir / "x"));
    EXPECT_EQ(idx.shape(), (ImageShape{1, 4, 5}));
    EXPECT_THAT(idx.labels(Split::kTrain), ElementsAre(2, 0, 1));
    EXPECT_THAT(idx.labels(Split::kTest), ElementsAre(1, 1));
    EXPECT_EQ(idx.num_classes(), 3);
    EXPECT_EQ(sample(idx, Split::kTrain, 2), Bytes(kIdxTrainImages.begin() + 16 + 40, kIdxTrainImages.end()));
    EXPECT_FALSE(idx.default_augmentation().flip);
  }
}

TEST_F(SourcesTest, IdxEvaluationKnowsTheTrainClasses) {
  put_idx(dir_);
  std::filesystem::remove(dir_ / "train-images-idx3-ubyte");
  EXPECT_EQ(load(spec_of("idx", dir_), kTestOnly).num_classes(), 3);
  std::filesystem::remove(dir_ / "train-labels-idx1-ubyte");
  EXPECT_EQ(load(spec_of("idx", dir_), kTestOnly).num_classes(), 2);
  expect_error(ErrorCode::kIo, "train-labels-idx1-ubyte", [&] { load(spec_of("idx", dir_)); });
}

TEST_F(SourcesTest, IdxTestLabelBeyondTheTrainClasses) {
  put_idx(dir_);
  put(dir_ / "t10k-labels-idx1-ubyte", idx_file({2}, {1, 3}));
  expect_error(ErrorCode::kBadInput, "label 3 of sample 1", [&] { load(spec_of("idx", dir_)); });
}

TEST_F(SourcesTest, IdxDamagedFiles) {
  put_idx(dir_);
  const auto images = dir_ / "t10k-images-idx3-ubyte", labels = dir_ / "t10k-labels-idx1-ubyte";
  const auto refuse = [&](const std::filesystem::path& path, const Bytes& good, auto&& damage) {
    Bytes bytes = good;
    damage(bytes);
    put(path, bytes);
    expect_error(ErrorCode::kCorruptFile, path.filename().string(), [&] { load(spec_of("idx", dir_)); });
    put(path, good);
  };
  const Bytes good_labels = idx_file({2}, {1, 1});
  for (size_t count = 0; count < kIdxTestImages.size(); ++count) {
    refuse(images, kIdxTestImages, [count](Bytes& bytes) { bytes.resize(count); });
  }
  for (size_t count = 0; count < good_labels.size(); ++count) {
    refuse(labels, good_labels, [count](Bytes& bytes) { bytes.resize(count); });
  }
  refuse(images, kIdxTestImages, [](Bytes& bytes) { bytes.push_back(0); });
  for (size_t at = 0; at < 16; ++at) {
    refuse(images, kIdxTestImages, [at](Bytes& bytes) { bytes[at] ^= 0x80; });
  }
  refuse(images, kIdxTestImages,
         [](Bytes& bytes) { std::fill(bytes.begin() + 4, bytes.begin() + 16, 0xff); });
  refuse(images, kIdxTestImages, [](Bytes& bytes) { bytes[0] = 0x1f, bytes[1] = 0x8b; });
  put(labels, idx_file({3}, {1, 1, 0}));
  expect_error(ErrorCode::kBadInput, "has 2 images, but", [&] { load(spec_of("idx", dir_)); });
}

TEST_F(SourcesTest, IdxSplitsOfDifferentExtent) {
  put_idx(dir_);
  put(dir_ / "t10k-images-idx3-ubyte", idx_file({2, 5, 4}, Bytes(40, 9)));
  expect_error(ErrorCode::kBadInput, "1x5x4", [&] { load(spec_of("idx", dir_)); });
  EXPECT_THAT(load(spec_of("idx", dir_), {.shape = {1, 6, 6}}).pixels(Split::kTest), Each(9));
}

// npy

NpyArray array_of(char kind, int item_bytes, std::vector<int64_t> shape, Bytes bytes) {
  return {kind, item_bytes, std::move(shape), std::move(bytes)};
}

void put_npy(const std::filesystem::path& path, const NpyArray& array) {
  put(path, serialize_npy(array));
}

TEST_F(SourcesTest, NpyPixels) {
  Bytes nhwc(2 * 2 * 2 * 3);
  std::iota(nhwc.begin(), nhwc.end(), uint8_t{0});
  put_npy(dir_ / "train_x.npy", array_of('u', 1, {2, 2, 2, 3}, nhwc));
  put_npy(dir_ / "train_y.npy", array_of('i', 2, {2}, {1, 0, 0, 0}));
  put_npy(dir_ / "test_x.npy", array_of('u', 1, {1, 2, 2, 3}, Bytes(12, 5)));
  put_npy(dir_ / "test_y.npy", array_of('i', 8, {1}, Bytes(8, 0)));
  const Dataset npy = load(spec_of("npy", dir_));
  EXPECT_EQ(npy.shape(), (ImageShape{3, 2, 2}));
  EXPECT_THAT(sample(npy, Split::kTrain, 1), ElementsAre(12, 15, 18, 21, 13, 16, 19, 22, 14, 17, 20, 23));
  EXPECT_THAT(npy.labels(Split::kTrain), ElementsAre(1, 0));
  EXPECT_EQ(npy.num_classes(), 2);
  EXPECT_THAT(load(spec_of("npy", dir_), {.train = false, .shape = {1, 4, 4}}).pixels(Split::kTest), Each(5));
}

class NpyFloatTest : public FilesTest {
 protected:
  NpyFloatTest() {
    const std::vector<float> values = {-1.0f, 0.5f, 2.0f, 0.0f, 1.0f, 3.0f, -2.0f, 4.0f};
    write_npy(dir_ / "test_x.npy", {2, 1, 2, 2}, values);
    put_npy(dir_ / "test_y.npy", array_of('u', 1, {2}, {0, 2}));
  }
  std::string spec_ = "npy:" + dir_.string();
};

TEST_F(NpyFloatTest, ValuesAreKept) {
  const Dataset npy = load(spec_, kTestOnly);
  EXPECT_TRUE(npy.is_normalized());
  EXPECT_EQ(npy.num_classes(), 3);
  EXPECT_THAT(npy.values(Split::kTest), ElementsAre(-1.0f, 0.5f, 2.0f, 0.0f, 1.0f, 3.0f, -2.0f, 4.0f));
  expect_error(ErrorCode::kBadInput, "not resized", [&] {
    load(spec_, {.train = false, .shape = {1, 4, 4}});
  });
  expect_error(ErrorCode::kBadInput, "1x2x2", [&] { load(spec_, {.train = false, .shape = {3, 2, 2}}); });
}

TEST_F(NpyFloatTest, ClassNames) {
  put(dir_ / "classes.txt", std::string("cat\ndog\nowl\n"));
  EXPECT_EQ(load(spec_, kTestOnly).class_names()[2], "owl");
  put(dir_ / "classes.txt", std::string("cat\ndog\n"));
  expect_error(ErrorCode::kBadInput, "label 2 of sample 1", [&] { load(spec_, kTestOnly); });
  put(dir_ / "classes.txt", std::string("cat\ncat\nowl\n"));
  expect_error(ErrorCode::kBadInput, "there twice", [&] { load(spec_, kTestOnly); });
  put(dir_ / "classes.txt", std::string("\n"));
  expect_error(ErrorCode::kBadInput, "no class names", [&] { load(spec_, kTestOnly); });
}

TEST_F(NpyFloatTest, WrongArrays) {
  const auto refuse = [&](const char* file, const NpyArray& array, const std::string& text) {
    const Bytes good = read_file(dir_ / file, 1 << 20);
    put_npy(dir_ / file, array);
    expect_error(ErrorCode::kBadInput, text, [&] { load(spec_, kTestOnly); });
    put(dir_ / file, good);
  };
  refuse("test_y.npy", array_of('i', 1, {2}, {0, 0xff}), "label -1 of sample 1");
  refuse("test_y.npy", array_of('i', 4, {2}, {0, 0, 0, 0, 0, 0, 0, 1}), "label 16777216");
  refuse("test_y.npy", array_of('f', 4, {2}, Bytes(8)), "expected integers");
  refuse("test_y.npy", array_of('u', 1, {1, 2}, {0, 1}), "expected [N] labels");
  refuse("test_y.npy", array_of('u', 1, {3}, {0, 1, 2}), "3 labels");
  refuse("test_y.npy", array_of('u', 1, {0}, {}), "no samples");
  refuse("test_x.npy", array_of('f', 4, {2, 2, 2}, Bytes(32)), "expected uint8 [N, H, W, C]");
  refuse("test_x.npy", array_of('f', 8, {2, 1, 2, 2}, Bytes(64)), "'<f8'");
  refuse("test_x.npy", array_of('u', 1, {2, 0, 2, 1}, {}), "extent of 0");
  refuse("test_x.npy", array_of('f', 4, {2, 1, 1, 1}, {0, 0, 0, 0, 0, 0, 0xc0, 0x7f}), "at element 1");
}

TEST_F(NpyFloatTest, SplitsMustAgree) {
  put_npy(dir_ / "train_y.npy", array_of('u', 1, {1}, {2}));
  put_npy(dir_ / "train_x.npy", array_of('u', 1, {1, 2, 2}, Bytes(4)));
  expect_error(ErrorCode::kBadInput, "the other normalised values", [&] { load(spec_); });
  write_npy(dir_ / "train_x.npy", {1, 1, 1, 4}, std::vector<float>(4));
  expect_error(ErrorCode::kBadInput, "expected the same extent", [&] { load(spec_); });
  put_npy(dir_ / "train_y.npy", array_of('u', 1, {1}, {1}));
  expect_error(ErrorCode::kBadInput, "label 2 of sample 1 is out of range", [&] { load(spec_, kTestOnly); });
}

// Dataset, classes, holdout

TEST_F(SourcesTest, DatasetChecksItsContent) {
  DatasetContent content;
  content.name = "made";
  content.shape = {1, 2, 2};
  content.class_names = {"a", "b"};
  expect_error(ErrorCode::kBadInput, "no samples", [&] { Dataset{content}; });
  content.train = {{0, 1}, Bytes(8), {}};
  EXPECT_EQ(Dataset(content).num_samples(Split::kTrain), 2u);
  content.test = {{0, 1}, Bytes(7), {}};
  expect_error(ErrorCode::kBadInput, "test split has 7 elements", [&] { Dataset{content}; });
  content.test = {{0, 2}, Bytes(8), {}};
  expect_error(ErrorCode::kBadInput, "label 2", [&] { Dataset{content}; });
}

TEST_F(SourcesTest, DifferingClassesAreNamed) {
  using Names = std::vector<std::string>;
  EXPECT_NO_THROW(check_same_classes({"a", "b"}, {"a", "b"}, "d"));
  const auto refuse = [](const Names& train, const Names& test, const std::string& text) {
    expect_error(ErrorCode::kBadInput, text, [&] { check_same_classes(train, test, "d"); });
  };
  refuse({"a", "b"}, {"a"}, "'b' is in train but not in test");
  refuse({"a"}, {"a", "b"}, "'b' is in test but not in train");
  refuse({"a", "c"}, {"b", "c"}, "'a' is in train but not in test");
  refuse({"b", "c"}, {"a", "b", "c"}, "'a' is in test but not in train");
}

TEST_F(SourcesTest, HoldoutIsStratifiedAndDisjoint) {
  std::vector<int32_t> labels;
  for (int i = 0; i < 1000; ++i) labels.push_back(i % 10 < 7 ? 0 : i % 10 == 7 ? 1 : 2);
  const Holdout split = holdout(labels, 5, 0.1);
  EXPECT_TRUE(std::is_sorted(split.train.begin(), split.train.end()));
  EXPECT_TRUE(std::is_sorted(split.val.begin(), split.val.end()));
  std::set<int64_t> all(split.train.begin(), split.train.end());
  all.insert(split.val.begin(), split.val.end());
  EXPECT_EQ(all.size(), 1000u);
  EXPECT_EQ(split.train.size() + split.val.size(), 1000u);
  std::map<int32_t, int> held;
  for (const int64_t index : split.val) ++held[labels[static_cast<size_t>(index)]];
  EXPECT_THAT(held, ElementsAre(std::pair(0, 70), std::pair(1, 10), std::pair(2, 20)));
  EXPECT_EQ(holdout(labels, 5, 0.1).val, split.val);
  EXPECT_NE(holdout(labels, 6, 0.1).val, split.val);
  const Dataset digits = load("digits");
  EXPECT_EQ(holdout(digits, 5, 0.1).val, holdout(digits.labels(Split::kTrain), 5, 0.1).val);
}

TEST_F(SourcesTest, HoldoutLimits) {
  const std::vector<int32_t> labels = {0, 0, 1, 2, 2, 2};
  EXPECT_TRUE(holdout(labels, 0, 0.0).val.empty());
  EXPECT_EQ(holdout(labels, 0, 0.01).val.size(), 2u) << "one of each class of two or more";
  EXPECT_EQ(holdout(labels, 0, 0.99).train.size(), 2u);
  for (const double fraction : {-0.1, 1.0, static_cast<double>(NAN)}) {
    expect_error(ErrorCode::kInvalidArgument, "hold out", [&] { holdout(labels, 0, fraction); });
  }
}

}  // namespace
}  // namespace bitstrata::data::test
