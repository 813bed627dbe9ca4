#include <gmock/gmock.h>

#include <csignal>
#include <nlohmann/json.hpp>
#include <regex>

#include "core/error.h"
#include "core/file.h"
#include "core/random.h"
#include "tests/cli/process.h"
#include "tests/e2e/background.h"

/// Interrupted, killed and misused jobs: nothing that was computed is lost, nothing wrong is believed.
namespace bitstrata::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

class Jobs : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    ASSERT_EQ(bitstrata({"train", "lenet", "--data", "digits", "--out", network(), "--epochs", "2", "--quiet"}).status, 0);
    const auto start = std::chrono::steady_clock::now();
    ASSERT_EQ(bitstrata(compress("undisturbed")).status, 0);
    undisturbed_ = std::chrono::steady_clock::now() - start;
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }

  static std::string network() { return *folder_ / "float.onnx"; }
  static std::string path(const std::string& name) { return *folder_ / name; }
  static std::vector<std::string> compress(const std::string& out, const std::vector<std::string>& more = {}) {
    std::vector<std::string> words{"compress", network(), "--data",  "digits", "--target", "avg-bits=2", "--epochs", "3",  "--seed",
                                   "5",        "--quiet", "--threads", "1",    "--checkpoint-seconds", "0.05", "--out", path(out)};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  static std::vector<uint8_t> model(const std::string& out) { return read_file(path(out) + "/model.bst", 1 << 20); }

  static TemporaryFolder* folder_;
  static std::chrono::duration<double> undisturbed_;  ///< what that job took
};

TemporaryFolder* Jobs::folder_ = nullptr;
std::chrono::duration<double> Jobs::undisturbed_{};

TEST_F(Jobs, KilledAtRandomMomentsAndResumedGivesTheSameModel) {
  Random random(20261121, 1);
  for (int round = 0; round < 3; ++round) {
    const std::string out = fmt::format("killed{}", round);
    const Survival job = run_killing(compress(out, {"--resume"}), undisturbed_, random, path(out) + ".err");
    ASSERT_EQ(job.status, 0) << job.kills << " kills, " << job.err;
    EXPECT_GT(job.kills, 0);
    EXPECT_EQ(model(out), model("undisturbed"));
    EXPECT_EQ(Json::parse(read_text_file(path(out) + "/run.json")).at("accuracy"), Json::parse(read_text_file(path("undisturbed") + "/run.json")).at("accuracy"));
  }
}

TEST_F(Jobs, SigtermSavesAndSaysHowToResume) {
  const std::string out = "terminated";
  int interruptions = 0;
  for (int delay = 400; delay < 4000 && interruptions == 0; delay += 200) {
    Background job(compress(out, {"--resume"}));
    if (job.ended_within(std::chrono::milliseconds(delay))) break;
    job.signal(SIGTERM);
    const int status = job.wait();
    // Before the handler is in place the signal simply ends the process.
    if (status == 1) ++interruptions;
    else EXPECT_EQ(status, 128 + SIGTERM);
  }
  EXPECT_EQ(interruptions, 1);
  EXPECT_EQ(bitstrata(compress(out, {"--resume"})).status, 0);
  EXPECT_EQ(model(out), model("undisturbed"));
}

TEST_F(Jobs, AFinishedJobResumesAtOnceAndIsNotOverwritten) {
  const auto before = std::filesystem::last_write_time(path("undisturbed") + "/model.bst");
  EXPECT_EQ(bitstrata(compress("undisturbed", {"--resume"})).status, 0);
  const Finished again = bitstrata(compress("undisturbed"));
  EXPECT_EQ(again.status, 2);
  EXPECT_THAT(again.err, HasSubstr("already holds a job"));
  EXPECT_EQ(std::filesystem::last_write_time(path("undisturbed") + "/model.bst"), before);
}

TEST_F(Jobs, ADamagedSummaryIsRefusedAndWrittenAgain) {
  const std::string file = path("undisturbed") + "/run.json";
  const std::string good = read_text_file(file);
  for (const std::string& bad : {good.substr(0, good.size() / 2), std::string("{}"), std::string()}) {
    write_file_atomically(file, std::string_view(bad));
    expect_one_line_error(bitstrata(compress("undisturbed", {"--resume"})), 3);
  }
  std::filesystem::remove(file);
  EXPECT_EQ(bitstrata(compress("undisturbed", {"--resume"})).status, 0);
  EXPECT_EQ(Json::parse(read_text_file(file)).at("accuracy"), Json::parse(good).at("accuracy"));
}

