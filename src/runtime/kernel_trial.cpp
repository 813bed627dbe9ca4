#include "runtime/kernel_trial.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "core/random.h"
#include "runtime/model.h"
#include "runtime/parallel.h"
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
constexpr int kRounds = 4;
constexpr double kRoundUs = 800;
/// Timed runs of each kernel beside other layers.
constexpr int kRunsBeside = 8;
constexpr size_t kManyWeights = size_t{4} << 20;
constexpr size_t kLineBytes = 64;

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

double timed_us(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
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

std::vector<const KernelEntry*> kernels_worth_timing(const ConvProblem& problem, Isa cap,
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
  return entries;
}

KernelTrial::KernelTrial(const ConvProblem& problem, std::span<const uint8_t> codes, Isa cap, bool plain_end,
                         std::span<const KernelEntry* const> entries)
    : state_(std::make_unique<State>(problem, cap)) {
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

void KernelTrial::read_input() const noexcept {
  const auto* bytes = reinterpret_cast<const volatile uint8_t*>(state_->src.data());
  const ConvProblem& p = state_->problem;
  const size_t count = size_t(p.max_batch) * p.ih * p.iw * p.ic;
  for (size_t i = 0; i < count; i += kLineBytes) static_cast<void>(bytes[i]);
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
        const double us = timed_us(works[i]);
        least[i] = std::min(least[i], us);
        spent += us;
        total += us;
      } while (spent < round_us);
    }
  }
  return least;
}

namespace {

/// As least_us(), with `before` ahead of every run, in turns.
std::vector<double> least_us_after(const std::function<void()>& before,
                                   std::span<const std::function<void()>> works) {
  std::vector<double> least(works.size(), std::numeric_limits<double>::infinity());
  double total = 0;
  for (int run = 0; run < kRunsBeside && (run < 2 || total < kPatienceUs); ++run) {
    for (size_t i = 0; i < works.size(); ++i) {
      before();
      const double us = timed_us(works[i]);
      least[i] = std::min(least[i], us);
      total += us;
    }
  }
  return least;
}

/// Stands for the other layers of a network, whose weights go through the caches between two runs of one.
class OtherWeights {
 public:
  explicit OtherWeights(int64_t bytes) : bytes_(static_cast<size_t>(bytes), 1) {}
  void read(int threads) const noexcept {
    parallel_for(threads, threads, [this](int64_t, int) {
      const volatile uint8_t* bytes = bytes_.data();
      for (size_t i = 0; i < bytes_.size(); i += kLineBytes) static_cast<void>(bytes[i]);
    });
  }

 private:
  std::vector<uint8_t> bytes_;
};

}  // namespace

std::vector<KernelTime> time_kernels(const ConvProblem& problem, std::span<const uint8_t> codes, Isa cap,
                                     bool plain_end, int64_t beside_bytes) {
  const std::vector<const KernelEntry*> entries = kernels_worth_timing(problem, cap);
  const OtherWeights others(beside_bytes);
  // Many weights are packed for one kernel at a time, so that memory holds them once.
  const size_t at_once = codes.size() > kManyWeights ? 1 : entries.size();
  std::vector<KernelTime> times;
  for (size_t first = 0; first < entries.size(); first += at_once) {
    const KernelTrial trial(problem, codes, cap, plain_end, std::span(entries).subspan(first, at_once));
    std::vector<std::function<void()>> works;
    for (size_t i = 0; i < trial.size(); ++i) works.emplace_back([&trial, i] { trial.run(i); });
    const auto before = [&] {
      others.read(std::max(1, problem.max_threads));
      trial.read_input();
    };
    const std::vector<double> us =
        beside_bytes > 0 ? least_us_after(before, works) : least_us(works, kRounds, kRoundUs);
    for (size_t i = 0; i < trial.size(); ++i) times.push_back({&trial.entry(i), us[i]});
  }
  std::ranges::stable_sort(times, {}, &KernelTime::us);
  return times;
}

}  // namespace bitstrata::runtime
