#include "train/mixture_loops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "train/mixture_loops.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

// Products and sums are never fused, so that every target gives the same bits.
HWY_BEFORE_NAMESPACE();
namespace bitstrata::train::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int64_t kBlockElems =
    2048;  // x and g of a block stay in the L1 cache; also keeps float32 sums short

/// Calls step(tag, i) for whole vectors of [begin, end) and then for single elements.
template <class Step>
HWY_INLINE void ForVectors(int64_t begin, int64_t end, const Step& step) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = begin;
  for (; i + lanes <= end; i += lanes) step(d, i);
  const hn::CappedTag<float, 1> one;
  for (; i < end; ++i) step(one, i);
}

/// Adds to `a` and `b` the sums over [begin, end) of what terms(tag, i, a, b) adds to its vectors a and b.
template <class Terms>
HWY_INLINE void SumVectors(int64_t begin, int64_t end, double& a, double& b, const Terms& terms) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto sum_a = hn::Zero(d), sum_b = hn::Zero(d);
  int64_t i = begin;
  for (; i + lanes <= end; i += lanes) terms(d, i, sum_a, sum_b);
  a += hn::GetLane(hn::SumOfLanes(d, sum_a));
  b += hn::GetLane(hn::SumOfLanes(d, sum_b));
  const hn::CappedTag<float, 1> one;
  for (; i < end; ++i) {
    auto last_a = hn::Zero(one), last_b = hn::Zero(one);
    terms(one, i, last_a, last_b);
    a += hn::GetLane(last_a);
    b += hn::GetLane(last_b);
  }
}

template <bool kShared, class D, class V = hn::Vec<D>>
HWY_INLINE V Code(D d, const ActivationMixPass::Candidate& candidate, V x) {
  const auto code = hn::Round(hn::Mul(x, hn::Set(d, candidate.inverse)));
  if constexpr (kShared) return code;
  return hn::Clamp(code, hn::Set(d, candidate.low), hn::Set(d, candidate.high));
}

template <bool kShared, class D>
HWY_INLINE hn::Vec<D> LoadClipped(D d, const ActivationMixPass& pass, const float* x) {
  const auto v = hn::LoadU(d, x);
  if constexpr (!kShared) return v;
  return hn::Clamp(v, hn::Set(d, pass.low), hn::Set(d, pass.high));
}

/// The shares whose range holds x.
template <bool kShared, class D, class V = hn::Vec<D>>
HWY_INLINE V PassingShare(D d, const ActivationMixPass& pass, V x) {
  if constexpr (kShared) {
    return hn::IfThenElseZero(hn::And(hn::Gt(x, hn::Set(d, pass.low)), hn::Lt(x, hn::Set(d, pass.high))),
                              hn::Set(d, pass.total_share));
  }
  auto share = hn::Zero(d);
  for (int j = 0; j < pass.count; ++j) {
    const auto& candidate = pass.candidates[j];
    const auto r = hn::Mul(x, hn::Set(d, candidate.inverse));
    const auto inside = hn::And(hn::Gt(r, hn::Set(d, candidate.low)), hn::Lt(r, hn::Set(d, candidate.high)));
    share = hn::Add(share, hn::IfThenElseZero(inside, hn::Set(d, candidate.share)));
  }
  return share;
}

template <bool kShared>
void Forward(const ActivationMixPass& pass, const float* x, float* y, int64_t n) {
  ForVectors(0, n, [&](auto d, int64_t i) HWY_ATTR {
    const auto v = LoadClipped<kShared>(d, pass, x + i);
    auto sum = hn::Zero(d);
    for (int j = 0; j < pass.count; ++j)
      sum = hn::Add(sum,
                    hn::Mul(Code<kShared>(d, pass.candidates[j], v), hn::Set(d, pass.candidates[j].weight)));
    hn::StoreU(sum, d, y + i);
  });
}

template <bool kShared>
void Backward(const ActivationMixPass& pass, const float* x, const float* g, float* gx, int64_t n,
              double* sums) {
  for (int64_t begin = 0; begin < n; begin += kBlockElems) {
    const int64_t end = begin + kBlockElems < n ? begin + kBlockElems : n;
    const auto term = [&](auto d, int64_t i, const auto& candidate) HWY_ATTR {
      return hn::Mul(hn::LoadU(d, g + i), Code<kShared>(d, candidate, LoadClipped<kShared>(d, pass, x + i)));
    };
    double none = 0;
    for (int j = 0; j < pass.count - 1; ++j) {
      const auto candidate = pass.candidates[j];
      SumVectors(begin, end, sums[j], none, [&](auto d, int64_t i, auto& by_code, auto&) HWY_ATTR {
        by_code = hn::Add(by_code, term(d, i, candidate));
      });
    }
    // The last sweep also makes gx, which may overwrite g.
    const auto candidate = pass.candidates[pass.count - 1];
    SumVectors(begin, end, sums[pass.count - 1], sums[pass.count],
               [&](auto d, int64_t i, auto& by_code, auto& by_x) HWY_ATTR {
                 by_code = hn::Add(by_code, term(d, i, candidate));
                 const auto v = hn::LoadU(d, x + i);
                 const auto through = hn::Mul(hn::LoadU(d, g + i), PassingShare<kShared>(d, pass, v));
                 hn::StoreU(through, d, gx + i);
                 by_x = hn::Add(by_x, hn::Mul(through, v));
               });
  }
}

