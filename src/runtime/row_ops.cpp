// One source for every vector instruction set: Highway includes this file once per target.
#include "runtime/row_ops.h"

#include <algorithm>

#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/row_ops.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/requantize-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bitstrata::runtime {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using kernels::HWY_NAMESPACE::clip_vector;
using kernels::HWY_NAMESPACE::codes_of;

/// Calls body(tag, index) on whole vectors and then on single elements.
template <typename Body>
HWY_INLINE void for_each(size_t count, const Body& body) {
  const hn::ScalableTag<float> d;
  size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) body(d, i);
  const hn::CappedTag<float, 1> one;
  for (; i < count; ++i) body(one, i);
}

template <typename D>
HWY_INLINE hn::Vec<D> load_codes(D d, const uint8_t* v, int zero, float scale) {
  const hn::Rebind<uint8_t, D> d8;
  const hn::Rebind<int32_t, D> d32;
  const auto integers = hn::Add(hn::PromoteTo(d32, hn::LoadU(d8, v)), hn::Set(d32, zero));
  return hn::Mul(hn::ConvertTo(d, integers), hn::Set(d, scale));
}

struct AddOp {
  template <typename V>
  static HWY_INLINE V apply(V y, V t) {
    return hn::Add(y, t);
  }
};
struct SubtractOp {
  template <typename V>
  static HWY_INLINE V apply(V y, V t) {
    return hn::Sub(y, t);
  }
};
struct ReverseSubtractOp {
  template <typename V>
  static HWY_INLINE V apply(V y, V t) {
    return hn::Sub(t, y);
  }
};
struct MultiplyOp {
  template <typename V>
  static HWY_INLINE V apply(V y, V t) {
    return hn::Mul(y, t);
  }
};
struct DivideOp {
  template <typename V>
  static HWY_INLINE V apply(V y, V t) {
    return hn::Div(y, t);
  }
};

template <typename Op>
void vector_op(float* y, const float* t, size_t count) {
  for_each(count, [=](auto d, size_t i) HWY_ATTR {
    hn::StoreU(Op::apply(hn::LoadU(d, y + i), hn::LoadU(d, t + i)), d, y + i);
  });
}

template <typename Op>
void scalar_op(float* y, float t, size_t count) {
  for_each(count, [=](auto d, size_t i)
                      HWY_ATTR { hn::StoreU(Op::apply(hn::LoadU(d, y + i), hn::Set(d, t)), d, y + i); });
}

template <typename Op>
void codes_op(float* y, const uint8_t* v, int zero, float scale, size_t count) {
  for_each(count, [=](auto d, size_t i) HWY_ATTR {
    hn::StoreU(Op::apply(hn::LoadU(d, y + i), load_codes(d, v + i, zero, scale)), d, y + i);
  });
}

void convert(const int32_t* acc, float* y, size_t count) {
  for_each(count, [=](auto d, size_t i) HWY_ATTR {
    const hn::Rebind<int32_t, decltype(d)> d32;
    hn::StoreU(hn::ConvertTo(d, hn::LoadU(d32, acc + i)), d, y + i);
  });
}

template <typename D>
HWY_INLINE hn::Vec<D> scaled(D d, const int32_t* acc, const float* mul, const float* add) {
  const hn::Rebind<int32_t, D> d32;
  return hn::Add(hn::Mul(hn::ConvertTo(d, hn::LoadU(d32, acc)), hn::LoadU(d, mul)), hn::LoadU(d, add));
}

void scale(const int32_t* acc, const float* mul, const float* add, float* y, size_t count) {
  for_each(count,
           [=](auto d, size_t i) HWY_ATTR { hn::StoreU(scaled(d, acc + i, mul + i, add + i), d, y + i); });
}

void load(const uint8_t* v, int zero, float factor, float* y, size_t count) {
  for_each(count,
           [=](auto d, size_t i) HWY_ATTR { hn::StoreU(load_codes(d, v + i, zero, factor), d, y + i); });
}

void clip(float* y, float a, float b, size_t count) {
  for_each(count, [=](auto d, size_t i) HWY_ATTR {
    hn::StoreU(clip_vector(hn::LoadU(d, y + i), hn::Set(d, a), hn::Set(d, b)), d, y + i);
  });
}

template <typename V>
HWY_INLINE V leaky(V y, V slope, V zero) {
  return hn::IfThenElse(hn::Ge(y, zero), y, hn::Mul(y, slope));
}

void leaky_relu(float* y, float slope, size_t count) {
  for_each(count, [=](auto d, size_t i) HWY_ATTR {
    hn::StoreU(leaky(hn::LoadU(d, y + i), hn::Set(d, slope), hn::Zero(d)), d, y + i);
  });
}

void prelu(float* y, const float* slope, size_t count) {
  for_each(count, [=](auto d, size_t i) HWY_ATTR {
    hn::StoreU(leaky(hn::LoadU(d, y + i), hn::LoadU(d, slope + i), hn::Zero(d)), d, y + i);
  });
}

void hard_sigmoid(float* y, float a, float b, size_t count) {
  for_each(count, [=](auto d, size_t i) HWY_ATTR {
    const auto sum = hn::Add(hn::Mul(hn::LoadU(d, y + i), hn::Set(d, a)), hn::Set(d, b));
    hn::StoreU(clip_vector(sum, hn::Zero(d), hn::Set(d, 1.0f)), d, y + i);
  });
}

