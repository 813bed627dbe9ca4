#include "kernels/families.h"

namespace bitstrata::kernels {
namespace {

/// The definition of the integer convolution; every other kernel is compared with it.
class ReferenceConv final : public ConvKernel {
 public:
  ReferenceConv(const ConvProblem& problem, std::span<const uint8_t> codes)
      : p_(problem), codes_(codes.begin(), codes.end()) {}

  size_t scratch_bytes(int) const noexcept override { return 0; }
  size_t weight_bytes() const noexcept override { return codes_.size(); }
  std::string implementation() const override { return "scalar"; }

  void run(const uint8_t* src, int n, int32_t* acc, void*, int) const noexcept override {
    for (int b = 0; b < n; ++b, src += size_t{1} * p_.ih * p_.iw * p_.ic) {
      for (int y = 0; y < p_.oh; ++y) {
        for (int x = 0; x < p_.ow; ++x) {
          for (int o = 0; o < p_.oc; ++o) *acc++ = output(src, y, x, o);
        }
      }
    }
  }

 private:
  int32_t output(const uint8_t* image, int y, int x, int o) const noexcept {
    const program::Window& w = p_.window;
    const int group_ic = p_.ic / p_.groups, first = o / (p_.oc / p_.groups) * group_ic;
    const uint8_t* codes = codes_.data() + size_t{1} * o * p_.reduction();
    int32_t sum = 0;
    for (int c = 0; c < group_ic; ++c) {
      for (int ky = 0; ky < w.kernel_h; ++ky) {
        for (int kx = 0; kx < w.kernel_w; ++kx, ++codes) {
          const int iy = y * w.stride_h - w.pad_top + ky * w.dilation_h;
          const int ix = x * w.stride_w - w.pad_left + kx * w.dilation_w;
          if (iy < 0 || iy >= p_.ih || ix < 0 || ix >= p_.iw) continue;
          sum += p_.grid.at(*codes) * (image[(size_t{1} * iy * p_.iw + ix) * p_.ic + first + c] + p_.a_zero);
        }
      }
    }
    return sum;
  }

  ConvProblem p_;
  std::vector<uint8_t> codes_;
};

}  // namespace

KernelEntry reference_entry() {
  return {"conv_reference__scalar", Family::kReference, Isa::kScalar,
          [](const ConvProblem&, Isa) { return std::string(); },
          [](const ConvProblem& problem, std::span<const uint8_t> codes, Isa) -> std::unique_ptr<ConvKernel> {
            return std::make_unique<ReferenceConv>(problem, codes);
          }};
}

}  // namespace bitstrata::kernels
