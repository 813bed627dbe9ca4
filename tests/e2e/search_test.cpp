#include <gmock/gmock.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/random.h"
#include "tests/cli/process.h"
#include "tests/e2e/background.h"

/// Every search method on a real network: targets, interruption, comparison.
namespace bitstrata::testing {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

Json read_json(const std::string& path) {
  return Json::parse(read_text_file(path));
}

class Searches : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    ASSERT_EQ(
        bitstrata({"train", "lenet", "--data", "digits", "--out", network(), "--epochs", "4", "--quiet"})
            .status,
        0);
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }

  static std::string network() { return *folder_ / "float.onnx"; }
  static std::string path(const std::string& name) { return *folder_ / name; }
  static std::vector<std::string> compress(const std::string& out, const std::vector<std::string>& more) {
    std::vector<std::string> words{"compress", network(),
                                   "--data",   "digits",
                                   "--epochs", "1",
                                   "--quiet",  "--threads",
                                   "1",        "--search-epochs",
                                   "1",        "--checkpoint-seconds",
                                   "0.05",     "--calibration-images",
                                   "256",      "--out",
                                   path(out)};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  static TemporaryFolder* folder_;
};

TemporaryFolder* Searches::folder_ = nullptr;

class EveryMethod : public Searches, public ::testing::WithParamInterface<const char*> {};

TEST_P(EveryMethod, MeetsASizeTargetWithARealNetwork) {
  const std::string out = std::string("size-") + GetParam();
  const Finished run =
      bitstrata(compress(out, {"--method", GetParam(), "--target", "size=10x", "--policy", "pact"}));
  ASSERT_EQ(run.status, 0) << run.err;
  const Json summary = read_json(path(out) + "/run.json"), plan = read_json(path(out) + "/plan.json"),
             pareto = read_json(path(out) + "/pareto.json");
  EXPECT_EQ(summary.at("method"), GetParam());
  EXPECT_GE(summary.at("compression").get<double>(), 10);
  EXPECT_GT(summary.at("accuracy").get<double>(), 0.8);
  EXPECT_GE(summary.at("search_seconds").get<double>(), 0);
  EXPECT_GT(summary.at("peak_mib").get<double>(), 10);
  const std::string method = GetParam();
  const bool trains = method == "ccq" || method == "ebs" || method == "pdq";
  EXPECT_EQ(summary.at("search_epochs").get<double>() > 0, trains);
  EXPECT_EQ(plan.at("method"), GetParam());
  EXPECT_FALSE(pareto.at("points").empty());
}

TEST_P(EveryMethod, KilledAtRandomMomentsAndResumedGivesTheSamePlanAndModel) {
  const std::vector<std::string> options{"--method", GetParam(), "--target", "size=8x", "--seed", "3"};
  const std::string calm = std::string("calm-") + GetParam(), killed = std::string("killed-") + GetParam();
  const auto start = std::chrono::steady_clock::now();
  ASSERT_EQ(bitstrata(compress(calm, options)).status, 0);
  const auto undisturbed = std::chrono::steady_clock::now() - start;
  std::vector<std::string> resuming = options;
  resuming.push_back("--resume");
  Random random(20261121, 2);
  const Survival job = run_killing(compress(killed, resuming), undisturbed, random, path(killed) + ".err");
  ASSERT_EQ(job.status, 0) << job.kills << " kills, " << job.err;
  EXPECT_GT(job.kills, 0);
  EXPECT_EQ(read_text_file(path(killed) + "/plan.json"), read_text_file(path(calm) + "/plan.json"));
  EXPECT_EQ(read_text_file(path(killed) + "/pareto.json"), read_text_file(path(calm) + "/pareto.json"));
  EXPECT_EQ(read_file(path(killed) + "/model.bst", 1 << 20), read_file(path(calm) + "/model.bst", 1 << 20));
}

INSTANTIATE_TEST_SUITE_P(Methods, EveryMethod,
                         ::testing::Values("uniform", "random", "hawq", "sqnr", "eagl", "ccq", "ebs", "pdq"),
                         [](const auto& name) { return std::string(name.param); });

TEST_F(Searches, TargetsCombine) {
  const Finished run =
      bitstrata(compress("both", {"--method", "eagl", "--target", "size=8x", "--target", "bitops=4x4"}));
  ASSERT_EQ(run.status, 0) << run.err;
  const Json summary = read_json(path("both") + "/run.json");
  EXPECT_GE(summary.at("compression").get<double>(), 8);
  ASSERT_EQ(bitstrata(compress("four", {"--bits", "4"})).status, 0);
  EXPECT_LE(summary.at("bitops").get<double>(),
            read_json(path("four") + "/run.json").at("bitops").get<double>());
}

TEST_F(Searches, ATargetThatNoPlanMeetsLeavesTheNearest) {
  const Finished run =
      bitstrata(compress("far", {"--method", "hawq", "--bits", "3,4", "--target", "size=20x"}));
  expect_one_line_error(run, 1);
  EXPECT_THAT(run.err, HasSubstr("nearest"));
  const Json plan = read_json(path("far") + "/plan.json");
  for (const Json& layer : plan.at("layers")) EXPECT_EQ(layer.at("weight_bits"), 3);
}

