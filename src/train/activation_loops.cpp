#include "train/activation_loops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "train/activation_loops.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace bitstrata::train::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void Forward(const ActivationPass& pass, const float* x, float* y, int64_t n) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto scale = hn::Set(d, pass.scale), inverse = hn::Set(d, pass.inverse);
  const auto low = hn::Set(d, pass.low), high = hn::Set(d, pass.high);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto q = hn::Clamp(hn::Round(hn::Mul(hn::LoadU(d, x + i), inverse)), low, high);
    hn::StoreU(hn::Mul(q, scale), d, y + i);
  }
  const hn::CappedTag<float, 1> one;
  for (; i < n; ++i) {
    const auto q = hn::Clamp(hn::Round(hn::Mul(hn::Load(one, x + i), hn::Set(one, pass.inverse))), hn::Set(one, pass.low), hn::Set(one, pass.high));
    hn::Store(hn::Mul(q, hn::Set(one, pass.scale)), one, y + i);
  }
}

template <class D>
hn::Vec<D> BackwardStep(D d, const ActivationPass& pass, const float* x, const float* g, float* gx) {
  const auto low = hn::Set(d, pass.low), high = hn::Set(d, pass.high);
  const auto r = hn::Mul(hn::LoadU(d, x), hn::Set(d, pass.inverse));
  const auto gradient = hn::LoadU(d, g);
  const auto inside = hn::And(hn::Gt(r, low), hn::Lt(r, high));
  hn::StoreU(hn::IfThenElseZero(inside, gradient), d, gx);
  const auto within = pass.interior ? hn::Sub(hn::Round(r), r) : hn::Zero(d);
  return hn::Mul(gradient, hn::IfThenElse(inside, within, hn::Clamp(r, low, high)));
}

double Backward(const ActivationPass& pass, const float* x, const float* g, float* gx, int64_t n) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  double total = 0;
  int64_t i = 0;
  while (i + lanes <= n) {
    // float32 partial sums stay short so that their rounding does not grow with the tensor.
    auto sum = hn::Zero(d);
    const int64_t stop = i + 256 * lanes < n ? i + 256 * lanes : n;
    for (; i + lanes <= stop; i += lanes) sum = hn::Add(sum, BackwardStep(d, pass, x + i, g + i, gx + i));
    total += hn::GetLane(hn::SumOfLanes(d, sum));
  }
  const hn::CappedTag<float, 1> one;
  for (; i < n; ++i) total += hn::GetLane(BackwardStep(one, pass, x + i, g + i, gx + i));
  return total;
}

}  // namespace bitstrata::train::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitstrata::train {
HWY_EXPORT(Forward);
HWY_EXPORT(Backward);

void activation_forward(const ActivationPass& pass, const float* x, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(Forward)(pass, x, y, n);
}

double activation_backward(const ActivationPass& pass, const float* x, const float* g, float* gx, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(Backward)(pass, x, g, gx, n);
}

}  // namespace bitstrata::train
#endif
