#include "kernels/depthwise.h"

#include <algorithm>

#include "core/error.h"
#include "kernels/families.h"
#include "kernels/parallel.h"

namespace bitstrata::kernels {
namespace {

/// One filter per channel: multiplies directly, a vector of channels at a time; reads codes in place and
/// needs no scratch.
class DepthwiseConv final : public ConvKernel {
 public:
  DepthwiseConv(const ConvProblem& problem, std::span<const uint8_t> codes, const DepthwiseTarget& target)
      : p_(problem), target_(target), weights_(codes.size()) {
    if (p_.max_threads == 0) p_.max_threads = max_threads();
    const size_t taps = p_.reduction();
    for (size_t i = 0; i < codes.size(); ++i) weights_[i % taps * p_.ic + i / taps] = p_.grid.at(codes[i]);
  }

  size_t scratch_bytes(int) const noexcept override { return 0; }
  size_t weight_bytes() const noexcept override { return weights_.size() * sizeof(int32_t); }
  std::string implementation() const override { return target_.name; }

  void run(const uint8_t* src, int n, int32_t* acc, void*, int threads) const noexcept override {
    [[maybe_unused]] const int team = std::clamp(threads, 1, p_.max_threads);
    const int64_t rows = int64_t{n} * p_.oh;
#pragma omp parallel for num_threads(team) if (team > 1)
    for (int64_t i = 0; i < rows; ++i) {
      const uint8_t* image = src + i / p_.oh * p_.ih * p_.iw * p_.ic;
      for (int x = 0; x < p_.ow; ++x)
        pixel(image, static_cast<int>(i % p_.oh), x, acc + (i * p_.ow + x) * p_.ic);
    }
  }

 private:
  struct Taps {
    int first, count;
  };
  // Taps whose position start + tap * dilation lies in [0, size).
  static Taps inside(int start, int dilation, int kernel, int size) noexcept {
    const int first = start >= 0 ? 0 : (-start + dilation - 1) / dilation;
    const int last = start >= size ? 0 : std::min(kernel, (size - 1 - start) / dilation + 1);
    return {first, std::max(0, last - first)};
  }

  void pixel(const uint8_t* image, int y, int x, int32_t* out) const noexcept {
    const program::Window& w = p_.window;
    const int top = y * w.stride_h - w.pad_top, left = x * w.stride_w - w.pad_left;
    const Taps rows = inside(top, w.dilation_h, w.kernel_h, p_.ih),
               columns = inside(left, w.dilation_w, w.kernel_w, p_.iw);
    if (rows.count == 0 || columns.count == 0) {
      std::fill_n(out, p_.ic, 0);
      return;
    }
    const int64_t iy = top + rows.first * w.dilation_h, ix = left + columns.first * w.dilation_w;
    const size_t channels = p_.ic;
    target_.pixel({weights_.data() + (size_t{1} * rows.first * w.kernel_w + columns.first) * channels,
                   image + (iy * p_.iw + ix) * channels, rows.count, columns.count, w.kernel_w * channels,
                   size_t{1} * w.dilation_h * p_.iw * channels, w.dilation_w * channels, p_.ic, p_.a_zero,
                   out});
  }

  ConvProblem p_;
  DepthwiseTarget target_;
  std::vector<int32_t> weights_;  ///< [taps][channels], grid integers
};

template <Isa kIsa>
DepthwiseTarget target() {
  if (kIsa != Isa::kScalar) return depthwise_target(kIsa);
  return {"scalar", [](const DepthwisePixel& pixel) { depthwise_channels(pixel, 0); }};
}

template <Isa kIsa>
KernelEntry entry(const char* name) {
  return {name, Family::kDirect, kIsa,
          [](const ConvProblem& problem, Isa) -> std::string {
            if (problem.groups != problem.ic || problem.groups != problem.oc)
              return "does depthwise convolutions only";
            if (target<kIsa>().pixel == nullptr)
              return fmt::format("this CPU or build lacks the code for {}", to_string(kIsa));
            return {};
          },
          [](const ConvProblem& problem, std::span<const uint8_t> codes, Isa) -> std::unique_ptr<ConvKernel> {
            return std::make_unique<DepthwiseConv>(problem, codes, target<kIsa>());
          }};
}

}  // namespace

void depthwise_channels(const DepthwisePixel& a, int first) {
  for (int c = first; c < a.channels; ++c) {
    int32_t sum = 0;
    for (int ky = 0; ky < a.rows; ++ky) {
      for (int kx = 0; kx < a.columns; ++kx) {
        sum += a.weights[ky * a.weight_row_elems + size_t{1} * kx * a.channels + c] *
               (a.codes[ky * a.code_row_elems + kx * a.code_column_elems + c] + a.zero);
      }
    }
    a.out[c] = sum;
  }
}

std::vector<KernelEntry> depthwise_entries() {
  return {entry<Isa::kAvx512>("conv_depthwise__avx512"), entry<Isa::kAvx2>("conv_depthwise__avx2"),
          entry<Isa::kNeon>("conv_depthwise__neon"), entry<Isa::kScalar>("conv_depthwise__scalar")};
}

}  // namespace bitstrata::kernels
