#include "runtime/kernel_times.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <sstream>

#include "core/error.h"
#include "core/file.h"
#include "core/random.h"
#include "runtime/model.h"
#include "runtime/row_ops.h"

namespace bitstrata::runtime {
namespace {

using kernels::ConvKernel;
using kernels::ConvProblem;
using kernels::KernelEntry;

/// A kernel whose estimate is this many times worse than the best one is not worth measuring.
constexpr double kHopeless = 8;
/// Rounds end early, after the first, when a problem has taken this long: large batches, or a machine that is
/// busy.
constexpr double kPatienceUs = 150'000;
/// A time that is this many times the estimate tells of the machine's load, not of the kernel, and is not
/// kept.
constexpr double kImplausible = 20, kOverheadUs = 50;
constexpr int kRounds = 4;
constexpr double kRoundUs = 800;
constexpr uint64_t kMaxFileBytes = 16u << 20;

/// The usual epilogue, one pass over the accumulators: what the time of a kernel includes.
class End {
 public:
  End(const ConvProblem& p, Isa cap)
      : ops_(row_ops(cap)),
        channels_(p.oc),
        image_elems_(size_t(p.oh) * p.ow * p.oc),
        chunk_(std::max<size_t>(1, 1024 / p.oc) * p.oc),
        mul_(chunk_, 1e-3f),
        add_(chunk_, 0.5f),
        codes_(p.max_batch * image_elems_) {}

  void run(int image, size_t first_elem, size_t count, const int32_t* acc) const noexcept {
    uint8_t* target = codes_.data() + image * image_elems_ + first_elem;
    for (size_t done = 0; done < count; done += chunk_) {
      const CodeStore store{1.0f, 0, kMaxCode, target + done};
      ops_.requantize(acc + done, mul_.data(), add_.data(), {}, &store, 1, std::min(chunk_, count - done));
    }
  }
  kernels::Requantization requantization() const noexcept {
    return {std::span(mul_).first(channels_), std::span(add_).first(channels_), 1.0f, kMaxCode};
  }
  uint8_t* codes() const noexcept { return codes_.data(); }
  kernels::PixelSink sink() const noexcept {
    return {this,
            [](const void* self, int image, int64_t first, int count, const int32_t* acc, int) noexcept {
              const auto& own = *static_cast<const End*>(self);
              own.run(image, static_cast<size_t>(first) * own.channels_, size_t(count) * own.channels_, acc);
            }};
  }

 private:
  static constexpr int kMaxCode = 15;
  const RowOps& ops_;
  size_t channels_, image_elems_, chunk_;
  std::vector<float> mul_, add_;
  mutable std::vector<uint8_t> codes_;
};

/// One kernel ready to be timed.
class Candidate {
 public:
  Candidate(const KernelEntry& entry, const ConvProblem& p, std::span<const uint8_t> codes, Isa cap,
            const End* fused)
      : entry_(&entry),
        kernel_(entry.make(p, codes, cap)),
        fused_(fused != nullptr && kernel_->fuse(fused->requantization())),
        scratch_(kernel_->scratch_bytes(p.max_batch)) {}

  void run(const ConvProblem& p, const uint8_t* src, int32_t* acc, const End& end) const noexcept {
    if (fused_) {
      kernel_->run_codes(src, p.max_batch, end.codes(), scratch_.data(), p.max_threads);
      return;
    }
    if (kernel_->streams()) {
      kernel_->stream(src, p.max_batch, end.sink(), scratch_.data(), p.max_threads);
      return;
    }
    kernel_->run(src, p.max_batch, acc, scratch_.data(), p.max_threads);
    const size_t elems = size_t(p.oh) * p.ow * p.oc;
    for (int image = 0; image < p.max_batch; ++image) end.run(image, 0, elems, acc + image * elems);
  }
  const KernelEntry* entry() const noexcept { return entry_; }