void ActivationForward(const ActivationMixPass& pass, const float* x, float* y, int64_t n) {
  pass.shared_range ? Forward<true>(pass, x, y, n) : Forward<false>(pass, x, y, n);
}

void ActivationBackward(const ActivationMixPass& pass, const float* x, const float* g, float* gx, int64_t n,
                        double* sums) {
  pass.shared_range ? Backward<true>(pass, x, g, gx, n, sums) : Backward<false>(pass, x, g, gx, n, sums);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V WeightCode(D d, const WeightMixPass& pass, V w) {
  if (pass.sign) return hn::IfThenElseZero(hn::Ge(w, hn::Zero(d)), hn::Set(d, 1.0f));
  const auto z = hn::Clamp(hn::Div(w, hn::Set(d, pass.divisor)), hn::Set(d, pass.low), hn::Set(d, pass.high));
  return hn::Round(
      hn::Mul(hn::Add(hn::Mul(z, hn::Set(d, pass.gain)), hn::Set(d, pass.shift)), hn::Set(d, pass.top)));
}

void WeightForward(const WeightMixPass& pass, float share, const float* w, float* out, int64_t n) {
  ForVectors(0, n, [&](auto d, int64_t i) HWY_ATTR {
    const auto code = WeightCode(d, pass, hn::LoadU(d, w + i));
    const auto unit = hn::Div(code, hn::Set(d, pass.top));
    const auto value =
        hn::Mul(hn::Add(hn::Mul(unit, hn::Set(d, pass.mul)), hn::Set(d, pass.add)), hn::Set(d, pass.scale));
    hn::StoreU(hn::Add(hn::LoadU(d, out + i), hn::Mul(value, hn::Set(d, share))), d, out + i);
  });
}

WeightMixSums WeightBackward(const WeightMixPass& pass, float slope, const float* w, const float* g,
                             float* gw, int64_t n) {
  WeightMixSums sums;
  for (int64_t begin = 0; begin < n; begin += kBlockElems) {
    const int64_t end = begin + kBlockElems < n ? begin + kBlockElems : n;
    SumVectors(begin, end, sums.code, sums.inside, [&](auto d, int64_t i, auto& code, auto& inside) HWY_ATTR {
      const auto v = hn::LoadU(d, w + i), r = hn::Div(v, hn::Set(d, pass.divisor));
      auto through = hn::LoadU(d, g + i);
      code = hn::Add(code, hn::Mul(through, WeightCode(d, pass, v)));
      if (pass.masked)
        through = hn::IfThenElseZero(
            hn::And(hn::Ge(r, hn::Set(d, pass.low)), hn::Le(r, hn::Set(d, pass.high))), through);
      hn::StoreU(hn::Add(hn::LoadU(d, gw + i), hn::Mul(through, hn::Set(d, slope))), d, gw + i);
      inside = hn::Add(inside, hn::Mul(through, r));
    });
  }
  return sums;
}

}  // namespace bitstrata::train::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitstrata::train {
HWY_EXPORT(ActivationForward);
HWY_EXPORT(ActivationBackward);
HWY_EXPORT(WeightForward);
HWY_EXPORT(WeightBackward);

void activation_mix_forward(const ActivationMixPass& pass, const float* x, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(ActivationForward)(pass, x, y, n);
}

void activation_mix_backward(const ActivationMixPass& pass, const float* x, const float* g, float* gx,
                             int64_t n, double* sums) {
  HWY_DYNAMIC_DISPATCH(ActivationBackward)(pass, x, g, gx, n, sums);
}

void weight_mix_forward(const WeightMixPass& pass, float share, const float* w, float* out, int64_t n) {
  HWY_DYNAMIC_DISPATCH(WeightForward)(pass, share, w, out, n);
}

WeightMixSums weight_mix_backward(const WeightMixPass& pass, float slope, const float* w, const float* g,
                                  float* gw, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(WeightBackward)(pass, slope, w, g, gw, n);
}

}  // namespace bitstrata::train
#endif
