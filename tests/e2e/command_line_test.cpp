#include <gmock/gmock.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/file.h"
#include "data/npy.h"
#include "tests/cli/process.h"

/// What the command line adds around the main job: defaults, configuration files, warnings, examples.
namespace bitstrata::testing {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;
namespace fs = std::filesystem;

class CommandLine : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    ASSERT_EQ(
        in_folder({"train", "lenet", "--data", "digits", "--out", "model.onnx", "--epochs", "2", "--quiet"})
            .status,
        0);
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  /// Runs bitstrata with the test's folder as the working one.
  static Finished in_folder(const std::vector<std::string>& arguments,
                            const std::vector<std::string>& environment = {}) {
    std::vector<std::string> words{"-C", folder_->path().string(), executable().string()};
    words.insert(words.end(), arguments.begin(), arguments.end());
    return run_process("/usr/bin/env", words, environment);
  }
  static fs::path path(const std::string& name) { return folder_->path() / name; }
  static Json read_json(const std::string& name) { return Json::parse(read_text_file(path(name))); }
  static std::string write(const std::string& name, std::string_view text) {
    write_file_atomically(path(name), text);
    return name;
  }

  static TemporaryFolder* folder_;
};

TemporaryFolder* CommandLine::folder_ = nullptr;

TEST_F(CommandLine, CompressNeedsNothingButANetworkAndData) {
  const Finished run = in_folder({"compress", "model.onnx", "--data", "digits", "--quiet"});
  ASSERT_EQ(run.status, 0) << run.err;
  const Json result = read_json("model-job/run.json");
  EXPECT_EQ(result.at("method"), "ebs");
  EXPECT_EQ(result.at("targets"), Json({"avg-bits=4", "bitops=4x4"}));
  EXPECT_LE(result.at("avg_weight_bits").get<double>(), 4);
  EXPECT_GT(result.at("accuracy").get<double>(), result.at("float_accuracy").get<double>() - 0.05);
  expect_one_line_error(in_folder({"compress", "model.onnx", "--data", "digits", "--quiet"}), 2);
  EXPECT_EQ(in_folder({"compress", "model.onnx", "--data", "digits", "--quiet", "--resume"}).status, 0);
}

TEST_F(CommandLine, DefaultsOfMethodAndBitsFollowWhatIsGiven) {
  const auto asked = [&](const std::string& out, std::vector<std::string> more) {
    const std::vector<std::string> first{"search",  "model.onnx",      "--data", "digits",
                                         "--quiet", "--out",           out,      "--time-budget",
                                         "1s",      "--search-epochs", "0.2"};
    more.insert(more.begin(), first.begin(), first.end());
    in_folder(more);
    return read_json(out + "/checkpoint/job.json");
  };
  const std::vector<int> all{1, 2, 3, 4, 5, 6, 7, 8};
  const Json width = asked("width", {"--bits", "4"}), target = asked("target", {"--target", "size=8x"}),
             ccq = asked("ccq", {"--method", "ccq", "--target", "size=6x"}),
             list = asked("list", {"--method", "eagl", "--target", "size=6x"});
  EXPECT_EQ(width.at("method"), "uniform");
  EXPECT_EQ(width.at("bits"), Json({4}));
  EXPECT_TRUE(width.at("targets").empty());
  EXPECT_EQ(target.at("method"), "uniform");
  EXPECT_EQ(target.at("bits"), Json(all));
  EXPECT_EQ(ccq.at("bits"), Json({3, 4, 6, 8}));
  EXPECT_EQ(list.at("bits"), Json(all));
}

TEST_F(CommandLine, AJobFromAFileIsTheSameAsFromFlags) {
  write("job4.yaml",
        "data: digits\nmethod: uniform\nbits: [4]\nepochs: 1\nseed: 7\nout: from-file\nquiet: true\ntied: "
        "true\n");
  const Finished file = in_folder({"compress", "model.onnx", "--config", "job4.yaml"});
  ASSERT_EQ(file.status, 0) << file.err;
  const std::vector<std::string> flags{"compress", "model.onnx", "--data",   "digits", "--method", "uniform",
                                       "--bits",   "4",          "--epochs", "1",      "--seed",   "7",
                                       "--quiet",  "--tied",     "true",     "--out"};
  std::vector<std::string> same = flags, resumed = flags;
  same.push_back("from-flags");
  ASSERT_EQ(in_folder(same).status, 0);
  EXPECT_EQ(read_json("from-file/checkpoint/job.json"), read_json("from-flags/checkpoint/job.json"));
  EXPECT_EQ(read_file(path("from-file/model.bst"), 1 << 20),
            read_file(path("from-flags/model.bst"), 1 << 20));
  resumed.insert(resumed.end(), {"from-file", "--resume"});
  EXPECT_EQ(in_folder(resumed).status, 0) << "the file's job goes on with flags";
  EXPECT_EQ(in_folder({"compress", "model.onnx", "--config", "job4.yaml", "--resume"}).status, 0);
  expect_one_line_error(
      in_folder({"compress", "model.onnx", "--config", "job4.yaml", "--resume", "--seed", "8"}), 2);
}

