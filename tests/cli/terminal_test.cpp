#include <gmock/gmock.h>
#include <pty.h>
#include <unistd.h>

#include <thread>

#include "common/output.h"
#include "common/progress.h"
#include "format/bst.h"
#include "tests/cli/network.h"
#include "tests/cli/process.h"

/// What commands look like on a terminal, and what tells that one still works.
namespace bitstrata::testing {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kBold = "\033[1m";

/// Runs a command of the shell on a pseudo terminal; what it writes there is `out`.
Finished on_terminal(const std::string& command, const std::string& setting) {
  return run_process("/usr/bin/script", {"-qec", command, "/dev/null"}, {"TERM=xterm", setting});
}

class OnATerminal : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists("/usr/bin/script")) GTEST_SKIP() << "script is missing";
    format::write(folder_.path() / "model.bst", digits_network());
  }

  std::string command(const std::string& arguments) const { return executable().string() + " " + arguments; }

  const TemporaryFolder folder_;
};

TEST_F(OnATerminal, TitlesAreBoldThereAlone) {
  const std::string inspect = command("inspect " + folder_ / "model.bst");
  const Finished coloured = on_terminal(inspect, "NO_COLOR=");
  EXPECT_EQ(coloured.status, 0);
  EXPECT_THAT(coloured.out, ContainsRegex("\033\\[1mlayer +op .*\033\\[0m"));
  EXPECT_THAT(on_terminal(inspect, "NO_COLOR=1").out, Not(HasSubstr(kBold)));
  EXPECT_THAT(on_terminal("TERM=dumb " + inspect, "NO_COLOR=").out, Not(HasSubstr(kBold)));
  EXPECT_THAT(bitstrata({"inspect", folder_ / "model.bst"}).out, Not(HasSubstr("\033")));
}

TEST_F(OnATerminal, ErrorsAreRedThereAlone) {
  const std::string inspect = command("inspect " + folder_ / "absent.bst");
  EXPECT_THAT(on_terminal(inspect, "NO_COLOR=").out, HasSubstr("bitstrata: \033[1;31merror:\033[0m "));
  EXPECT_THAT(on_terminal(inspect, "NO_COLOR=1").out, HasSubstr("bitstrata: error: "));
}

/// What a Waiting of this length writes when standard error is a terminal.
std::string written_by_waiting(std::chrono::milliseconds time, bool quiet) {
  int terminal = -1, program_side = -1;
  if (openpty(&terminal, &program_side, nullptr, nullptr, nullptr) != 0) return "no pseudo terminal";
  setenv("TERM", "xterm", 1);
  const int kept = dup(STDERR_FILENO);
  dup2(program_side, STDERR_FILENO);
  {
    const cli::Waiting waiting("reading", quiet);
    std::this_thread::sleep_for(time);
  }
  cli::write_stderr_line("end");
  dup2(kept, STDERR_FILENO);
  close(kept);
  close(program_side);
  // A read gives what one write gave; behind the last it fails, as the program's side is closed.
  std::string text;
  char part[256];
  for (ssize_t n = 0; (n = read(terminal, part, sizeof part)) > 0;) text.append(part, static_cast<size_t>(n));
  close(terminal);
  return text;
}

TEST(Waiting, ShowsTheTimeAfterTwoSecondsAndLeavesNothing) {
  const std::string text = written_by_waiting(std::chrono::milliseconds(2300), false);
  EXPECT_THAT(text, ::testing::StartsWith("\r\033[Kreading: 0:02 so far"));
  EXPECT_THAT(text, ::testing::EndsWith("\r\033[Kend\r\n"));
}

TEST(Waiting, SaysNothingOfShortStepsOrWhenQuiet) {
  EXPECT_EQ(written_by_waiting(std::chrono::milliseconds(50), false), "end\r\n");
  EXPECT_EQ(written_by_waiting(std::chrono::milliseconds(2300), true), "end\r\n");
}

}  // namespace
}  // namespace bitstrata::testing
