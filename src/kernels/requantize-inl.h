// Values to codes, once per instruction set: included, behind <hwy/highway.h>, by sources that Highway
// includes once per target, which is what this guard instead of a plain one is for.
#if defined(BITSTRATA_REQUANTIZE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BITSTRATA_REQUANTIZE_INL_H
#undef BITSTRATA_REQUANTIZE_INL_H
#else
#define BITSTRATA_REQUANTIZE_INL_H
#endif

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace bitstrata::kernels {
namespace HWY_NAMESPACE {

// Not Min and Max, whose treatment of NaN and of -0 differs between instruction sets.
template <typename V>
HWY_INLINE V clip_vector(V y, V a, V b) {
  namespace hn = hwy::HWY_NAMESPACE;
  return hn::IfThenElse(hn::Gt(y, a), hn::IfThenElse(hn::Lt(y, b), y, b), a);
}

// Into [low, high]; NaN becomes low.
template <typename V>
HWY_INLINE V clip_to_codes(V y, V low, V high) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  namespace hn = hwy::HWY_NAMESPACE;
  return hn::Min(hn::Max(y, low), high);  // these give their second operand for NaN
#else
  return clip_vector(y, low, high);
#endif
}

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
// Highway's NearestInt cares for values too large for integers, which codes are not.
template <size_t kLanes>
HWY_INLINE hwy::HWY_NAMESPACE::Vec128<int32_t, kLanes> nearest(hwy::HWY_NAMESPACE::Vec128<float, kLanes> y) {
  return hwy::HWY_NAMESPACE::Vec128<int32_t, kLanes>{_mm_cvtps_epi32(y.raw)};
}
HWY_INLINE hwy::HWY_NAMESPACE::Vec256<int32_t> nearest(hwy::HWY_NAMESPACE::Vec256<float> y) {
  return {_mm256_cvtps_epi32(y.raw)};
}
#if HWY_TARGET != HWY_AVX2
HWY_INLINE hwy::HWY_NAMESPACE::Vec512<int32_t> nearest(hwy::HWY_NAMESPACE::Vec512<float> y) {
  return {_mm512_cvtps_epi32(y.raw)};
}
#endif
#else
template <typename V>
HWY_INLINE auto nearest(V y) {
  return hwy::HWY_NAMESPACE::NearestInt(y);
}
#endif

// clamp(rint(y * inverse), zero, zero + max_code) - zero. Clipped before it is rounded, which changes nothing
// as the bounds are integers.
template <typename D>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<hwy::HWY_NAMESPACE::Rebind<int32_t, D>> codes_of(
    D d, hwy::HWY_NAMESPACE::Vec<D> y, float inverse, int zero, int max_code) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::Rebind<int32_t, D> d32;
  const auto clipped = clip_to_codes(hn::Mul(y, hn::Set(d, inverse)), hn::Set(d, static_cast<float>(zero)),
                                     hn::Set(d, static_cast<float>(zero + max_code)));
  return hn::Sub(nearest(clipped), hn::Set(d32, zero));
}

// The codes of consecutive channels, from full vectors of int32_t to bytes.
template <class V, int kVectors>
HWY_INLINE void store_bytes(const V (&codes)[kVectors], uint8_t* out) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::ScalableTag<int32_t> d;
#if HWY_TARGET == HWY_AVX2
  if constexpr (kVectors % 2 == 0) {
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5);
#pragma GCC unroll 16
    for (int r = 0; r < kVectors; r += 2) {
      const __m256i words = _mm256_packs_epi32(codes[r].raw, codes[r + 1].raw);
      const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(words, words), order);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 8 * r), _mm256_castsi256_si128(bytes));
    }
    return;
  }
#endif
#pragma GCC unroll 16
  for (int r = 0; r < kVectors; ++r) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 16 * r), _mm512_cvtepi32_epi8(codes[r].raw));
#else
    const hn::Rebind<uint8_t, decltype(d)> d8;
    hn::StoreU(hn::DemoteTo(d8, codes[r]), d8, out + r * hn::Lanes(d));
#endif
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace bitstrata::kernels
HWY_AFTER_NAMESPACE();

#endif