TEST_F(CommandLine, CompareTakesOptionsOfCompressFromAFile) {
  write("rows.yaml",
        "data: digits\nmethods: [uniform, eagl]\ntarget: [avg-bits=4, size=7x]\nepochs: 0\nquiet: true\n");
  const Finished run =
      in_folder({"compare", "model.onnx", "--config", "rows.yaml", "--out", "rows", "--json"});
  ASSERT_EQ(run.status, 0) << run.err;
  const Json table = Json::parse(run.out);
  ASSERT_EQ(table.at("rows").size(), 2u);
  for (const Json& row : table.at("rows"))
    EXPECT_EQ(row.at("runs")[0].at("run").at("targets"), Json({"avg-bits=4", "size=7x"}));
}

TEST_F(CommandLine, WarnsBeforeTrainingOfLayersWithoutAFastKernel) {
  const std::vector<std::string> words{"finetune", "model.onnx", "--data", "digits", "--epochs", "0"};
  const auto run = [&](const std::string& out, const std::vector<std::string>& more, const std::string& isa) {
    std::vector<std::string> all = words;
    all.insert(all.end(), {"--out", out});
    all.insert(all.end(), more.begin(), more.end());
    all[0] = "compress";
    return in_folder(all, {"BITSTRATA_ISA=" + isa});
  };
  const Finished slow = run("slow", {"--bits", "3"}, "scalar");
  ASSERT_EQ(slow.status, 0) << slow.err;
  EXPECT_THAT(slow.err, HasSubstr("warning: with scalar these layers have no fast kernel"));
  EXPECT_THAT(slow.err, HasSubstr("conv2 (W3A3)"));
  EXPECT_THAT(slow.err, HasSubstr("and 1 more"));
  EXPECT_LT(slow.err.find("no fast kernel"), slow.err.find("float network:"));
  const Finished planned = run("slow-plan", {"--plan", "slow/plan.json"}, "scalar");
  EXPECT_THAT(planned.err, HasSubstr("conv2 (W3A3)"));
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) {
    EXPECT_THAT(run("fast", {"--bits", "3"}, "avx2").err, ::testing::Not(HasSubstr("no fast kernel")));
  }
#endif
}

TEST_F(CommandLine, SaysWhichBitsAreNoFasterByTheLatencyTable) {
  ASSERT_EQ(in_folder({"profile", "model.onnx", "--bits", "2,4,8", "--quick", "--quiet", "--threads", "1",
                       "--out", "table.json"})
                .status,
            0);
  Json table = read_json("table.json");
  for (Json& shape : table.at("shapes")) {
    for (Json& entry : shape.at("entries")) entry["us"] = entry.at("w_bits") == 2 ? 50.0 : 100.0;
  }
  write("table.json", table.dump());
  const Finished run =
      in_folder({"search", "model.onnx", "--data", "digits", "--method", "eagl", "--bits", "2,4,8",
                 "--target", "avg-bits=4", "--latency", "table.json", "--out", "timed"});
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.err, HasSubstr("by the latency table, 4 bits take as long here as 8x8"));
}

TEST_F(CommandLine, AReportThatFailsIsOnlyAWarning) {
  fs::create_directories(path("unreported/report.html/in-the-way"));
  const Finished run = in_folder(
      {"compress", "model.onnx", "--data", "digits", "--bits", "4", "--epochs", "0", "--out", "unreported"});
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_THAT(run.err, HasSubstr("warning: no report.html"));
  EXPECT_THAT(read_text_file(path("unreported/log.txt")), HasSubstr("warning: no report.html"));
  EXPECT_TRUE(fs::exists(path("unreported/run.json")));
  EXPECT_TRUE(fs::exists(path("unreported/model.bst")));
}

/// The command lines of the reference's examples, in its order.
std::vector<std::string> examples() {
  std::istringstream text(read_text_file(fs::path(BITSTRATA_SOURCE_DIR) / "docs/cli.md"));
  std::vector<std::string> commands;
  bool inside = false;
  for (std::string line; std::getline(text, line);) {
    if (line.starts_with("```"))
      inside = line == "```sh";
    else if (inside)
      commands.push_back(line);
  }
  return commands;
}

TEST_F(CommandLine, EveryExampleRuns) {
  data::write_npy(path("cat.npy"), {1, 8, 8}, std::vector<float>(64, 0.25f));
  write("job.yaml", "data: digits\ntarget: size=10x\nepochs: 5\nout: job\nquiet: true\n");
  fs::remove_all(path("model-job"));
  const std::vector<std::string> commands = examples();
  ASSERT_GE(commands.size(), 20u);
  for (const std::string& command : commands) {
    SCOPED_TRACE(command);
    std::istringstream text(command);
    std::vector<std::string> words;
    // A folder of images stands for the digits here, so that the examples need no other file.
    for (std::string word; text >> word;)
      words.push_back(word == "folder:DIR" ? "digits" : word == "cat.png" ? "cat.npy" : word);
    ASSERT_EQ(words[0], "bitstrata");
    words.erase(words.begin());
    if (words[0] == "train") words.insert(words.end(), {"--epochs", "1"});
    const Finished run = in_folder(words);
    EXPECT_EQ(run.status, 0) << run.err;
  }
}

}  // namespace
}  // namespace bitstrata::testing
