#include <gmock/gmock.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "tests/cli/network.h"
#include "tests/cli/process.h"

namespace bitstrata::testing {
namespace {

using nlohmann::json;

/// The test images of ../shared/data/cifar10-jpeg.tar.zst, unpacked once into the build folder.
class CliSharedNetwork : public ::testing::Test {
 protected:
  void SetUp() override {
    if (shared_folder().empty()) GTEST_SKIP() << "../shared is absent: no CIFAR-10 images and no ResNet-20";
    if (std::string_view(BITSTRATA_SANITIZE) != "") GTEST_SKIP() << "takes minutes under sanitizers";
    images_ = std::filesystem::path(BITSTRATA_BINARY_DIR) / "cifar10-test";
    network_ = shared_folder() / "models" / "resnet20-cifar10.onnx";
    if (std::filesystem::exists(images_)) return;
    // Each test is a process, and they run side by side: unpack elsewhere, then rename.
    const std::filesystem::path unpacked = images_.string() + "." + std::to_string(getpid());
    std::filesystem::create_directories(unpacked);
    const auto archive = shared_folder() / "data" / "cifar10-jpeg.tar.zst";
    const Finished tar = run_process("/usr/bin/tar", {"--zstd", "-xf", archive.string(), "-C",
                                                      unpacked.string(), "--wildcards", "*test/*"});
    ASSERT_EQ(tar.status, 0) << tar.err;
    std::error_code lost;  // another test was first
    std::filesystem::rename(unpacked, images_, lost);
    if (lost) std::filesystem::remove_all(unpacked);
  }

  /// The folder that has test/CLASS/*.
  std::filesystem::path data_folder() const {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(images_)) {
      if (entry.path().filename() == "test") return entry.path().parent_path();
    }
    return {};
  }

  std::filesystem::path images_, network_;
};

TEST_F(CliSharedNetwork, FloatAccuracyOnAllTestImages) {
  const TemporaryFolder cache;
  const std::string data = "folder:" + data_folder().string();
  const Finished finished =
      bitstrata({"eval", network_.string(), "--data", data, "--json", "--cache", cache.path().string()});
  ASSERT_EQ(finished.status, 0) << finished.err;
  const json result = json::parse(finished.out);
  EXPECT_EQ(result.at("images"), 10000);
  EXPECT_NEAR(result.at("accuracy").get<double>(), 0.8883, 0.0005)
      << "88.83 % was measured in LibTorch (design.md)";
}

TEST_F(CliSharedNetwork, ClassifiesOneImageByName) {
  const auto image = data_folder() / "test" / "ship";
  const auto first = std::filesystem::directory_iterator(image)->path();
  const Finished finished = bitstrata({"run", network_.string(), first.string(), "--json"});
  ASSERT_EQ(finished.status, 0) << finished.err;
  EXPECT_EQ(json::parse(finished.out).at("outputs")[0].at("logits").size(), 10u);
}

TEST_F(CliSharedNetwork, InspectsTheFloatNetwork) {
  const Finished finished = bitstrata({"inspect", network_.string(), "--json"});
  ASSERT_EQ(finished.status, 0) << finished.err;
  const json result = json::parse(finished.out);
  EXPECT_EQ(result.at("format"), "onnx");
  EXPECT_NEAR(result.at("totals").at("weights").get<double>(), 0.27e6, 0.01e6);
  EXPECT_NEAR(result.at("totals").at("macs").get<double>(), 40.5e6, 1e6);
}

}  // namespace
}  // namespace bitstrata::testing
