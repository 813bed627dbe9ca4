#include "data/batches.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "files.h"

namespace bitstrata::data::test {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

constexpr ImageShape kShape{3, 16, 12};
constexpr int kSamples = 200;
constexpr size_t kSampleElems = 3 * 16 * 12;

DatasetContent pixel_content() {
  DatasetContent content;
  content.name = "made";
  content.shape = kShape;
  content.class_names = {"a", "b", "c"};
  for (int i = 0; i < kSamples; ++i) {
    content.train.labels.push_back(i % 3);
    const auto pixels = pattern_image(kShape, i).pixels;
    content.train.pixels.insert(content.train.pixels.end(), pixels.begin(), pixels.end());
  }
  return content;
}

const Dataset& pixel_data() {
  static const Dataset dataset(pixel_content());
  return dataset;
}

std::vector<float> augmented(const BatchFiller& filler, const std::vector<int64_t>& indices,
                             const Augmentation& augmentation, const AugmentationKey& key) {
  std::vector<float> batch(indices.size() * kSampleElems);
  filler.fill_augmented(indices, augmentation, key, batch);
  return batch;
}

TEST(Normalization, TableFollowsTheFormula) {
  const auto table = normalization_table(default_normalization(3), 3);
  ASSERT_EQ(table.size(), 768u);
  EXPECT_EQ(table[256 + 51], (51.0f / 255.0f - 0.456f) / 0.224f);
  EXPECT_FLOAT_EQ(table[0], -0.485f / 0.229f);
  EXPECT_FLOAT_EQ(table[2 * 256 + 255], (1.0f - 0.406f) / 0.225f);
  EXPECT_EQ(normalization_table(default_normalization(1), 1)[255], 1.0f);
  EXPECT_EQ(default_normalization(2), (Normalization{{0.5f, 0.5f}, {0.5f, 0.5f}}));
}

TEST(Normalization, UnusableConstantsAreRefused) {
  const auto refuse = [](const Normalization& normalization) {
    expect_error(ErrorCode::kInvalidArgument, "normalisation",
                 [&] { normalization_table(normalization, 1); });
  };
  refuse({{0.5f, 0.5f}, {0.5f, 0.5f}});
  refuse({{0.5f}, {}});
  refuse({{0.5f}, {0.0f}});
  refuse({{0.5f}, {-1.0f}});
  refuse({{NAN}, {1.0f}});
  refuse({{0.5f}, {INFINITY}});
}

TEST(Shuffled, IsAPermutationBySeedAndEpoch) {
  const auto indices = all_indices(1000);
  const auto order = shuffled(indices, 3, 4);
  EXPECT_NE(order, indices);
  auto sorted = order;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(sorted, indices);
  EXPECT_EQ(shuffled(indices, 3, 4), order);
  EXPECT_NE(shuffled(indices, 3, 5), order);
  EXPECT_NE(shuffled(indices, 4, 4), order);
  EXPECT_THAT(shuffled(std::vector<int64_t>{7}, 0, 0), ElementsAre(7));
  EXPECT_TRUE(shuffled({}, 0, 0).empty());
}

TEST(Shuffled, ReachesAllOrders) {
  std::set<std::vector<int64_t>> orders;
  for (uint64_t epoch = 0; epoch < 500; ++epoch) orders.insert(shuffled(all_indices(4), 1, epoch));
  EXPECT_EQ(orders.size(), 24u);
}

TEST(BatchFiller, FillsNormalizedPixels) {
  const BatchFiller filler(pixel_data(), Split::kTrain, default_normalization(3));
  const auto table = normalization_table(default_normalization(3), 3);
  const std::vector<int64_t> indices = {5, 199, 0, 5};
  std::vector<float> batch(indices.size() * kSampleElems);
  filler.fill(indices, batch);
  for (size_t i = 0; i < indices.size(); ++i) {
    const auto pixels = pattern_image(kShape, static_cast<int>(indices[i])).pixels;
    for (size_t e = 0; e < kSampleElems; ++e) {
      ASSERT_EQ(batch[i * kSampleElems + e], table[e / (16 * 12) * 256 + pixels[e]]);
    }
  }
  std::vector<int64_t> labels(4);
  filler.fill_labels(indices, labels);
  EXPECT_THAT(labels, ElementsAre(2, 1, 0, 2));
}

TEST(BatchFiller, NoPaddingAndNoFlipIsPlain) {
  const BatchFiller filler(pixel_data(), Split::kTrain, default_normalization(3));
  std::vector<float> plain(3 * kSampleElems);
  filler.fill(std::vector<int64_t>{1, 2, 3}, plain);
  EXPECT_EQ(augmented(filler, {1, 2, 3}, {0, false}, {9, 9}), plain);
}

/// The sample shifted by (dy, dx) with zeros around it, then mirrored.
std::vector<float> placed(const std::vector<float>& sample, int dy, int dx, bool mirror) {
  std::vector<float> out(kSampleElems, 0.0f);
  for (int c = 0; c < 3; ++c) {
    for (int y = 0; y < 16; ++y) {
      for (int x = 0; x < 12; ++x) {
        const int sy = y + dy, sx = (mirror ? 11 - x : x) + dx;
        if (sy < 0 || sy >= 16 || sx < 0 || sx >= 12) continue;
        out[static_cast<size_t>((c * 16 + y) * 12 + x)] =
            sample[static_cast<size_t>((c * 16 + sy) * 12 + sx)];
      }
    }
  }
  return out;
}

TEST(BatchFiller, AugmentationIsACropOfThePaddedSampleOrItsMirrorImage) {
  const BatchFiller filler(pixel_data(), Split::kTrain, default_normalization(3));
  std::vector<float> plain(kSampleElems);
  filler.fill(std::vector<int64_t>{17}, plain);
  std::set<std::tuple<int, int, bool>> seen;
  for (uint64_t epoch = 0; epoch < 400; ++epoch) {
    const auto batch = augmented(filler, {17}, {2, true}, {1, epoch});
    int matches = 0;
    for (int dy = -2; dy <= 2; ++dy) {
      for (int dx = -2; dx <= 2; ++dx) {
        for (const bool mirror : {false, true}) {
          if (batch != placed(plain, dy, dx, mirror)) continue;
          ++matches;
          seen.insert({dy, dx, mirror});
        }
      }
    }
    ASSERT_EQ(matches, 1);
  }
  EXPECT_EQ(seen.size(), 50u) << "every offset, mirrored or not, is drawn";
}

TEST(BatchFiller, AugmentationDependsOnSeedEpochAndSampleOnly) {
  const BatchFiller filler(pixel_data(), Split::kTrain, default_normalization(3));
  const Augmentation augmentation{3, true};
  const auto whole = augmented(filler, {4, 8, 15, 16, 23, 42}, augmentation, {7, 2});
  auto parts = augmented(filler, {4, 8}, augmentation, {7, 2});
  const auto rest = augmented(filler, {15, 16, 23, 42}, augmentation, {7, 2});
  parts.insert(parts.end(), rest.begin(), rest.end());
  EXPECT_EQ(parts, whole);
  EXPECT_NE(augmented(filler, {4, 8, 15, 16, 23, 42}, augmentation, {7, 3}), whole);
  EXPECT_NE(augmented(filler, {4, 8, 15, 16, 23, 42}, augmentation, {8, 2}), whole);
}

TEST(BatchFiller, ThreadsDoNotChangeTheResult) {
  auto indices = all_indices(kSamples);
  // Several times over, so that the batch is large enough for more than one thread.
  for (int i = 0; i < 5; ++i) indices.insert(indices.end(), indices.begin(), indices.end());
  ASSERT_GT(indices.size() * kSampleElems, size_t{1} << 21);
  const BatchFiller one(pixel_data(), Split::kTrain, default_normalization(3), 1);
  const BatchFiller eight(pixel_data(), Split::kTrain, default_normalization(3), 8);
  EXPECT_EQ(augmented(one, indices, {4, true}, {1, 1}), augmented(eight, indices, {4, true}, {1, 1}));
}

TEST(BatchFiller, NormalizedDataIsTakenAsItIs) {
  DatasetContent content;
  content.shape = {1, 1, 3};
  content.class_names = {"a"};
  content.test = {{0, 0}, {}, {1.0f, 2.0f, 3.0f, -4.0f, -5.0f, -6.0f}};
  const Dataset dataset(content);
  const BatchFiller filler(dataset, Split::kTest, {});
  std::vector<float> batch(3);
  filler.fill(std::vector<int64_t>{1}, batch);
  EXPECT_THAT(batch, ElementsAre(-4.0f, -5.0f, -6.0f));
}

TEST(BatchFiller, WrongRequestsAreRefused) {
  const BatchFiller filler(pixel_data(), Split::kTrain, default_normalization(3));
  std::vector<float> batch(kSampleElems);
  expect_error(ErrorCode::kInvalidArgument, "sample 200",
               [&] { filler.fill(std::vector<int64_t>{200}, batch); });
  expect_error(ErrorCode::kInvalidArgument, "sample -1",
               [&] { filler.fill(std::vector<int64_t>{-1}, batch); });
  expect_error(ErrorCode::kInvalidArgument, "elements", [&] {
    filler.fill(std::vector<int64_t>{1, 2}, batch);
  });
  for (const int pad : {-1, 12}) {
    expect_error(ErrorCode::kInvalidArgument, "pad", [&] {
      filler.fill_augmented(std::vector<int64_t>{1}, {pad, false}, {}, batch);
    });
  }
  EXPECT_THROW(BatchFiller(pixel_data(), Split::kTrain, default_normalization(1)), Error);
  const BatchFiller empty(pixel_data(), Split::kTest, default_normalization(3));
  EXPECT_THROW(empty.fill(std::vector<int64_t>{0}, batch), Error);
}

}  // namespace
}  // namespace bitstrata::data::test
