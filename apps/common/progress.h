#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

namespace bitstrata::cli {

/// Progress of one long job on stderr: on a terminal a bar with rate and time left, otherwise a plain line
/// every few seconds. Used by one thread; at most one is alive at a time.
class Progress {
 public:
  /// title: what is done, as "eval"; total: how many units of work, > 0; unit: their plural, as "images".
  /// Prints nothing when quiet.
  Progress(std::string title, uint64_t total, std::string unit, bool quiet);
  /// Erases the bar.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Says that `done` units are done; `note` (as "loss 0.31") is shown behind. Cheap: prints a few times a
  /// second at most.
  void update(uint64_t done, std::string_view note = {});
  /// Prints a last line with the time it took.
  void finish(std::string_view note = {});

  /// Removes the bar of the living Progress, if any, from the terminal, so that a line can be printed; the
  /// next update draws it again.
  static void erase_bar() noexcept;

 private:
  using Clock = std::chrono::steady_clock;

  double seconds_since_start() const;
  std::string rate_and_time_left(uint64_t done) const;
  void draw_bar(uint64_t done, std::string_view note);

  std::string title_, unit_;
  uint64_t total_;
  bool quiet_, terminal_;
  Clock::time_point start_, next_print_;
};

/// Says on the terminal what goes on while a step runs whose end is not known: after two seconds, one line
/// with the time that passes. Nothing where stderr is no terminal. Owns a thread; no Progress may be alive
/// and no process may be started meanwhile.
class Waiting {
 public:
  /// what: the step, as "reading model.bst". Prints nothing when quiet.
  Waiting(std::string what, bool quiet);
  /// Removes the line.
  ~Waiting();
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

 private:
  void print_until(const std::stop_token& stop);

  std::string what_;
  std::mutex mutex_;
  std::condition_variable_any ended_;
  std::jthread thread_;
};

/// "0:07", "12:30", "3:05:00".
std::string format_duration(double seconds);

}  // namespace bitstrata::cli
