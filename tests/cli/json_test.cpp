#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "core/isa.h"
#include "data/npy.h"
#include "format/bst.h"
#include "program/reference.h"
#include "tests/cli/network.h"
#include "tests/cli/process.h"
#include "tests/support/random_program.h"

namespace bitstrata::testing {
namespace {

using nlohmann::json;

class CliJson : public ::testing::Test {
 protected:
  CliJson() : network_(digits_network()), model_(folder_ / "model.bst") { format::write(model_, network_); }

  /// Standard output as the one JSON object that it must be.
  static json object(const Finished& finished) {
    EXPECT_EQ(finished.status, 0) << finished.err;
    EXPECT_EQ(std::ranges::count(finished.out, '\n'), 1) << finished.out;
    const json parsed = json::parse(finished.out, nullptr, false);
    EXPECT_TRUE(parsed.is_object()) << finished.out;
    return parsed;
  }

  TemporaryFolder folder_;
  program::Program network_;
  std::string model_;
};

TEST_F(CliJson, EvalAgreesWithTheReferenceImageForImage) {
  const json result = object(bitstrata({"eval", model_, "--data", "digits", "--json"}));
  EXPECT_EQ(result.at("accuracy").get<double>(), reference_accuracy(network_));
  EXPECT_GT(result.at("images").get<int>(), 300);
  EXPECT_GT(result.at("images_per_second").get<double>(), 0);
}

TEST_F(CliJson, EvalDoesNotDependOnBatchThreadsOrInstructionSet) {
  const double expected = reference_accuracy(network_);
  for (const std::vector<std::string>& options : std::vector<std::vector<std::string>>{{"--batch", "1"},
                                                                                       {"--batch", "1000"},
                                                                                       {"--threads", "1"},
                                                                                       {"--threads", "3"},
                                                                                       {"--isa", "scalar"}}) {
    std::vector<std::string> arguments = {"eval", model_, "--data", "digits", "--json", "--quiet"};
    arguments.insert(arguments.end(), options.begin(), options.end());
    EXPECT_EQ(object(bitstrata(arguments)).at("accuracy").get<double>(), expected)
        << ::testing::PrintToString(options);
  }
}

TEST_F(CliJson, EvalSplitsShareTheTrainingImages) {
  const auto images = [&](const std::string& split) {
    return object(bitstrata({"eval", model_, "--data", "digits", "--split", split, "--json"}))
        .at("images")
        .get<int>();
  };
  EXPECT_EQ(images("train") + images("test"), 1797);
  EXPECT_NEAR(images("val"), 0.1 * images("train"), 10);
}

TEST_F(CliJson, EvalNormalisationComesFromTheFlagBeforeTheFile) {
  const std::vector<std::string> eval = {"eval", model_, "--data", "digits", "--json"};
  auto shifted = eval;
  shifted.insert(shifted.end(), {"--mean", "5", "--std", "0.01"});
  auto same = eval;
  same.insert(same.end(), {"--mean", "0.5", "--std", "0.5"});
  const double plain = object(bitstrata(eval)).at("accuracy");
  EXPECT_EQ(object(bitstrata(same)).at("accuracy").get<double>(), plain);
  EXPECT_NE(object(bitstrata(shifted)).at("accuracy").get<double>(), plain);
}

TEST_F(CliJson, RunGivesOneEntryPerRowWithTheReferenceLogits) {
  const auto input = random_input(network_, 3, 5);
  data::write_npy(folder_.path() / "three.npy", {3, 1, 8, 8}, input);
  data::write_npy(folder_.path() / "one.npy", {1, 8, 8}, std::span(input).first(64));
  const json result = object(bitstrata(
      {"run", model_, folder_ / "three.npy", folder_ / "one.npy", "--top", "4", "--json", "--batch", "2"}));
  const json& outputs = result.at("outputs");
  ASSERT_EQ(outputs.size(), 4u);
  for (size_t row = 0; row < 4; ++row) {
    const auto logits = outputs[row].at("logits").get<std::vector<float>>();
    const auto image = std::span(input).subspan(row % 3 * 64, 64);
    EXPECT_EQ(logits,
              program::run_reference(network_, image).floats[static_cast<size_t>(network_.outputs[0])]);

    const json& top = outputs[row].at("top");
    ASSERT_EQ(top.size(), 4u);
    double sum = 0;
    for (float logit : logits) sum += std::exp(static_cast<double>(logit));
    for (size_t k = 0; k < 4; ++k) {
      const auto index = top[k].at("class").get<size_t>();
      EXPECT_EQ(top[k].at("name"), network_.class_names[index]);
      EXPECT_NEAR(top[k].at("score").get<double>(), std::exp(static_cast<double>(logits[index])) / sum, 1e-9);
      if (k > 0) {
        EXPECT_LE(top[k].at("score").get<double>(), top[k - 1].at("score").get<double>());
      }
    }
  }
  EXPECT_EQ(outputs[1].at("input"), (folder_ / "three.npy") + "[1]");
  EXPECT_EQ(outputs[3].at("input"), folder_ / "one.npy");
}

TEST_F(CliJson, BenchReportsEveryOp) {
  const json result = object(bitstrata({"bench", model_, "--threads", "1", "--batch", "2", "--json"}));
  EXPECT_GT(result.at("median_ms").get<double>(), 0);
  EXPECT_GE(result.at("p90_ms").get<double>(), result.at("median_ms").get<double>());
  EXPECT_EQ(result.at("threads"), 1);
  EXPECT_TRUE(result.at("isa").is_string());
  EXPECT_GT(result.at("network_mib").get<double>(), 0);
  EXPECT_GT(result.at("peak_mib").get<double>(), result.at("network_mib").get<double>());
  const json& layers = result.at("layers");
  ASSERT_EQ(layers.size(), network_.ops.size());
  for (size_t i = 0; i < layers.size(); ++i) {
    EXPECT_EQ(layers[i].at("name"), network_.ops[i].name);
    EXPECT_GE(layers[i].at("ms").get<double>(), 0);
  }
  EXPECT_EQ(layers[1].at("w_bits"), 2);
  EXPECT_EQ(layers[1].at("a_bits"), 8);
  EXPECT_EQ(layers[3].at("w_bits"), 3);
  EXPECT_EQ(layers[3].at("a_bits"), 4);
}

TEST_F(CliJson, BenchComparesKernelsWithOnednn) {
  const json result =
      object(bitstrata({"bench", "--kernels", "--shapes", "16@4,8@5", "--pairs", "1x1,2x4", "--json"}));
  EXPECT_TRUE(result.at("cpu").is_string());
  EXPECT_EQ(result.at("threads"), 1);
  std::map<std::string, int> isas;
  for (const json& row : result.at("rows")) {
    ++isas[row.at("isa")];
    EXPECT_THAT(row.at("shape").get<std::string>(), ::testing::AnyOf("16@4", "8@5"));
    EXPECT_THAT(row.at("kernel").get<std::string>(), ::testing::AnyOf("bitplane", "lookup", "int8"));
    EXPECT_TRUE(row.at("chosen").get<bool>());
    EXPECT_GT(row.at("us").get<double>(), 0);
    EXPECT_NEAR(row.at("ratio").get<double>(),
                row.at("onednn_int8_us").get<double>() / row.at("us").get<double>(), 1e-9);
  }
  EXPECT_EQ(isas.size(), available_isas().size() - 1);
  for (const auto& [isa, rows] : isas) EXPECT_EQ(rows, 4) << isa;

  const std::string best = to_string(available_isas().back());
  const json all = object(bitstrata({"bench", "--kernels", "--shapes", "16@4", "--pairs", "2x2", "--isa",
                                     best, "--all", "--threads", "2", "--json"}));
  EXPECT_EQ(all.at("threads"), 2);
  int chosen = 0;
  for (const json& row : all.at("rows")) {
    EXPECT_EQ(row.at("isa"), best);
    EXPECT_GE(row.at("us").get<double>(), all.at("rows")[0].at("us").get<double>());
    chosen += row.at("chosen").get<bool>();
  }
  EXPECT_GT(all.at("rows").size(), 1u);
  EXPECT_EQ(chosen, 1);
}

TEST_F(CliJson, InspectCountsWeightsBytesAndMacs) {
  const json result = object(bitstrata({"inspect", model_, "--json"}));
  EXPECT_EQ(result.at("format"), "bst");
  EXPECT_EQ(result.at("input").at("dims"), json({1, 8, 8}));
  const json& totals = result.at("totals");
  EXPECT_EQ(totals.at("weights"), 54 + 3840);
  EXPECT_EQ(totals.at("weight_bytes"), 14 + 1440);
  EXPECT_EQ(totals.at("macs"), 64 * 54 + 3840);
  EXPECT_EQ(totals.at("bitops"), 64 * 54 * 2 * 8 + 3840 * 3 * 4);
}

TEST_F(CliJson, InspectExplainsEveryKernelOfQuantizedLayers) {
  const json result = object(bitstrata({"inspect", model_, "--explain", "--json"}));
  for (size_t i : {1u, 3u}) {
    const json& layer = result.at("layers")[i];
    int chosen = 0;
    for (const json& kernel : layer.at("kernels")) {
      chosen += kernel.at("chosen").get<bool>();
      EXPECT_EQ(kernel.at("reason").get<std::string>().empty(), kernel.at("chosen").get<bool>());
      if (kernel.at("chosen")) {
        EXPECT_EQ(kernel.at("kernel"), layer.at("kernel"));
      }
    }
    EXPECT_EQ(chosen, 1);
  }
}

TEST_F(CliJson, TextGoesToStandardOutputToo) {
  EXPECT_THAT(bitstrata({"eval", model_, "--data", "digits"}).out, ::testing::StartsWith("accuracy "));
  EXPECT_THAT(bitstrata({"inspect", model_, "--explain"}).out, ::testing::HasSubstr("chosen"));

  // The tests run without measuring; here the kernels are measured, and the times kept.
  const std::string times = folder_ / "times.txt";
  setenv("BITSTRATA_KERNEL_TIMES", times.c_str(), 1);
  const std::string measured = bitstrata({"inspect", model_, "--explain", "--threads", "1"}).out;
  setenv("BITSTRATA_KERNEL_TIMES", "off", 1);
  EXPECT_THAT(measured, ::testing::HasSubstr("measured slower: "));
  EXPECT_THAT(measured, ::testing::HasSubstr("chosen"));
  EXPECT_TRUE(std::filesystem::exists(times));
  EXPECT_THAT(bitstrata({"bench", model_}).out, ::testing::HasSubstr("median "));
}

TEST_F(CliJson, QuietSaysNothing) {
  EXPECT_EQ(bitstrata({"eval", model_, "--data", "digits", "--quiet"}).err, "");
}

}  // namespace
}  // namespace bitstrata::testing
