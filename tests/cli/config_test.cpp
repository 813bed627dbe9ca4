#include <gmock/gmock.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "format/bst.h"
#include "tests/cli/network.h"
#include "tests/cli/process.h"

/// --config: a YAML file instead of flags.
namespace bitstrata::testing {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

class CliConfig : public ::testing::Test {
 protected:
  CliConfig() : model_(folder_ / "model.bst") { format::write(model_, digits_network()); }

  std::string config(std::string_view text) {
    const std::string path = folder_ / "job.yaml";
    write_file_atomically(path, text);
    return path;
  }
  Finished eval(std::string_view yaml, const std::vector<std::string>& more = {}) {
    std::vector<std::string> words{"eval", model_, "--config", config(yaml)};
    words.insert(words.end(), more.begin(), more.end());
    return bitstrata(words);
  }
  /// The lines of stderr that the file causes, without what comes before the line number.
  std::vector<std::string> complaints(const Finished& finished) {
    EXPECT_EQ(finished.status, 2);
    EXPECT_EQ(finished.out, "");
    const std::string start = "bitstrata: error: " + (folder_ / "job.yaml") + ":";
    std::vector<std::string> lines;
    std::istringstream text(finished.err);
    for (std::string line; std::getline(text, line);) {
      EXPECT_THAT(line, ::testing::StartsWith(start));
      lines.push_back(line.substr(std::min(start.size(), line.size())));
    }
    return lines;
  }

