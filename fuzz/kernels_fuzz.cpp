// Every kernel against the reference: bytes become a small layer, its weights and input codes, and every
// entry that accepts the layer on this machine computes it (run, stream, run_codes). Buffers end where their
// content does.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/isa.h"
#include "core/random.h"
#include "kernels/conv.h"
#include "tests/unit/kernels/support.h"

namespace {

using namespace bitstrata;
using namespace bitstrata::kernels;

/// Multiply-accumulates of a layer: with instrumentation, the scalar kernels take some milliseconds for them.
constexpr int64_t kMaxWork = int64_t{1} << 16;

/// Choices spelled by the input's bytes and, behind its end, drawn from a generator that the bytes seed:
/// short inputs make full problems too.
class Choices {
 public:
  Choices(const uint8_t* data, size_t size) : data_(data), left_(size), random_(hash(data, size), 0) {}

  /// In [low, high], high - low < 256.
  int in(int low, int high) {
    const auto count = static_cast<unsigned>(high - low + 1);
    if (left_ == 0) return low + static_cast<int>(random_.below(count));
    --left_;
    return low + static_cast<int>(*data_++ % count);
  }
  bool once_in(int n) { return in(1, n) == n; }
  template <typename T, size_t kCount>
  T one_of(const T (&values)[kCount]) {
    return values[in(0, kCount - 1)];
  }

 private:
  static uint64_t hash(const uint8_t* data, size_t size) {
    uint64_t h = size;
    for (size_t i = 0; i < size; ++i) h = mix64(h ^ data[i]);
    return h;
  }

  const uint8_t* data_;
  size_t left_;
  Random random_;
};

struct Layer {
  ConvProblem problem;
  int n = 1, threads = 1;
  std::vector<uint8_t> weights, src;
};

int64_t work(const Layer& layer) {
  const ConvProblem& p = layer.problem;
  return int64_t{layer.n} * p.oh * p.ow * p.oc * p.reduction();
}

program::Window choose_window(Choices& choose) {
  program::Window w;
  w.kernel_h = choose.in(1, 5);
  w.kernel_w = choose.once_in(3) ? choose.in(1, 5) : w.kernel_h;
  w.stride_h = choose.once_in(2) ? choose.in(1, 4) : 1;
  w.stride_w = choose.once_in(4) ? choose.in(1, 4) : w.stride_h;
  w.dilation_h = choose.once_in(4) ? choose.in(1, 3) : 1;
  w.dilation_w = choose.once_in(4) ? choose.in(1, 3) : w.dilation_h;
  w.pad_top = w.pad_left = w.pad_bottom = w.pad_right = choose.in(0, 2);
  if (choose.once_in(4)) {
    for (int* pad : {&w.pad_top, &w.pad_left, &w.pad_bottom, &w.pad_right}) *pad = choose.in(0, 5);
  }
  return w;
}

/// Mostly layers that validate() accepts.
Layer choose_layer(Choices& choose) {
  const program::Window window = choose_window(choose);
  const int ih = choose.in(1, 9), iw = choose.in(1, 9);
  const int most_groups = choose.once_in(3) ? 70 : 1;
  int groups = choose.in(1, most_groups);
  int group_ic = choose.in(1, 70 / groups), group_oc = choose.in(1, 70 / groups);
  if (groups > 1 && choose.once_in(2)) group_ic = group_oc = 1;
  const int w_bits = choose.in(1, 8), a_bits = choose.in(1, 8), max_code = (1 << a_bits) - 1;
  const int zeros[] = {0, 0, -1, -(max_code + 1) / 2, -max_code, -choose.in(0, max_code)};

  Layer layer;
  layer.n = choose.in(1, 3);
  layer.threads = choose.in(1, 2);
  const auto build = [&] {
    layer.problem =
        test::make_problem(groups * group_ic, ih, iw, groups * group_oc, window, groups, w_bits, a_bits);
  };
  build();
  while (layer.problem.oh > 0 && layer.problem.ow > 0 && work(layer) > kMaxWork) {
    int& largest = group_ic > group_oc ? group_ic : group_oc;
    (largest > 1 ? largest : groups) /= 2;
    build();
  }
  ConvProblem& p = layer.problem;
  p.grid = test::grid_of(choose.one_of(test::kAllGrids), w_bits);
  p.a_zero = choose.one_of(zeros);
  p.max_batch = choose.in(1, 3);
  p.max_threads = choose.in(1, 2);
  return layer;
}

/// Codes of `bits` bits: random ones, or what fills the kernels' narrow sums.
std::vector<uint8_t> choose_codes(Choices& choose, size_t count, int bits) {
  const auto top = static_cast<uint8_t>((1 << bits) - 1);
  const int pattern = choose.in(0, 7), period = choose.in(1, 4);
  Random random(static_cast<uint64_t>(choose.in(0, 255)), 1);
  std::vector<uint8_t> codes(count);
  for (size_t i = 0; i < count; ++i) {
    switch (pattern) {
      case 0:
        codes[i] = top;
        break;
      case 1:
        codes[i] = 0;
        break;
      case 2:
        codes[i] = i / static_cast<size_t>(period) % 2 == 0 ? top : 0;
        break;
      case 3:
        codes[i] = random.below(2) == 0 ? top : 0;
        break;
      case 4:
        codes[i] = random.below(16) == 0 ? static_cast<uint8_t>(random.below(top + 1u)) : top;
        break;
      default:
        codes[i] = static_cast<uint8_t>(random.below(top + 1u));
    }
  }
  return codes;
}

struct End {
  std::vector<float> mul, add;
  float inverse = 1;
  int max_code = 255;
  Requantization view() const { return {mul, add, inverse, max_code}; }
};

/// Powers of two and halves give rounding ties, the others awkward roundings.
End choose_end(Choices& choose, int channels) {
  End end;
  const bool ties = choose.once_in(2);
  const float scale = std::ldexp(1.0f, -choose.in(0, 14));
  Random random(static_cast<uint64_t>(choose.in(0, 255)), 2);
  for (int o = 0; o < channels; ++o) {
    const auto whole = static_cast<float>(static_cast<int>(random.below(9)) - 2);
    end.mul.push_back(scale * (ties ? std::ldexp(1.0f, static_cast<int>(random.below(4))) : whole * 0.371f));
    end.add.push_back(ties ? 0.5f * whole : static_cast<float>(random.uniform() * 40 - 10));
  }
  end.inverse = ties ? std::ldexp(1.0f, choose.in(-3, 3)) : 0.37f * static_cast<float>(choose.in(1, 20));
  end.max_code = (1 << choose.in(1, 8)) - 1;
  return end;
}

uint8_t requantized(int32_t acc, const End& end, size_t o) {
  float y = static_cast<float>(acc) * end.mul[o];
  y = y + end.add[o];
  return static_cast<uint8_t>(
      std::min(std::max(std::rint(y * end.inverse), 0.0f), static_cast<float>(end.max_code)));
}

/// 64-byte aligned memory of exactly so many bytes. The address sanitizer does not see the code that oneDNN
/// makes at run time: that gets memory whose next page is inaccessible, aligned as far as the size allows.
class Buffer {
 public:
  Buffer(size_t bytes, bool guarded) {
    if (guarded) {
      guarded_ = std::make_unique<test::GuardedBuffer>(bytes);
      data_ = guarded_->as<uint8_t>();
    } else {
      owned_.reset(static_cast<uint8_t*>(operator new (bytes, std::align_val_t{64})));
      data_ = owned_.get();
      std::memset(data_, 0xA5, bytes);
    }
  }
  template <typename T>
  T* as() {
    return reinterpret_cast<T*>(data_);
  }