TEST_F(Jobs, ResumeWithOtherOptionsNamesTheFirstThatDiffers) {
  const Finished other = bitstrata(compress("undisturbed", {"--resume", "--policy", "pact"}));
  EXPECT_EQ(other.status, 2);
  EXPECT_THAT(other.err, HasSubstr("policy"));
}

TEST_F(Jobs, DamagedCheckpointsAreRefused) {
  const std::string out = "damaged";
  {
    Background job(compress(out));
    for (int i = 0; i < 500 && !std::filesystem::exists(path(out) + "/checkpoint/training.ckpt"); ++i) {
      if (job.ended_within(std::chrono::milliseconds(20))) break;
    }
    job.signal(SIGKILL);
    job.wait();
  }
  const std::string file = path(out) + "/checkpoint/training.ckpt";
  ASSERT_TRUE(std::filesystem::exists(file));
  const auto good = read_file(file, 1 << 28);
  for (const char* damage : {"truncated", "flipped", "empty", "oversized"}) {
    SCOPED_TRACE(damage);
    auto bad = good;
    if (*damage == 't') bad.resize(bad.size() / 2);
    if (*damage == 'f') bad[bad.size() / 2] ^= 4;
    if (*damage == 'e') bad.clear();
    if (*damage == 'o') bad.push_back(0);
    write_file_atomically(file, bad);
    expect_one_line_error(bitstrata(compress(out, {"--resume"})), 3);
  }
  write_file_atomically(file, good);
  EXPECT_EQ(bitstrata(compress(out, {"--resume"})).status, 0);
  EXPECT_EQ(model(out), model("undisturbed"));
}

TEST_F(Jobs, AllImagesAreTrainedOnWhereNoneIsHeldOut) {
  const std::string out = "all";
  ASSERT_EQ(bitstrata(compress(out, {"--all-images"})).status, 0);
  const Json run = Json::parse(read_text_file(path(out) + "/run.json")),
             held = Json::parse(read_text_file(path("undisturbed") + "/run.json"));
  ASSERT_EQ(run.at("epochs").size(), 3u);
  for (const Json& epoch : run.at("epochs")) EXPECT_FALSE(epoch.contains("holdout_accuracy"));
  for (const Json& epoch : held.at("epochs")) EXPECT_TRUE(epoch.contains("holdout_accuracy"));
  EXPECT_THAT(read_text_file(path("undisturbed") + "/log.txt"), HasSubstr("before training: "));
  EXPECT_THAT(read_text_file(path(out) + "/log.txt"), Not(HasSubstr("before training: ")));
  EXPECT_NE(model(out), model("undisturbed"));
  EXPECT_GT(run.at("accuracy").get<double>(), 0.8);
  const Finished other = bitstrata(compress("undisturbed", {"--resume", "--all-images"}));
  EXPECT_EQ(other.status, 2);
  EXPECT_THAT(other.err, HasSubstr("all_images"));
  Random random(20261121, 3);
  const Survival job =
      run_killing(compress("all-killed", {"--all-images", "--resume"}), undisturbed_, random, path(out) + ".err");
  ASSERT_EQ(job.status, 0) << job.kills << " kills, " << job.err;
  EXPECT_EQ(model("all-killed"), model(out));
}

TEST_F(Jobs, LayersFollowedAndWeightsAveragedSurviveKilling) {
  const std::vector<std::string> options = {"--distill-layers", "2", "--average", "0.5"};
  ASSERT_EQ(bitstrata(compress("followed", options)).status, 0);
  EXPECT_GT(Json::parse(read_text_file(path("followed") + "/run.json")).at("accuracy").get<double>(), 0.8);
  for (const std::vector<std::string>& one :
       {std::vector<std::string>{"--distill-layers", "2"}, std::vector<std::string>{"--average", "0.5"}}) {
    ASSERT_EQ(bitstrata(compress("followed-" + one[0], one)).status, 0);
    EXPECT_NE(model("followed-" + one[0]), model("followed"));
    EXPECT_NE(model("followed-" + one[0]), model("undisturbed"));
  }
  std::vector<std::string> resumed = options;
  resumed.push_back("--resume");
  Random random(20261122, 1);
  const Survival job = run_killing(compress("followed-killed", resumed), undisturbed_, random, path("followed") + ".err");
  ASSERT_EQ(job.status, 0) << job.kills << " kills, " << job.err;
  EXPECT_EQ(model("followed-killed"), model("followed"));
}

