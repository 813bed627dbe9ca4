#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "core/random.h"

namespace bitstrata::testing {

/// A `bitstrata` that runs while the test goes on. Killed when the object ends.
class Background {
 public:
  /// err: a file for standard error; empty: nowhere. The process leads a group of its own, as a shell's job
  /// does.
  explicit Background(const std::vector<std::string>& arguments, const std::string& err = "");
  ~Background();
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  void signal(int number) const;
  /// To the whole group, as Ctrl-C on a terminal.
  void signal_group(int number) const;
  /// Exit status, or 128 + the signal that ended it.
  int wait();
  /// Waits at most `limit`; true when the process has ended by itself.
  bool ended_within(std::chrono::milliseconds limit);

 private:
  pid_t pid_ = -1;
  int status_ = -1;
};

/// How a command ended that was killed and started again until it ended by itself.
struct Survival {
  int status = -1;  ///< exit status; 128 + SIGKILL when it never ended by itself
  int kills = 0;
  std::string err;  ///< what the last one wrote to standard error
};

/// Runs the command again and again, each time killed (-9) at a random moment, until it ends by itself.
/// whole: how long it takes undisturbed, on this machine and beside what else runs now. The first kill comes
/// in its first quarter, later ones within 0.1 to 0.6 of it; lives grow with the number of kills, so that a
/// command which goes on where it was ends on a slow machine too. log: a file to be written.
Survival run_killing(const std::vector<std::string>& arguments, std::chrono::duration<double> whole,
                     Random& random, const std::string& log);

}  // namespace bitstrata::testing
