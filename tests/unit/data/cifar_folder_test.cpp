// The real CIFAR-10 pictures that lie beside the repository; skipped where they are absent.

#include <cstdlib>

#include "data/batches.h"
#include "data/dataset.h"
#include "files.h"

namespace bitstrata::data::test {
namespace {

namespace fs = std::filesystem;

TEST_F(FilesTest, CifarJpegFolder) {
  const fs::path archive = fs::path(BITSTRATA_SOURCE_DIR) / "../shared/data/cifar10-jpeg.tar.zst";
  if (!fs::exists(archive)) GTEST_SKIP() << "../shared/data/cifar10-jpeg.tar.zst is absent";
  const std::string command = "tar --zstd -xf '" + archive.string() + "' -C '" + dir_.string() +
                              "' --wildcards 'train/*/000?.jpg' 'test/*/000?.jpg' 2>/dev/null";
  ASSERT_EQ(std::system(command.c_str()), 0) << "tar cannot unpack the archive";

  const LoadOptions options{.cache_dir = dir_ / "cache"};
  const Dataset first = load("folder:" + dir_.string(), options);
  EXPECT_EQ(first.shape(), (ImageShape{3, 32, 32}));
  EXPECT_EQ(first.num_samples(Split::kTrain), 100u);
  EXPECT_EQ(first.num_samples(Split::kTest), 100u);
  EXPECT_THAT(first.class_names(), ::testing::ElementsAre("airplane", "automobile", "bird", "cat", "deer",
                                                          "dog", "frog", "horse", "ship", "truck"));
  EXPECT_EQ(first.labels(Split::kTest)[35], 3);

  const Dataset again = load("folder:" + dir_.string(), options);
  for (const Split split : {Split::kTrain, Split::kTest}) {
    EXPECT_TRUE(std::ranges::equal(first.pixels(split), again.pixels(split)));
  }

  // Photographs under the usual constants are roughly centred.
  const BatchFiller filler(first, Split::kTrain, default_normalization(3));
  std::vector<float> batch(100 * 3072);
  filler.fill(all_indices(100), batch);
  double sum = 0.0;
  for (const float value : batch) sum += value;
  EXPECT_NEAR(sum / static_cast<double>(batch.size()), 0.0, 0.5);
}

}  // namespace
}  // namespace bitstrata::data::test
