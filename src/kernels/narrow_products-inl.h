// Products of narrow operands, once per instruction set: included by sources that Highway includes once per
// target, which is what this guard instead of a plain one is for.
#if defined(BITSTRATA_NARROW_PRODUCTS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BITSTRATA_NARROW_PRODUCTS_INL_H
#undef BITSTRATA_NARROW_PRODUCTS_INL_H
#else
#define BITSTRATA_NARROW_PRODUCTS_INL_H
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <cstring>

// Whether this target has products.
#undef BITSTRATA_NARROW_PRODUCTS
#define BITSTRATA_NARROW_PRODUCTS \
  (HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_TARGET == HWY_NEON)

#if BITSTRATA_NARROW_PRODUCTS

// Sums live in registers only when the loops over a tile are unrolled, which the compiler alone does not do
// for large tiles.
#undef UNROLL
#define UNROLL _Pragma("GCC unroll 16")

HWY_BEFORE_NAMESPACE();
namespace bitstrata::kernels {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using Words = hn::ScalableTag<uint32_t>;
using Bytes = hn::ScalableTag<uint8_t>;
using WordVector = hn::Vec<Words>;
using ByteVector = hn::Vec<Bytes>;

// Highway 1.0.3 has no operation for products of bytes. Each target below gives some kinds of products:
//   Sums      the sums of products of one output per 32-bit lane
//   kDirect   Sums have 32 bits
//   add()     sums + products of four bytes each of codes and weights
//   widen()   one 32-bit sum per lane
// ByteProducts are of bytes; where their Sums have 16 bits, DirectProducts have wider ones. WordProducts are
// of pairs of 16-bit integers.

#if HWY_TARGET == HWY_AVX3_DL

struct ByteProducts {
  using Sums = WordVector;
  static constexpr bool kDirect = true, kSignedWeights = true;
  static constexpr int kPerStep = 0, kMaxSum = 0;
  static HWY_INLINE Sums zero() { return hn::Zero(Words()); }
  // Written out because Highway 1.0.3 does not enable the intrinsic of AVX512-VNNI for this target.
  static HWY_INLINE Sums add(Sums sums, ByteVector codes, ByteVector weights) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sums.raw) : "v"(codes.raw), "v"(weights.raw));
    return sums;
  }
  static HWY_INLINE WordVector widen(Sums sums) { return sums; }
};

#elif HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

struct ByteProducts {
  using Shorts = hn::ScalableTag<int16_t>;
  using Sums = hn::Vec<Shorts>;
  static constexpr bool kDirect = false, kSignedWeights = true;
  static constexpr int kPerStep = 2, kMaxSum = 32767;
  static HWY_INLINE Sums zero() { return hn::Zero(Shorts()); }
#if HWY_TARGET == HWY_AVX2
  static HWY_INLINE Sums add(Sums sums, ByteVector codes, ByteVector weights) {
    return {_mm256_add_epi16(sums.raw, _mm256_maddubs_epi16(codes.raw, weights.raw))};
  }
  static HWY_INLINE WordVector widen(Sums sums) {
    return {_mm256_madd_epi16(sums.raw, _mm256_set1_epi16(1))};
  }
#else
  static HWY_INLINE Sums add(Sums sums, ByteVector codes, ByteVector weights) {
    return {_mm512_add_epi16(sums.raw, _mm512_maddubs_epi16(codes.raw, weights.raw))};
  }
  static HWY_INLINE WordVector widen(Sums sums) {
    return {_mm512_madd_epi16(sums.raw, _mm512_set1_epi16(1))};
  }
#endif
};

struct DirectProducts {
  using Sums = WordVector;
  static constexpr bool kDirect = true;
  static HWY_INLINE Sums zero() { return hn::Zero(Words()); }
  static HWY_INLINE Sums add(Sums sums, ByteVector codes, ByteVector weights) {
    return hn::Add(sums, ByteProducts::widen(ByteProducts::add(ByteProducts::zero(), codes, weights)));
  }
  static HWY_INLINE WordVector widen(Sums sums) { return sums; }
};

