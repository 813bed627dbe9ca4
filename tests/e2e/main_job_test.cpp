#include <gmock/gmock.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "data/dataset.h"
#include "tests/cli/process.h"

/// The main job as a stranger runs it: data to float network to packed network, each figure checked against another command's.
namespace bitstrata::testing {
namespace {

using Json = nlohmann::json;

Json json_of(const std::vector<std::string>& arguments) {
  const Finished finished = bitstrata(arguments);
  EXPECT_EQ(finished.status, 0) << finished.err;
  return finished.status == 0 ? Json::parse(finished.out) : Json();
}

Json run_json(const std::string& folder) { return Json::parse(read_text_file(folder + "/run.json")); }

/// Trains once for all tests of this file.
class MainJob : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    const Json trained = json_of({"train", "lenet", "--data", "digits", "--out", network(), "--epochs", "6", "--seed", "1", "--json", "--quiet"});
    float_accuracy_ = trained.at("accuracy");
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  static std::string network() { return *folder_ / "float.onnx"; }

  static TemporaryFolder* folder_;
  static double float_accuracy_;
};

TemporaryFolder* MainJob::folder_ = nullptr;
double MainJob::float_accuracy_ = 0;

TEST_F(MainJob, FloatTrainingLearnsAndItsFileSaysTheSame) {
  EXPECT_GT(float_accuracy_, 0.93);
  // The runtime's float convolutions may differ from LibTorch's in the last bits: at most one of 359 images.
  EXPECT_NEAR(json_of({"eval", network(), "--data", "digits", "--json", "--quiet"}).at("accuracy"), float_accuracy_, 1.0 / 359);
}

TEST_F(MainJob, CompressesVerifiesAndStatesTheTrueAccuracy) {
  const std::string out = *folder_ / "w2a4";
  const Json result = json_of({"compress", network(), "--data", "digits", "--method", "uniform", "--policy", "lsq", "--target", "avg-bits=2", "--activation-bits", "4",
                               "--epochs", "4", "--seed", "1", "--out", out, "--json", "--quiet"});
  EXPECT_EQ(result, run_json(out));
  for (const char* key : {"float_accuracy", "accuracy", "compression", "size_bytes", "avg_weight_bits", "avg_activation_bits", "bitops", "method", "policy", "seed",
                          "seconds", "version"}) {
    EXPECT_TRUE(result.contains(key)) << key;
  }
  EXPECT_DOUBLE_EQ(result.at("compression"), 16.0);
  EXPECT_DOUBLE_EQ(result.at("avg_weight_bits"), 2.0);
  EXPECT_EQ(result.at("size_bytes"), std::filesystem::file_size(out + "/model.bst"));
  EXPECT_GT(result.at("accuracy"), 0.9);
  const Json eval = json_of({"eval", out + "/model.bst", "--data", "digits", "--json", "--quiet"});
  EXPECT_DOUBLE_EQ(eval.at("accuracy"), result.at("accuracy"));
  const Json verified = json_of({"verify", out, "--data", "digits", "--json", "--quiet"});
  EXPECT_EQ(verified.at("images"), 359);
  EXPECT_EQ(verified.at("mismatched_predictions"), 0);
  EXPECT_EQ(verified.at("mismatched_codes"), 0);
  EXPECT_TRUE(verified.at("first_difference").is_null());
  EXPECT_GE(verified.at("isas").size(), 2u);
  EXPECT_EQ(json_of({"verify", out + "/model.bst", "--data", "digits", "--images", "20", "--json", "--quiet"}).at("images"), 20);
}

TEST_F(MainJob, VerifyFindsAPackedNetworkOfAnotherTraining) {
  const std::string a = *folder_ / "a", b = *folder_ / "b";
  for (const auto& [out, seed] : {std::pair(a, "1"), std::pair(b, "2")}) {
    json_of({"compress", network(), "--data", "digits", "--target", "avg-bits=3", "--epochs", "1", "--seed", seed, "--out", out, "--json", "--quiet"});
  }
  std::filesystem::copy_file(b + "/model.bst", a + "/model.bst", std::filesystem::copy_options::overwrite_existing);
  const Finished finished = bitstrata({"verify", a, "--data", "digits", "--images", "10", "--json", "--quiet"});
  EXPECT_EQ(finished.status, 1);
  const Json verified = Json::parse(finished.out);
  EXPECT_GT(verified.at("mismatched_codes"), 0);
  EXPECT_TRUE(verified.at("first_difference").contains("layer"));
}

TEST_F(MainJob, EveryPolicyTrainsAndRunsAsTrained) {
  for (const char* policy : {"dorefa", "pact", "sawb", "lsq", "wrpn"}) {
    for (const char* bits : {"1", "3", "8"}) {
      SCOPED_TRACE(std::string(policy) + " " + bits);
      const std::string out = *folder_ / (std::string(policy) + bits);
      const Json result = json_of({"compress", network(), "--data", "digits", "--policy", policy, "--target", std::string("avg-bits=") + bits, "--epochs", "2", "--out", out,
                                   "--json", "--quiet"});
      EXPECT_GT(result.at("accuracy"), *bits == '1' ? 0.3 : 0.8);
      const Json verified = json_of({"verify", out, "--data", "digits", "--images", "64", "--json", "--quiet"});
      EXPECT_EQ(verified.at("mismatched_codes"), 0);
      EXPECT_EQ(verified.at("mismatched_predictions"), 0);
    }
  }
}

TEST_F(MainJob, ActivationRangesSurviveLargeSteps) {
  // Small tensors have noisy scale gradients: this rate once shrank the input's range to nothing.
  const Json result = json_of({"compress", network(), "--data", "digits", "--policy", "lsq", "--target", "avg-bits=2", "--activation-bits", "4", "--epochs", "4", "--lr",
                               "0.05", "--seed", "1", "--out", *folder_ / "steps", "--json", "--quiet"});
  EXPECT_GT(result.at("accuracy"), 0.8);
}

TEST_F(MainJob, StagesGiveWhatCompressGives) {
  const std::string whole = *folder_ / "whole", search = *folder_ / "search", stages = *folder_ / "stages";
  const std::vector<std::string> bits{"--target", "avg-bits=4"}, training{"--epochs", "1"};
  const auto command = [&](const char* name, const std::string& out, std::vector<std::string> more) {
    std::vector<std::string> words{name, network(), "--data", "digits", "--out", out, "--quiet"};
    words.insert(words.end(), more.begin(), more.end());
    const Finished finished = bitstrata(words);
    EXPECT_EQ(finished.status, 0) << name << finished.err;
  };
  command("compress", whole, {"--target", "avg-bits=4", "--epochs", "1"});
  command("search", search, {"--target", "avg-bits=4"});
  command("finetune", stages, {"--plan", search + "/plan.json", "--epochs", "1"});
  EXPECT_EQ(bitstrata({"compile", stages}).status, 0);
  EXPECT_DOUBLE_EQ(json_of({"eval", stages + "/model.bst", "--data", "digits", "--json", "--quiet"}).at("accuracy"), run_json(whole).at("accuracy"));
}

TEST_F(MainJob, APlanMayLeaveALayerFloat) {
  const std::string search = *folder_ / "plan", out = *folder_ / "mixed";
  EXPECT_EQ(bitstrata({"search", network(), "--data", "digits", "--target", "avg-bits=4", "--out", search, "--quiet"}).status, 0);
  Json plan = Json::parse(read_text_file(search + "/plan.json"));
  plan["layers"][0]["weight_bits"] = 0;
  plan["layers"][0]["activation_bits"] = 0;
  plan["layers"][1]["weight_bits"] = 3;
  write_file_atomically(search + "/plan.json", std::string_view(plan.dump()));
  const Json result = json_of({"compress", network(), "--data", "digits", "--plan", search + "/plan.json", "--epochs", "1", "--out", out, "--json", "--quiet"});
  EXPECT_GT(result.at("accuracy"), 0.8);
  EXPECT_GT(result.at("avg_weight_bits"), 3.0);
}

/// MNIST's format, written from the digits.
void write_idx(const std::string& folder) {
  const data::Dataset digits = data::load("digits");
  const auto write = [&](const std::string& name, uint8_t dims, std::vector<uint32_t> sizes, std::span<const uint8_t> bytes) {
    std::ofstream file(folder + "/" + name, std::ios::binary);
    const char head[4] = {0, 0, 8, static_cast<char>(dims)};
    file.write(head, 4);
    for (uint32_t size : sizes) {
      for (int shift = 24; shift >= 0; shift -= 8) file.put(static_cast<char>(size >> shift));
    }
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  };
  for (const auto& [split, prefix] : {std::pair(data::Split::kTrain, "train"), std::pair(data::Split::kTest, "t10k")}) {
    const auto n = static_cast<uint32_t>(digits.num_samples(split));
    std::vector<uint8_t> labels;
    for (int32_t label : digits.labels(split)) labels.push_back(static_cast<uint8_t>(label));
    write(std::string(prefix) + "-images-idx3-ubyte", 3, {n, 8, 8}, digits.pixels(split));
    write(std::string(prefix) + "-labels-idx1-ubyte", 1, {n}, labels);
  }
}

TEST_F(MainJob, AnIdxDatasetWithItsOwnNetwork) {
  const TemporaryFolder data;
  write_idx(data.path().string());
  const std::string spec = "idx:" + data.path().string(), own = data / "own.onnx", out = data / "packed";
  EXPECT_GT(json_of({"train", "lenet", "--data", spec, "--out", own, "--epochs", "3", "--json", "--quiet"}).at("accuracy"), 0.8);
  const Json result = json_of({"compress", own, "--data", spec, "--target", "avg-bits=4", "--epochs", "2", "--out", out, "--json", "--quiet"});
  EXPECT_GT(result.at("accuracy"), 0.85);
  EXPECT_EQ(json_of({"verify", out, "--data", spec, "--json", "--quiet"}).at("mismatched_codes"), 0);
}

}  // namespace
}  // namespace bitstrata::testing