 private:
  struct Free {
    void operator()(uint8_t* data) const { operator delete (data, std::align_val_t{64}); }
  };
  std::unique_ptr<test::GuardedBuffer> guarded_;
  std::unique_ptr<uint8_t, Free> owned_;
  uint8_t* data_;
};

/// Gathers what a kernel streams.
struct Collector {
  const ConvProblem& problem;
  int32_t* acc;
  std::vector<std::atomic<int>> times;

  Collector(const ConvProblem& p, int n, int32_t* out)
      : problem(p), acc(out), times(size_t(n) * p.oh * p.ow) {}
  PixelSink sink() { return {this, take}; }

  static void take(const void* self, int image, int64_t first, int count, const int32_t* pixels,
                   int) noexcept {
    auto& c = *static_cast<Collector*>(const_cast<void*>(self));
    const auto at = static_cast<size_t>(int64_t{image} * c.problem.oh * c.problem.ow + first);
    for (size_t i = at; i < at + static_cast<size_t>(count); ++i) ++c.times.at(i);
    const auto channels = static_cast<size_t>(c.problem.oc);
    std::copy_n(pixels, static_cast<size_t>(count) * channels, c.acc + at * channels);
  }
};

/// One entry at work on one layer.
class Comparison {
 public:
  Comparison(const KernelEntry& entry, const Layer& layer, const std::vector<int32_t>& expected, Isa cap)
      : entry_(entry),
        layer_(layer),
        expected_(expected),
        cap_(cap),
        guarded_(entry.name.find("onednn") != std::string::npos),
        src_(layer.src.size(), guarded_) {
    std::copy(layer.src.begin(), layer.src.end(), src_.as<uint8_t>());
  }