TEST_F(Jobs, BadInputEndsWithOneLine) {
  const auto status_of = [&](std::vector<std::string> words, int expected) {
    SCOPED_TRACE(::testing::PrintToString(words));
    expect_one_line_error(bitstrata(words), expected);
  };
  const std::string out = path("bad");
  status_of({"compress", path("missing.onnx"), "--data", "digits", "--out", out}, 3);
  status_of({"compress", network(), "--data", "folder:" + path("nowhere"), "--out", out}, 3);
  status_of({"compress", network(), "--data", "nonsense", "--out", out}, 2);
  status_of({"compress", network(), "--data", "digits", "--out", "/proc/bitstrata"}, 3);
  status_of({"compress", network(), "--data", "digits", "--policy", "best", "--out", out}, 2);
  status_of({"compress", network(), "--data", "digits", "--target", "avg-bits=none", "--out", out}, 2);
  status_of({"compress", network(), "--data", "digits", "--target", "speed=9", "--out", out}, 2);
  status_of({"compress", network(), "--data", "digits", "--quiet", "--target", "size=1000x", "--out", path("tiny")}, 1);
  status_of({"compress", network(), "--data", "digits", "--plan", network(), "--out", path("noplan"), "--quiet"}, 3);
  status_of({"train", "vgg", "--data", "digits", "--out", path("x.onnx")}, 3);
  status_of({"train", "lenet", "--data", "digits", "--out", "/proc/none/x.onnx", "--epochs", "0", "--quiet"}, 3);
  status_of({"verify", path("nowhere"), "--data", "digits"}, 3);
  status_of({"finetune", network(), "--data", "digits", "--out", out}, 2);
  status_of({"compile", path("nowhere")}, 3);
  EXPECT_TRUE(std::filesystem::exists(path("tiny") + "/plan.json")) << "the nearest plan is kept";
}

TEST_F(Jobs, EveryRealValuedOptionWantsAFiniteNumber) {
  const std::string help = bitstrata({"compress", "--help"}).out;
  const std::regex option("--([a-z-]+) FLOAT");
  int options = 0;
  for (auto each = std::sregex_iterator(help.begin(), help.end(), option); each != std::sregex_iterator(); ++each, ++options) {
    for (const char* value : {"nan", "inf"}) {
      SCOPED_TRACE(each->str() + " = " + value);
      expect_one_line_error(bitstrata({"compress", network(), "--data", "digits", "--quiet", "--out", path("real"), "--" + (*each)[1].str(), value}), 2);
    }
  }
  EXPECT_GE(options, 15) << help;
}

TEST_F(Jobs, RealValuedOptionsSayTheirRange) {
  const auto message = [&](const std::string& option, const std::string& value) {
    return bitstrata({"train", "lenet", "--data", "digits", "--out", path("x.onnx"), "--epochs", "0", "--quiet", option, value}).err;
  };
  EXPECT_THAT(message("--average", "1.5"), HasSubstr("--average: found 1.5, expected a number from 0 to 1"));
  EXPECT_THAT(message("--momentum", "1"), HasSubstr("expected a number from 0 to 0.9999"));
  EXPECT_THAT(message("--lr", "0"), HasSubstr("--lr: found 0, expected a number above 0"));
  EXPECT_THAT(message("--warmup", "-1"), HasSubstr("--warmup: found -1, expected a number of at least 0"));
  EXPECT_THAT(message("--lr", "fast"), HasSubstr("--lr: found fast, expected a number above 0"));
  EXPECT_EQ(message("--average", "1"), "");
}

TEST_F(Jobs, AFullDiskLosesNothing) {
  const std::string disk = path("disk");
  std::filesystem::create_directory(disk);
  if (run_process("/bin/mount", {"-t", "tmpfs", "-o", "size=300k", "tmpfs", disk}).status != 0) GTEST_SKIP() << "cannot mount a small file system here";
  auto words = compress("unused", {"--resume"});
  words[static_cast<size_t>(std::find(words.begin(), words.end(), "--out") - words.begin()) + 1] = disk + "/job";
  const Finished full = bitstrata(words);
  const bool one_line = full.status == 3 && full.err.find("No space left") != std::string::npos;
  EXPECT_EQ(run_process("/bin/mount", {"-o", "remount,size=64m", disk}).status, 0);
  const Finished resumed = bitstrata(words);
  const auto bytes = resumed.status == 0 ? read_file(disk + "/job/model.bst", 1 << 20) : std::vector<uint8_t>{};
  run_process("/bin/umount", {disk});
  EXPECT_TRUE(one_line) << full.status << full.err;
  EXPECT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_EQ(bytes, model("undisturbed"));
}

}  // namespace
}  // namespace bitstrata::testing
