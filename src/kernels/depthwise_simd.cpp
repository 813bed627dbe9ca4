// One source for every vector instruction set: Highway includes this file once per target.
#include <string>

#include "kernels/depthwise.h"

#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/depthwise_simd.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/highway_target.h"

HWY_BEFORE_NAMESPACE();
namespace bitstrata::kernels {
namespace HWY_NAMESPACE {
namespace depthwise {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

DepthwiseTarget target() {
  return {};
}

#else

namespace hn = hwy::HWY_NAMESPACE;

void pixel(const DepthwisePixel& a) {
  const hn::ScalableTag<int32_t> d;
  const hn::Rebind<uint8_t, decltype(d)> d8;
  const int lanes = static_cast<int>(hn::Lanes(d));
  const auto zero = hn::Set(d, a.zero);
  int c = 0;
  for (; c + lanes <= a.channels; c += lanes) {
    auto acc = hn::Zero(d);
    for (int ky = 0; ky < a.rows; ++ky) {
      const int32_t* weights = a.weights + ky * a.weight_row_elems + c;
      const uint8_t* codes = a.codes + ky * a.code_row_elems + c;
      for (int kx = 0; kx < a.columns; ++kx, weights += a.channels, codes += a.code_column_elems) {
        const auto value = hn::Add(hn::PromoteTo(d, hn::LoadU(d8, codes)), zero);
        acc = hn::Add(acc, hn::Mul(hn::LoadU(d, weights), value));
      }
    }
    hn::StoreU(acc, d, a.out + c);
  }
  depthwise_channels(a, c);
}

DepthwiseTarget target() {
  static const std::string name = std::string("highway ") + hwy::TargetName(HWY_TARGET);
  return {name.c_str(), pixel};
}

#endif

}  // namespace depthwise
}  // namespace HWY_NAMESPACE
}  // namespace bitstrata::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitstrata::kernels {

DepthwiseTarget depthwise_target(Isa isa) {
  return KERNEL_TARGET(DepthwiseTarget, isa, depthwise::target);
}

}  // namespace bitstrata::kernels
#endif
