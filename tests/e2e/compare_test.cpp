#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/file.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "core/file.h"
#include "tests/cli/process.h"
#include "tests/e2e/background.h"

/// compare and the job that it runs, when they are stopped from outside.
namespace bitstrata::testing {
namespace {

using ::testing::HasSubstr;
using namespace std::chrono_literals;

class StoppedCompare : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(bitstrata({"train", "lenet", "--data", "digits", "--out", network_, "--epochs", "1", "--quiet"})
                  .status,
              0);
  }

  std::vector<std::string> words() const {
    return {"compare",
            network_,
            "--data",
            "digits",
            "--methods",
            "uniform",
            "--bits",
            "4",
            "--epochs",
            "12",
            "--threads",
            "1",
            "--checkpoint-seconds",
            "3600",
            "--out",
            table_};
  }
  std::string log() const {
    const std::string path = table_ + "/uniform-1/log.txt";
    return std::filesystem::exists(path) ? read_text_file(path) : "";
  }
  /// Waits until the running job has finished an epoch.
  void wait_for_training() const {
    for (int i = 0; i < 3000 && log().find("epoch 1/12") == std::string::npos; ++i)
      std::this_thread::sleep_for(20ms);
    ASSERT_THAT(log(), HasSubstr("epoch 1/12"));
    ASSERT_THAT(log(), ::testing::Not(HasSubstr("epoch 12/12"))) << "too fast to be stopped";
  }
  /// Whether the job has ended, that is given up its folder, within a time.
  bool job_ends() const {
    const int lock = ::open((table_ + "/uniform-1/checkpoint/lock").c_str(), O_RDWR);
    bool ended = false;
    for (int i = 0; i < 1500 && !ended; ++i) {
      ended = ::flock(lock, LOCK_EX | LOCK_NB) == 0;
      if (!ended) std::this_thread::sleep_for(20ms);
    }
    ::close(lock);
    return ended;
  }
  void expect_to_go_on() const {
    const Finished again = bitstrata(words());
    EXPECT_EQ(again.status, 0) << again.err;
    EXPECT_THAT(log(), HasSubstr("resuming in epoch"));
    EXPECT_THAT(log(), HasSubstr("epoch 12/12"));
    EXPECT_TRUE(std::filesystem::exists(table_ + "/compare.md"));
  }

  TemporaryFolder folder_;
  std::string network_ = folder_ / "float.onnx", table_ = folder_ / "table", err_ = folder_ / "err";
};

TEST_F(StoppedCompare, CtrlCForTheWholeGroupLetsTheJobSave) {
  {
    Background compare(words(), err_);
    wait_for_training();
    compare.signal_group(SIGINT);
    EXPECT_EQ(compare.wait(), 1);
  }
  EXPECT_TRUE(job_ends());
  const std::string err = read_text_file(err_);
  EXPECT_THAT(err, HasSubstr("interrupted; run the same command with --resume to go on"));
  EXPECT_THAT(err, HasSubstr("interrupted; run the same command again to go on"));
  expect_to_go_on();
}

TEST_F(StoppedCompare, TheJobOfAKilledCompareSavesAndEnds) {
  {
    Background compare(words(), err_);
    wait_for_training();
    compare.signal(SIGKILL);
    EXPECT_EQ(compare.wait(), 128 + SIGKILL);
  }
  EXPECT_TRUE(job_ends());
  EXPECT_THAT(read_text_file(err_), HasSubstr("interrupted; run the same command with --resume to go on"));
  expect_to_go_on();
}

}  // namespace
}  // namespace bitstrata::testing
