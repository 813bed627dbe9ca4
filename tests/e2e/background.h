#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

namespace bitstrata::testing {

/// A `bitstrata` that runs while the test goes on. Killed when the object ends.
class Background {
 public:
  /// err: a file for standard error; empty: nowhere. The process leads a group of its own, as a shell's job does.
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

}  // namespace bitstrata::testing