struct WordProducts {
  using Sums = WordVector;
  static constexpr bool kDirect = true;
  static HWY_INLINE Sums zero() { return hn::Zero(Words()); }
  static HWY_INLINE Sums add(Sums sums, ByteVector codes, ByteVector weights) {
#if HWY_TARGET == HWY_AVX2
    return {_mm256_add_epi32(sums.raw, _mm256_madd_epi16(codes.raw, weights.raw))};
#else
    return {_mm512_add_epi32(sums.raw, _mm512_madd_epi16(codes.raw, weights.raw))};
#endif
  }
  static HWY_INLINE WordVector widen(Sums sums) {
    return sums;
  }
};

#elif defined(__ARM_FEATURE_DOTPROD)

struct ByteProducts {
  using Sums = WordVector;
  static constexpr bool kDirect = true, kSignedWeights = false;
  static constexpr int kPerStep = 0, kMaxSum = 0;
  static HWY_INLINE Sums zero() { return hn::Zero(Words()); }
  static HWY_INLINE Sums add(Sums sums, ByteVector codes, ByteVector weights) {
    return Sums(vdotq_u32(sums.raw, codes.raw, weights.raw));
  }
  static HWY_INLINE WordVector widen(Sums sums) { return sums; }
};

#else

struct ByteProducts {
  struct Sums {
    uint16x8_t low, high;  // of the first and the last two lanes
  };
  static constexpr bool kDirect = false, kSignedWeights = false;
  static constexpr int kPerStep = 1, kMaxSum = 65535;
  static HWY_INLINE Sums zero() { return {vdupq_n_u16(0), vdupq_n_u16(0)}; }
  static HWY_INLINE Sums add(Sums sums, ByteVector codes, ByteVector weights) {
    return {vmlal_u8(sums.low, vget_low_u8(codes.raw), vget_low_u8(weights.raw)),
            vmlal_u8(sums.high, vget_high_u8(codes.raw), vget_high_u8(weights.raw))};
  }
  static HWY_INLINE WordVector widen(Sums sums) {
    return WordVector(vpaddq_u32(vpaddlq_u16(sums.low), vpaddlq_u16(sums.high)));
  }
};

struct DirectProducts {
  struct Sums {
    uint32x4_t low, high;  // of the first and the last two lanes
  };
  static constexpr bool kDirect = true;
  static HWY_INLINE Sums zero() { return {vdupq_n_u32(0), vdupq_n_u32(0)}; }
  static HWY_INLINE Sums add(Sums sums, ByteVector codes, ByteVector weights) {
    return {vpadalq_u16(sums.low, vmull_u8(vget_low_u8(codes.raw), vget_low_u8(weights.raw))),
            vpadalq_u16(sums.high, vmull_u8(vget_high_u8(codes.raw), vget_high_u8(weights.raw)))};
  }
  static HWY_INLINE WordVector widen(Sums sums) { return WordVector(vpaddq_u32(sums.low, sums.high)); }
};

#endif

HWY_INLINE ByteVector broadcast_four(const uint8_t* bytes) {
  uint32_t word;
  std::memcpy(&word, bytes, sizeof word);
  return hn::BitCast(Bytes(), hn::Set(Words(), word));
}

// The first `channels` lanes.
HWY_INLINE void store_channels(WordVector y, int32_t* out, int channels) {
  const Words d;
  uint32_t* words = reinterpret_cast<uint32_t*>(out);
  if (channels >= static_cast<int>(hn::Lanes(d))) {
    hn::StoreU(y, d, words);
    return;
  }
  HWY_ALIGN uint32_t lanes[hn::MaxLanes(d)];
  hn::Store(y, d, lanes);
  for (int i = 0; i < channels; ++i) words[i] = lanes[i];
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace bitstrata::kernels
HWY_AFTER_NAMESPACE();

#endif
#endif
