#include "runtime/kernel_times.h"

#include <algorithm>
#include <bit>
#include <charconv>
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
  return fmt::format("bitstrata kernel times 2, kernels {:016x}, {}", hash64(bytes), cpu_name());
}

std::vector<KernelTime> parse_times(const std::string& text) {
  std::vector<KernelTime> times;
  std::istringstream words(text);
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

KernelTimes::KernelTimes(std::filesystem::path file) : file_(std::move(file)), table_(read()) {}

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
      std::vector<KernelTime> times = parse_times(line.substr(bar + 1));
      if (!times.empty()) table[line.substr(0, bar)] = std::move(times);
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
  const auto known = table_.find(key);
  if (known != table_.end()) return known->second;
  const std::vector<KernelTime>& times = table_[key] =
      time_kernels(problem, codes, cap, plain_end, beside_bytes);
  if (plausible(times.front(), problem)) measured_[key] = times;
  return times;
}

void KernelTimes::save() noexcept {
  if (measured_.empty() || file_.empty()) return;
  try {
    Table all = read();
    for (const auto& [key, times] : measured_) all[key] = times;
    std::string text = heading() + "\n";
    for (const auto& [key, times] : all) {
      text += key + "|";
      for (const KernelTime& time : times) text += fmt::format(" {} {:.3f}", time.entry->name, time.us);
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