  void run() {
    const auto kernel = make();
    Buffer scratch = scratch_of(*kernel), acc(expected_.size() * sizeof(int32_t), guarded_);
    kernel->run(src_.as<uint8_t>(), layer_.n, acc.as<int32_t>(), scratch.as<void>(), layer_.threads);
    compare("run", acc.as<int32_t>(), [](int32_t sum, size_t) { return sum; });
    if (!kernel->streams()) return;
    std::fill_n(acc.as<uint8_t>(), expected_.size() * sizeof(int32_t), 0xA5);
    Collector collector(layer_.problem, layer_.n, acc.as<int32_t>());
    kernel->stream(src_.as<uint8_t>(), layer_.n, collector.sink(), scratch.as<void>(), layer_.threads);
    for (const auto& times : collector.times) {
      if (times != 1) violated("stream", "a pixel came " + std::to_string(times) + " times");
    }
    compare("stream", acc.as<int32_t>(), [](int32_t sum, size_t) { return sum; });
  }

  /// False when the kernel writes no codes.
  bool run_codes(const End& end) {
    const auto kernel = make();
    if (!kernel->fuse(end.view())) return false;
    Buffer scratch = scratch_of(*kernel), codes(expected_.size(), guarded_);
    kernel->run_codes(src_.as<uint8_t>(), layer_.n, codes.as<uint8_t>(), scratch.as<void>(), layer_.threads);
    const auto channels = static_cast<size_t>(layer_.problem.oc);
    compare("run_codes", codes.as<uint8_t>(),
            [&](int32_t sum, size_t i) { return requantized(sum, end, i % channels); });
    return true;
  }

 private:
  std::unique_ptr<ConvKernel> make() const { return entry_.make(layer_.problem, layer_.weights, cap_); }

  // Rounded up, as guarded memory ends at a page.
  Buffer scratch_of(const ConvKernel& kernel) const {
    const size_t bytes = kernel.scratch_bytes(layer_.n);
    return Buffer(guarded_ ? (bytes + 63) / 64 * 64 : bytes, guarded_);
  }

  template <typename T, typename Expected>
  void compare(const char* what, const T* actual, Expected expected) const {
    for (size_t i = 0; i < expected_.size(); ++i) {
      const int want = expected(expected_[i], i);
      if (actual[i] == want) continue;
      violated(what, "element " + std::to_string(i) + ": " + std::to_string(actual[i]) + ", expected " +
                         std::to_string(want));
    }
  }

  [[noreturn]] void violated(const char* what, const std::string& finding) const {
    const ConvProblem& p = layer_.problem;
    std::fprintf(stderr, "violated: %s of %s (%s): %s\n%s max_batch %d max_threads %d n %d threads %d\n",
                 what, entry_.name.c_str(), make()->implementation().c_str(), finding.c_str(),
                 test::describe(p).c_str(), p.max_batch, p.max_threads, layer_.n, layer_.threads);
    std::abort();
  }

  const KernelEntry& entry_;
  const Layer& layer_;
  const std::vector<int32_t>& expected_;
  Isa cap_;
  bool guarded_;
  Buffer src_;
};

struct Counts {
  int64_t inputs = 0, layers = 0, runs = 0, fused = 0;
} counts;

/// The generator is of use only while most of its layers reach kernels.
void report() {
  std::fprintf(stderr,
               "kernels_fuzz: %lld inputs, %lld layers, %lld runs of kernels, %lld of which wrote codes\n",
               static_cast<long long>(counts.inputs), static_cast<long long>(counts.layers),
               static_cast<long long>(counts.runs), static_cast<long long>(counts.fused));
  if (counts.inputs >= 1000 && (counts.layers < counts.inputs / 2 || counts.runs < 2 * counts.layers)) {
    std::fprintf(stderr, "violated: most inputs are layers that kernels accept\n");
    std::_Exit(1);
  }
  if (counts.inputs >= 1000 && counts.fused < counts.layers / 4) {
    std::fprintf(stderr, "violated: every other layer is given to the kernels with its end\n");
    std::_Exit(1);
  }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  std::atexit(report);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Isa cap = resolve_isa("");
  Choices choose(data, size);
  ++counts.inputs;
  Layer layer = choose_layer(choose);
  const ConvProblem& p = layer.problem;
  try {
    validate(p);
  } catch (const Error&) {
    return 0;
  }
  layer.weights = choose_codes(choose, test::weight_count(p), p.w_bits);
  layer.src = choose_codes(choose, test::src_count(p, layer.n), p.a_bits);
  const bool ends = choose.once_in(2);
  const End end = choose_end(choose, p.oc);
  const KernelEntry& reference = conv_kernels().back();
  std::vector<int32_t> expected(test::acc_count(p, layer.n));
  reference.make(p, layer.weights, Isa::kScalar)->run(layer.src.data(), layer.n, expected.data(), nullptr, 1);
  ++counts.layers;
  const auto& isas = available_isas();
  for (const KernelEntry& entry : conv_kernels()) {
    const bool available = std::find(isas.begin(), isas.end(), entry.isa) != isas.end() && entry.isa <= cap;
    if (&entry == &reference || !available || !entry.refuses(p, cap).empty()) continue;
    Comparison comparison(entry, layer, expected, cap);
    comparison.run();
    if (ends) counts.fused += comparison.run_codes(end);
    ++counts.runs;
  }
  return 0;
}
