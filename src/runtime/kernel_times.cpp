#include "runtime/kernel_times.h"

#include <sys/resource.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <sstream>

#include "core/error.h"
#include "core/file.h"
#include "runtime/model.h"

namespace bitstrata::runtime {
namespace {

using kernels::ConvProblem;
using kernels::KernelEntry;

/// A time that is this many times the estimate tells of the machine's load, not of the kernel, and is not
/// kept.
constexpr double kImplausible = 20, kOverheadUs = 50;
/// On a machine with nothing else to do a process is hardly ever preempted, on a busy one every few
/// milliseconds.
constexpr double kCalmMs = 10;
/// Measurements that were disturbed before the least of them is taken for good.
constexpr int kMostDisturbed = 4;
constexpr const char* kDisturbed = "disturbed";
/// Weights of the other layers that are taken into account: less stays in a second-level cache beside the
/// layer's own, more than a third-level one changes nothing.
constexpr int64_t kLeastBeside = int64_t{512} << 10, kMostBeside = int64_t{32} << 20;
constexpr uint64_t kMaxFileBytes = 16u << 20;

/// Everything that the speed of a kernel depends on.
std::string key_of(const ConvProblem& p, Isa cap, bool plain_end, int64_t beside_bytes) {
  const program::Window& w = p.window;
  return fmt::format(
      "{},{},{},{},{} {}x{} stride {}x{} dilation {}x{} pad {},{},{},{} W{} {}u{} A{}{} batch {} threads {} "
      "{}{} beside {}",
      p.ic, p.ih, p.iw, p.oc, p.groups, w.kernel_h, w.kernel_w, w.stride_h, w.stride_w, w.dilation_h,
      w.dilation_w, w.pad_top, w.pad_left, w.pad_bottom, w.pad_right, p.w_bits, p.grid.mul, p.grid.offset,
      p.a_bits, p.a_zero, p.max_batch, p.max_threads, to_string(cap), plain_end ? " plain" : "",
      beside_bytes);
}

bool plausible(const KernelTime& time, const ConvProblem& p) {
  const double macs = double(p.max_batch) * p.oh * p.ow * p.oc * p.reduction();
  const double expected_us = macs / kernels::expected_gmacs(*time.entry, p) / 1e3;
  return time.us < kImplausible * (expected_us + kOverheadUs);
}

/// First line of a file: another program version may have other kernels, another CPU other times.
std::string heading() {
  std::string names;
  for (const KernelEntry& entry : kernels::conv_kernels()) names += entry.name + ";";
  const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(names.data()), names.size());
  return fmt::format("bitstrata kernel times 3, kernels {:016x}, {}", hash64(bytes), cpu_name());
}

// The least of two measurements of the same kernels, fastest first.
std::vector<KernelTime> least_of(std::vector<KernelTime> times, const std::vector<KernelTime>& others) {
  for (KernelTime& time : times) {
    const auto other = std::ranges::find(others, time.entry, &KernelTime::entry);
    if (other != others.end()) time.us = std::min(time.us, other->us);
  }
  std::ranges::stable_sort(times, {}, &KernelTime::us);
  return times;
}

std::vector<KernelTime> parse_times(std::istringstream& words) {
  std::vector<KernelTime> times;
  for (std::string name, number; words >> name >> number;) {
    const auto& all = kernels::conv_kernels();
    const auto entry = std::ranges::find(all, name, &KernelEntry::name);
    double us = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), us);
    if (entry == all.end() || error != std::errc() || !(us > 0)) return {};
    times.push_back({&*entry, us});
  }
  return times;
}

}  // namespace

KernelTimes::KernelTimes(std::filesystem::path file, std::function<int64_t()> preemptions)
    : file_(std::move(file)), preemptions_(std::move(preemptions)), table_(read()) {}

int64_t KernelTimes::own_preemptions() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nivcsw;
}

KernelTimes::Table KernelTimes::read() const {
  Table table;
  if (file_.empty()) return table;
  try {
    std::istringstream lines(read_text_file(file_, kMaxFileBytes));
    std::string line;
    if (!std::getline(lines, line) || line != heading()) return table;
    while (std::getline(lines, line)) {
      const size_t bar = line.find('|');
      if (bar == std::string::npos) continue;
      std::istringstream words(line.substr(bar + 1));
      Known known;
      if (std::string first; words >> first && first == kDisturbed) {
        words >> known.disturbed;
      } else {
        words.seekg(0);
      }
      known.times = parse_times(words);
      if (!known.times.empty()) table[line.substr(0, bar)] = std::move(known);
    }
  } catch (const Error&) {
    // As good as empty.
  }
  return table;
}

const std::vector<KernelTime>& KernelTimes::of(const ConvProblem& problem, std::span<const uint8_t> codes,
                                               Isa cap, bool plain_end, int64_t other_bytes) {
  // Powers of two, so that networks share what was measured.
  const int64_t beside_bytes =
      other_bytes < kLeastBeside
          ? 0
          : std::min(kMostBeside, static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(other_bytes))));
  const std::string key = key_of(problem, cap, plain_end, beside_bytes);
  Known& known = table_[key];
  const bool complete = known.disturbed == 0 || known.disturbed >= kMostDisturbed || measured_.contains(key);
  if (!known.times.empty() && complete) return known.times;
  const int64_t before = preemptions_();
  const auto start = std::chrono::steady_clock::now();
  std::vector<KernelTime> times = time_kernels(problem, codes, cap, plain_end, beside_bytes);
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  const bool disturbed = static_cast<double>(preemptions_() - before) > 1 + took.count() / kCalmMs;
  known.times = disturbed ? least_of(std::move(times), known.times) : std::move(times);
  known.disturbed = disturbed ? known.disturbed + 1 : 0;
  if (plausible(known.times.front(), problem)) measured_[key] = known;
  return known.times;
}

void KernelTimes::save() noexcept {
  if (measured_.empty() || file_.empty()) return;
  try {
    Table all = read();
    for (const auto& [key, known] : measured_) all[key] = known;
    std::string text = heading() + "\n";
    for (const auto& [key, known] : all) {
      text += key + "|";
      if (known.disturbed > 0) text += fmt::format(" {} {}", kDisturbed, known.disturbed);
      for (const KernelTime& time : known.times) text += fmt::format(" {} {:.3f}", time.entry->name, time.us);
      text += "\n";
    }
    make_folders(file_.parent_path());
    write_file_atomically(file_, text);
    measured_.clear();
  } catch (const std::exception&) {
    // The next process measures again.
  }
}

std::optional<std::filesystem::path> default_kernel_times() {
  const auto environment = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  const std::string chosen = environment("BITSTRATA_KERNEL_TIMES");
  if (chosen == "off") return std::nullopt;
  if (!chosen.empty()) return chosen;
  std::filesystem::path folder = environment("XDG_CACHE_HOME");
  if (folder.empty()) {
    const std::string home = environment("HOME");
    if (home.empty()) return std::filesystem::path();
    folder = std::filesystem::path(home) / ".cache";
  }
  std::string name = cpu_name();
  for (char& c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!plain) c = '-';
  }
  return folder / "bitstrata" / ("kernels-" + name + ".txt");
}

}  // namespace bitstrata::runtime