void hard_swish(float* y, size_t count) {
  for_each(count, [=](auto d, size_t i) HWY_ATTR {
    const auto x = hn::LoadU(d, y + i);
    const auto h = hn::Add(hn::Mul(x, hn::Set(d, 0.16666667f)), hn::Set(d, 0.5f));
    hn::StoreU(hn::Mul(x, clip_vector(h, hn::Zero(d), hn::Set(d, 1.0f))), d, y + i);
  });
}

template <typename D>
HWY_INLINE void store_codes(D d, hn::Vec<D> y, float inverse, int zero, int max_code, uint8_t* v) {
  const hn::Rebind<uint8_t, D> d8;
  hn::StoreU(hn::DemoteTo(d8, codes_of(d, y, inverse, zero, max_code)), d8, v);
}

void store(const float* y, float inverse, int zero, int max_code, uint8_t* v, size_t count) {
  for_each(count, [=](auto d, size_t i)
                      HWY_ATTR { store_codes(d, hn::LoadU(d, y + i), inverse, zero, max_code, v + i); });
}

template <bool kSum, int kStores>
void requantize_row(const int32_t* acc, const float* mul, const float* add, const Codes& residual,
                    const CodeStore* stores, size_t count) {
  const Codes from = residual;
  CodeStore to[kStores];
  std::copy_n(stores, kStores, to);
  const auto value = [=](auto d, size_t i) HWY_ATTR {
    const auto y = scaled(d, acc + i, mul + i, add + i);
    if constexpr (kSum) return hn::Add(y, load_codes(d, from.v + i, from.zero, from.scale));
    return y;
  };
  size_t done = 0;
#if HWY_TARGET == HWY_AVX2
  // Four vectors of codes become bytes in four operations; one alone takes as many.
  const hn::ScalableTag<float> d;
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  for (; done + 32 <= count; done += 32) {
    const auto y0 = value(d, done), y1 = value(d, done + 8), y2 = value(d, done + 16),
               y3 = value(d, done + 24);
    for (const CodeStore& store : to) {
      const auto codes = [&store, d](auto y) HWY_ATTR {
        return codes_of(d, y, store.inverse, store.zero, store.max_code).raw;
      };
      const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(codes(y0), codes(y1)),
                                                _mm256_packs_epi32(codes(y2), codes(y3)));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(store.v + done),
                          _mm256_permutevar8x32_epi32(bytes, order));
    }
  }
#endif
  for_each(count - done, [=](auto d, size_t i) HWY_ATTR {
    const auto y = value(d, done + i);
    for (const CodeStore& store : to)
      store_codes(d, y, store.inverse, store.zero, store.max_code, store.v + done + i);
  });
}

void requantize(const int32_t* acc, const float* mul, const float* add, const Codes& residual,
                const CodeStore* stores, int store_count, size_t count) {
  if (residual.v == nullptr) {
    (store_count == 1 ? requantize_row<false, 1> : requantize_row<false, 2>)(acc, mul, add, residual, stores,
                                                                             count);
  } else {
    (store_count == 1 ? requantize_row<true, 1> : requantize_row<true, 2>)(acc, mul, add, residual, stores,
                                                                           count);
  }
}

void max_codes(const uint8_t* const* v, int n, uint8_t* y, size_t count) {
  const hn::ScalableTag<uint8_t> d;
  size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    auto largest = hn::LoadU(d, v[0] + i);
    for (int k = 1; k < n; ++k) largest = hn::Max(largest, hn::LoadU(d, v[k] + i));
    hn::StoreU(largest, d, y + i);
  }
  for (; i < count; ++i) {
    uint8_t largest = v[0][i];
    for (int k = 1; k < n; ++k) largest = std::max(largest, v[k][i]);
    y[i] = largest;
  }
}

const RowOps& table() {
  static const RowOps ops = {convert,
                             scale,
                             load,
                             {vector_op<AddOp>, vector_op<SubtractOp>, vector_op<ReverseSubtractOp>,
                              vector_op<MultiplyOp>, vector_op<DivideOp>},
                             {scalar_op<AddOp>, scalar_op<SubtractOp>, scalar_op<ReverseSubtractOp>,
                              scalar_op<MultiplyOp>, scalar_op<DivideOp>},
                             {codes_op<AddOp>, codes_op<SubtractOp>, codes_op<ReverseSubtractOp>,
                              codes_op<MultiplyOp>, codes_op<DivideOp>},
                             clip,
                             leaky_relu,
                             prelu,
                             hard_sigmoid,
                             hard_swish,
                             store,
                             requantize,
                             max_codes,
                             hwy::TargetName(HWY_TARGET)};
  return ops;
}

}  // namespace HWY_NAMESPACE
}  // namespace bitstrata::runtime
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitstrata::runtime {

const RowOps& row_ops(Isa cap) {
  struct Candidate {
    Isa isa;
    int64_t needs;
    const RowOps& (*get)();
  };
  static const Candidate candidates[] = {
      {Isa::kAvx512, HWY_AVX3, HWY_CHOOSE_AVX3(table)},
      {Isa::kAvx2, HWY_AVX2, HWY_CHOOSE_AVX2(table)},
      {Isa::kNeon, HWY_NEON, HWY_CHOOSE_NEON(table)},
  };
  for (const Candidate& candidate : candidates) {
    if (cap < candidate.isa || candidate.get == nullptr) continue;
    if ((hwy::SupportedTargets() & candidate.needs) != 0) return candidate.get();
  }
  return HWY_STATIC_DISPATCH(table)();
}

}  // namespace bitstrata::runtime
#endif