  TemporaryFolder folder_;
  std::string model_;
};

TEST_F(CliConfig, StandsForTheFlags) {
  const std::string expected =
      bitstrata({"eval", model_, "--data", "digits", "--split", "train", "--mean", "0.3", "--json", "-q"})
          .out;
  ASSERT_FALSE(expected.empty());
  const Finished run =
      eval("# all of it\ndata: digits\nsplit: train\nmean: [0.3]\njson: true\nquiet: yes\nbatch: 64\n");
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(Json::parse(run.out).at("accuracy"), Json::parse(expected).at("accuracy"));
  EXPECT_EQ(Json::parse(run.out).at("images"), Json::parse(expected).at("images"));
}

TEST_F(CliConfig, LosesAgainstTheCommandLine) {
  const std::string yaml = "data: nothing\nsplit: train\njson: true\nquiet: true\n";
  const std::vector<std::vector<std::string>> forms = {{"--data", "digits", "--split", "test", "-q"},
                                                       {"--data=digits", "--split=test", "--quiet"}};
  for (const auto& form : forms) {
    const Finished run = eval(yaml, form);
    EXPECT_EQ(run.status, 0) << run.err;
    EXPECT_EQ(Json::parse(run.out).at("images"), 359);
  }
}

TEST_F(CliConfig, IsAlsoGivenWithAnEqualsSignAndMayBeEmpty) {
  EXPECT_EQ(bitstrata({"eval", model_, "--config=" + config("data: digits\n")}).status, 0);
  EXPECT_EQ(eval("", {"--data", "digits"}).status, 0);
  EXPECT_EQ(eval("# nothing\n", {"--data", "digits"}).status, 0);
}

TEST_F(CliConfig, LeavesWhatFollowsTwoDashesAlone) {
  const Finished run =
      bitstrata({"eval", "--config", config("data: digits\nsplit: train\njson: true\n"), "--", model_});
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_GT(Json::parse(run.out).at("images"), 1000);
}

TEST_F(CliConfig, ReportsEveryBadKeyWithItsLine) {
  const auto lines = complaints(
      eval("data: digits\nsplitt: test\nbatch: many\n\nthreads: 0\nsplit: [test]\nmean: {red: 1}\njson: 3\n"
           "batch: 3\nconfig: other.yaml\nstd: []\ncache:\n? [a, b]\n: 1\n"));
  ASSERT_EQ(lines.size(), 11u);
  EXPECT_THAT(lines[0], ::testing::StartsWith("2: unknown key 'splitt'"));
  EXPECT_THAT(lines[1],
              ::testing::AllOf(::testing::StartsWith("3: "), HasSubstr("batch"), HasSubstr("many")));
  EXPECT_THAT(lines[2], ::testing::AllOf(::testing::StartsWith("5: "), HasSubstr("threads")));
  EXPECT_THAT(lines[3], ::testing::StartsWith("6: split: found a list, expected one value"));
  EXPECT_THAT(lines[4], ::testing::StartsWith("7: mean: found a map"));
  EXPECT_THAT(lines[5], ::testing::StartsWith("8: json: expected true or false"));
  EXPECT_THAT(lines[6], ::testing::StartsWith("9: key 'batch' is given twice"));
  EXPECT_THAT(lines[7], ::testing::StartsWith("10: unknown key 'config'"));
  EXPECT_THAT(lines[8], ::testing::StartsWith("11: std: found an empty list"));
  EXPECT_THAT(lines[9], ::testing::StartsWith("12: cache: found no value"));
  EXPECT_THAT(lines[10], ::testing::StartsWith("13: unknown key ''"));
}

TEST_F(CliConfig, ReportsBadKeysThatTheCommandLineWouldOverrule) {
  EXPECT_EQ(complaints(eval("data: digits\nbatch: none\n", {"--batch", "8"})).size(), 1u);
}

TEST_F(CliConfig, RefusesFilesThatAreNoConfiguration) {
  for (const std::string& yaml :
       std::vector<std::string>{"- data\n", "digits\n", "data: [digits\n", "data: digits\n---\nbatch: 2\n",
                                "data: *nothing\n", std::string("\0\1\2", 3), "\t{"}) {
    SCOPED_TRACE(yaml);
    expect_one_line_error(eval(yaml), 3);
  }
  expect_one_line_error(bitstrata({"eval", model_, "--config", folder_ / "missing.yaml"}), 3);
  expect_one_line_error(bitstrata({"eval", model_, "--config", folder_.path().string()}), 3);
  expect_one_line_error(bitstrata({"eval", model_, "--data", "digits", "--config"}), 2);
}

TEST_F(CliConfig, SurvivesHostileFiles) {
  std::string bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n";
  for (char c = 'b'; c <= 'z'; ++c) {
    const std::string before(1, static_cast<char>(c - 1));
    bomb += std::string(1, c) + ": &" + std::string(1, c) + " [";
    for (int i = 0; i < 9; ++i) bomb += (i ? ",*" : "*") + before;
    bomb += "]\n";
  }
  EXPECT_EQ(complaints(eval(bomb)).size(), 26u);
  bomb += "mean: *z\n";
  EXPECT_EQ(complaints(eval(bomb)).size(), 27u);
  for (const std::string open : {"[", "{a: ", "- ", "? "}) {
    std::string deep;
    while (deep.size() < 60'000) deep += open;
    expect_one_line_error(eval(deep), 3);
    expect_one_line_error(eval("mean: " + deep), 3);
  }
  expect_one_line_error(eval("cache: " + std::string(70'000, 'x')), 3);
}

TEST_F(CliConfig, WorksForEveryCommandWithMoreThanAFewOptions) {
  for (const std::string name : {"eval", "run", "bench", "inspect", "profile", "export", "compress", "search",
                                 "finetune", "train", "compare", "verify"}) {
    const bool trains = name == "compress" || name == "search" || name == "finetune" || name == "train" ||
                        name == "compare" || name == "verify";
    if (trains && !std::filesystem::exists(executable().parent_path() / "bitstrata-train")) continue;
    const auto lines = complaints(bitstrata({name, model_, "--config", config("nonsense: 1\nquiet: 7\n")}));
    EXPECT_EQ(lines.size(), 2u) << name;
    EXPECT_THAT(bitstrata({name, "--help"}).out, HasSubstr("--config FILE.yaml")) << name;
  }
}

TEST_F(CliConfig, OfCompareHoldsOptionsOfCompress) {
  if (!std::filesystem::exists(executable().parent_path() / "bitstrata-train"))
    GTEST_SKIP() << "bitstrata-train is not built here";
  const auto lines = complaints(bitstrata(
      {"compare", model_, "--out", folder_ / "table", "--config",
       config("methods: [uniform, eagl]\nepochs: few\npolicy: best\ntarget: size=big\nmethod: none\n"
              "time-budget: soon\nseeds: [1, two]\n")}));
  ASSERT_EQ(lines.size(), 6u);
  for (size_t i = 0; i < lines.size(); ++i)
    EXPECT_THAT(lines[i], ::testing::StartsWith(std::to_string(i + 2) + ":"));
}

}  // namespace
}  // namespace bitstrata::testing
