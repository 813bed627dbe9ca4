#include "common/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "common/output.h"
#include "core/error.h"

namespace bitstrata::cli {
namespace {

constexpr std::chrono::milliseconds kBarInterval{100};
constexpr std::chrono::seconds kLineInterval{5};
constexpr size_t kBarCells = 24;

bool bar_on_screen = false;

bool stderr_is_terminal() {
  const char* term = std::getenv("TERM");
  return isatty(STDERR_FILENO) && term != nullptr && std::string_view(term) != "dumb";
}

size_t terminal_columns() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
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
  const double left = rate > 0 ? static_cast<double>(total_ - std::min(done, total_)) / rate : 0;
  return fmt::format("{:.{}f} {}/s, {} left", rate, rate < 10 ? 2 : 0, unit_, format_duration(left));
}

void Progress::draw_bar(uint64_t done, std::string_view note) {
  const size_t filled = std::min<uint64_t>(done, total_) * kBarCells / total_;
  std::string line =
      fmt::format("{} [{}{}] {}/{} {}", title_, std::string(filled, '='),
                  std::string(kBarCells - filled, ' '), done, total_, rate_and_time_left(done));
  if (!note.empty()) line += fmt::format(", {}", note);
  line.resize(std::min(line.size(), terminal_columns() - 1));
  std::fprintf(stderr, "\r\033[K%s", line.c_str());
  std::fflush(stderr);
  bar_on_screen = true;
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

}  // namespace bitstrata::cli