 private:
  const KernelEntry* entry_;
  std::unique_ptr<ConvKernel> kernel_;
  bool fused_;
  AlignedBuffer scratch_;
};

/// Everything that the speed of a kernel depends on.
std::string key_of(const ConvProblem& p, Isa cap, bool plain_end) {
  const program::Window& w = p.window;
  return fmt::format(
      "{},{},{},{},{} {}x{} stride {}x{} dilation {}x{} pad {},{},{},{} W{} {}u{} A{}{} batch {} threads {} "
      "{}",
      p.ic, p.ih, p.iw, p.oc, p.groups, w.kernel_h, w.kernel_w, w.stride_h, w.stride_w, w.dilation_h,
      w.dilation_w, w.pad_top, w.pad_left, w.pad_bottom, w.pad_right, p.w_bits, p.grid.mul, p.grid.offset,
      p.a_bits, p.a_zero, p.max_batch, p.max_threads, to_string(cap), plain_end ? " plain" : "");
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
  return fmt::format("bitstrata kernel times 1, kernels {:016x}, {}", hash64(bytes), cpu_name());
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

struct KernelTrial::State {
  State(const ConvProblem& p, Isa cap)
      : problem(p),
        end(p, cap),
        src(size_t(p.max_batch) * p.ih * p.iw * p.ic),
        acc(sizeof(int32_t) * p.max_batch * p.oh * p.ow * p.oc) {
    Random random(0, 1);
    auto* codes = reinterpret_cast<uint8_t*>(src.data());
    for (size_t i = 0; i < size_t(p.max_batch) * p.ih * p.iw * p.ic; ++i)
      codes[i] = static_cast<uint8_t>(random.below(uint64_t{1} << p.a_bits));
  }

  ConvProblem problem;
  End end;
  AlignedBuffer src, acc;
  std::vector<Candidate> candidates;
};

KernelTrial::KernelTrial(const ConvProblem& problem, std::span<const uint8_t> codes, Isa cap, bool plain_end,
                         const kernels::Family* only) {
  std::vector<const KernelEntry*> entries;
  double best_estimate = 0;
  for (const kernels::Verdict& verdict : kernels::explain_conv(problem, cap)) {
    if (verdict.refused || (only != nullptr && verdict.entry->family != *only)) continue;
    entries.push_back(verdict.entry);
    best_estimate = std::max(best_estimate, kernels::expected_gmacs(*verdict.entry, problem));
  }
  std::erase_if(entries, [&](const KernelEntry* entry) {
    return kernels::expected_gmacs(*entry, problem) * kHopeless < best_estimate;
  });
  state_ = std::make_unique<State>(problem, cap);
  for (const KernelEntry* entry : entries)
    state_->candidates.emplace_back(*entry, problem, codes, cap, plain_end ? &state_->end : nullptr);
}

KernelTrial::~KernelTrial() = default;

size_t KernelTrial::size() const noexcept {
  return state_->candidates.size();
}

const KernelEntry& KernelTrial::entry(size_t index) const noexcept {
  return *state_->candidates[index].entry();
}

void KernelTrial::run(size_t index) const noexcept {
  state_->candidates[index].run(state_->problem, reinterpret_cast<const uint8_t*>(state_->src.data()),
                                reinterpret_cast<int32_t*>(state_->acc.data()), state_->end);
}

std::vector<double> least_us(std::span<const std::function<void()>> works, int rounds, double round_us) {
  std::vector<double> least(works.size(), std::numeric_limits<double>::infinity());
  double total = 0;
  for (int round = 0; round < rounds && (round == 0 || total < kPatienceUs); ++round) {
    for (size_t i = 0; i < works.size(); ++i) {
      // The first run of a round pays for what the others left in the caches.
      works[i]();
      double spent = 0;
      do {
        const auto start = std::chrono::steady_clock::now();
        works[i]();
        const std::chrono::duration<double, std::micro> elapsed = std::chrono::steady_clock::now() - start;
        least[i] = std::min(least[i], elapsed.count());
        spent += elapsed.count();
        total += elapsed.count();
      } while (spent < round_us);
    }
  }
  return least;
}

std::vector<KernelTime> time_kernels(const KernelTrial& trial) {
  std::vector<std::function<void()>> works;
  for (size_t i = 0; i < trial.size(); ++i) works.emplace_back([&trial, i] { trial.run(i); });
  const std::vector<double> us = least_us(works, kRounds, kRoundUs);
  std::vector<KernelTime> times;
  for (size_t i = 0; i < trial.size(); ++i) times.push_back({&trial.entry(i), us[i]});
  std::ranges::stable_sort(times, {}, &KernelTime::us);
  return times;
}

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
                                               Isa cap, bool plain_end) {
  const std::string key = key_of(problem, cap, plain_end);
  const auto known = table_.find(key);
  if (known != table_.end()) return known->second;
  const std::vector<KernelTime>& times = table_[key] =
      time_kernels(KernelTrial(problem, codes, cap, plain_end));
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
