#include "common/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "common/output.h"
#include "core/error.h"

namespace bitstrata::cli {
namespace {

constexpr std::chrono::milliseconds kBarInterval{100};
constexpr std::chrono::seconds kLineInterval{5};
constexpr std::chrono::seconds kSilence{2};
constexpr std::chrono::milliseconds kTimeInterval{500};
constexpr size_t kBarCells = 24;

std::atomic<bool> bar_on_screen = false;

bool stderr_is_terminal() {
  const char* term = std::getenv("TERM");
  return isatty(STDERR_FILENO) && term != nullptr && std::string_view(term) != "dumb";
}

size_t terminal_columns() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/// Writes or rewrites the one line that changes on the terminal.
void draw_line(std::string line) {
  line.resize(std::min(line.size(), terminal_columns() - 1));
  std::fprintf(stderr, "\r\033[K%s", line.c_str());
  std::fflush(stderr);
  bar_on_screen = true;
}

}  // namespace

std::string format_duration(double seconds) {
  const auto whole = static_cast<int64_t>(std::clamp(std::round(seconds), 0.0, 1e9));
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

Progress::Progress(std::string title, uint64_t total, std::string unit, bool quiet)
    : title_(std::move(title)),
      unit_(std::move(unit)),
      total_(std::max<uint64_t>(total, 1)),
      quiet_(quiet),
      terminal_(stderr_is_terminal()),
      start_(Clock::now()),
      next_print_(start_ + (terminal_ ? Clock::duration(kBarInterval) : Clock::duration(kLineInterval))) {}

Progress::~Progress() {
  erase_bar();
}

double Progress::seconds_since_start() const {
  return std::chrono::duration<double>(Clock::now() - start_).count();
}

std::string Progress::rate_and_time_left(uint64_t done) const {
  const double rate = static_cast<double>(done) / std::max(seconds_since_start(), 1e-9);
  if (done == 0) return fmt::format("{} so far", format_duration(seconds_since_start()));
  const double left = rate > 0 ? static_cast<double>(total_ - std::min(done, total_)) / rate : 0;
  return fmt::format("{:.{}f} {}/s, {} left", rate, rate < 10 ? 2 : 0, unit_, format_duration(left));
}

void Progress::draw_bar(uint64_t done, std::string_view note) {
  const size_t filled = std::min<uint64_t>(done, total_) * kBarCells / total_;
  std::string line =
      fmt::format("{} [{}{}] {}/{} {}", title_, std::string(filled, '='),
                  std::string(kBarCells - filled, ' '), done, total_, rate_and_time_left(done));
  if (!note.empty()) line += fmt::format(", {}", note);
  draw_line(std::move(line));
}

void Progress::update(uint64_t done, std::string_view note) {
  if (quiet_ || Clock::now() < next_print_) return;
  if (terminal_) {
    draw_bar(done, note);
    next_print_ = Clock::now() + kBarInterval;
    return;
  }
  const std::string tail = note.empty() ? "" : fmt::format(", {}", note);
  write_stderr_line(
      fmt::format("{}: {}/{} {}, {}{}", title_, done, total_, unit_, rate_and_time_left(done), tail));
  next_print_ = Clock::now() + kLineInterval;
}

void Progress::finish(std::string_view note) {
  if (quiet_) return;
  const std::string tail = note.empty() ? "" : fmt::format(", {}", note);
  write_stderr_line(
      fmt::format("{}: {} {} in {:.1f} s{}", title_, total_, unit_, seconds_since_start(), tail));
}

void Progress::erase_bar() noexcept {
  if (!bar_on_screen) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  bar_on_screen = false;
}

Waiting::Waiting(std::string what, bool quiet) : what_(std::move(what)) {
  if (!quiet && stderr_is_terminal())
    thread_ = std::jthread([this](const std::stop_token& stop) { print_until(stop); });
}

Waiting::~Waiting() {
  if (!thread_.joinable()) return;
  thread_.request_stop();
  thread_.join();
  Progress::erase_bar();
}

void Waiting::print_until(const std::stop_token& stop) {
  const auto start = std::chrono::steady_clock::now();
  auto next = start + std::chrono::milliseconds(kSilence);
  std::unique_lock lock(mutex_);
  while (!ended_.wait_until(lock, stop, next, [] { return false; }) && !stop.stop_requested()) {
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    draw_line(fmt::format("{}: {} so far", what_, format_duration(passed.count())));
    next += kTimeInterval;
  }
}

}  // namespace bitstrata::cli