TEST_F(Searches, LatencyTargetsAreMeasuredOnThisMachine) {
  const Finished run =
      bitstrata(compress("fast", {"--method", "uniform", "--bits", "8", "--target", "latency=1.01x"}));
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_TRUE(std::filesystem::exists(path("fast") + "/checkpoint/latency.json"));
}

TEST_F(Searches, LatencyTargetsUseATableOfTheSamePolicy) {
  const std::string table = path("latency.json");
  ASSERT_EQ(bitstrata({"profile", network(), "--bits", "1,4,8", "--quick", "--quiet", "--out", table}).status,
            0);
  const std::vector<std::string> options{"--method", "eagl",           "--bits",    "1,4,8",
                                         "--target", "latency=1000ms", "--latency", table};
  const Finished run = bitstrata(compress("table-lsq", options));
  ASSERT_EQ(run.status, 0) << run.err;
  const Json pareto = read_json(path("table-lsq") + "/pareto.json");
  for (const Json& point : pareto.at("points")) EXPECT_GT(point.at("latency_ms").get<double>(), 0);
  std::vector<std::string> other = options;
  other.insert(other.end(), {"--policy", "dorefa"});
  expect_one_line_error(bitstrata(compress("table-dorefa", other)), 3);
}

TEST_F(Searches, ATimeBudgetEndsTheSearchWithTheBestSoFar) {
  const Finished run = bitstrata(compress(
      "hasty", {"--method", "random", "--draws", "100000", "--target", "avg-bits=3", "--time-budget", "6s"}));
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_LE(read_json(path("hasty") + "/run.json").at("avg_weight_bits").get<double>(), 3);
}

TEST_F(Searches, DamagedSearchCheckpointsAreRefused) {
  const std::vector<std::string> options{"--method", "random", "--draws", "100000", "--target", "avg-bits=3"};
  {
    Background job(compress("damaged", options));
    for (int i = 0; i < 500 && !std::filesystem::exists(path("damaged") + "/checkpoint/search.ckpt"); ++i) {
      if (job.ended_within(std::chrono::milliseconds(20))) break;
    }
    job.signal(SIGKILL);
    job.wait();
  }
  const std::string file = path("damaged") + "/checkpoint/search.ckpt";
  auto bad = read_file(file, 1 << 28);
  bad[bad.size() / 2] ^= 4;
  write_file_atomically(file, bad);
  std::vector<std::string> resuming = options;
  resuming.push_back("--resume");
  expect_one_line_error(bitstrata(compress("damaged", resuming)), 3);
}

TEST_F(Searches, CompareTabulatesAndGoesOnWhereItWasKilled) {
  const std::vector<std::string> words{
      "compare",         network(),      "--data",    "digits",
      "--methods",       "uniform,eagl", "--variant", "most1=--method pdq --keep 1 --bits 1,8 --epochs 0",
      "--seeds",         "1,2",          "--out",     path("table"),
      "--target",        "avg-bits=4",   "--epochs",  "1",
      "--search-epochs", "0.5",          "--threads", "1",
      "--quiet"};
  {
    Background job(words);
    for (int i = 0; i < 3000 && !std::filesystem::exists(path("table") + "/eagl-1/run.json"); ++i) {
      if (job.ended_within(std::chrono::milliseconds(20))) break;
    }
    job.signal(SIGTERM);
    EXPECT_EQ(job.wait(), 1);
  }
  const auto first = std::filesystem::last_write_time(path("table") + "/uniform-1/model.bst");
  const Finished run = bitstrata(words);
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(std::filesystem::last_write_time(path("table") + "/uniform-1/model.bst"), first)
      << "a finished run was repeated";
  const Json table = read_json(path("table") + "/compare.json");
  ASSERT_EQ(table.at("rows").size(), 3u);
  for (const Json& row : table.at("rows")) {
    ASSERT_EQ(row.at("runs").size(), 2u);
    double sum = 0;
    for (const Json& each : row.at("runs")) sum += each.at("run").at("accuracy").get<double>();
    EXPECT_DOUBLE_EQ(row.at("accuracy_mean").get<double>(), sum / 2);
  }
  EXPECT_THAT(read_text_file(path("table") + "/compare.md"), HasSubstr("| most1 | 2 |"));
  // A row's own option wins over the one for all rows.
  EXPECT_EQ(read_json(path("table") + "/most1-1/run.json").at("epochs").size(), 0u);
  EXPECT_EQ(read_json(path("table") + "/eagl-1/run.json").at("epochs").size(), 1u);
}

TEST_F(Searches, MisuseEndsWithOneLine) {
  expect_one_line_error(bitstrata(compress("m1", {"--method", "ccq"})), 2);
  expect_one_line_error(bitstrata(compress("m2", {"--method", "pdq"})), 2);
  expect_one_line_error(bitstrata(compress("m3", {"--time-budget", "soon"})), 2);
  expect_one_line_error(
      bitstrata(compress("m4", {"--latency", path("none.json"), "--target", "latency=1ms"})), 3);
  expect_one_line_error(
      bitstrata({"compare", network(), "--data", "digits", "--methods", "best", "--out", path("m5")}), 2);
  expect_one_line_error(
      bitstrata({"compare", network(), "--data", "digits", "--variant", "noequals", "--out", path("m6")}), 2);
  expect_one_line_error(bitstrata({"compare", network(), "--data", "digits", "--out", path("m7")}), 2);
}

}  // namespace
}  // namespace bitstrata::testing
