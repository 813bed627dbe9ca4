#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

namespace bitstrata::testing {

/// A `bitstrata` that runs while the test goes on. Killed when the object ends.
class Background {
 public:
  explicit Background(const std::vector<std::string>& arguments);
  ~Background();
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  void signal(int number) const;
  /// Exit status, or 128 + the signal that ended it.
  int wait();
  /// Waits at most `limit`; true when the process has ended by itself.
  bool ended_within(std::chrono::milliseconds limit);

 private:
  pid_t pid_ = -1;
  int status_ = -1;
};

}  // namespace bitstrata::testing
