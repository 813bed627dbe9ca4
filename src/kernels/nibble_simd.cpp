// One source for every vector instruction set: Highway includes this file once per target.
#include <algorithm>
#include <cstring>
#include <string>

#include "kernels/nibble.h"

#define HWY_WANT_AVX3_DL
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/nibble_simd.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace bitstrata::kernels {
namespace HWY_NAMESPACE {
namespace {

#if HWY_TARGET != HWY_AVX2 && HWY_TARGET != HWY_AVX3 && HWY_TARGET != HWY_AVX3_DL && HWY_TARGET != HWY_NEON

[[maybe_unused]] NibbleTarget target() {
  return {};
}

#else

namespace hn = hwy::HWY_NAMESPACE;
using Words = hn::ScalableTag<uint32_t>;
using Bytes = hn::ScalableTag<uint8_t>;
using WordVector = hn::Vec<Words>;
using ByteVector = hn::Vec<Bytes>;

// Sums of products of one output per 32-bit lane, in 32 bits when kDirect. add(): sums + products of four
// bytes each of codes and weights below 16. widen(): one 32-bit sum per lane.

#if HWY_TARGET == HWY_AVX3_DL

struct Products {
  using Sums = WordVector;
  static constexpr bool kDirect = true;
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

struct Products {
  using Shorts = hn::ScalableTag<int16_t>;
  using Sums = hn::Vec<Shorts>;
  static constexpr bool kDirect = false;
  static constexpr int kPerStep = 4, kMaxSum = 32767;
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

#elif defined(__ARM_FEATURE_DOTPROD)

struct Products {
  using Sums = WordVector;
  static constexpr bool kDirect = true;
  static constexpr int kPerStep = 0, kMaxSum = 0;
  static HWY_INLINE Sums zero() { return hn::Zero(Words()); }
  static HWY_INLINE Sums add(Sums sums, ByteVector codes, ByteVector weights) {
    return Sums(vdotq_u32(sums.raw, codes.raw, weights.raw));
  }
  static HWY_INLINE WordVector widen(Sums sums) { return sums; }
};

#else

struct Products {
  struct Sums {
    uint16x8_t low, high;  // of the first and the last two lanes
  };
  static constexpr bool kDirect = false;
  static constexpr int kPerStep = 2, kMaxSum = 65535;
  static HWY_INLINE Sums zero() { return {vdupq_n_u16(0), vdupq_n_u16(0)}; }
  static HWY_INLINE Sums add(Sums sums, ByteVector codes, ByteVector weights) {
    return {vmlal_u8(sums.low, vget_low_u8(codes.raw), vget_low_u8(weights.raw)),
            vmlal_u8(sums.high, vget_high_u8(codes.raw), vget_high_u8(weights.raw))};
  }
  static HWY_INLINE WordVector widen(Sums sums) {
    return WordVector(vpaddq_u32(vpaddlq_u16(sums.low), vpaddlq_u16(sums.high)));
  }
};

#endif

HWY_INLINE ByteVector broadcast_four(const uint8_t* bytes) {
  uint32_t word;
  std::memcpy(&word, bytes, sizeof word);
  return hn::BitCast(Bytes(), hn::Set(Words(), word));
}

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

// Sums live in registers only when the loops over a tile are unrolled.
#define UNROLL _Pragma("GCC unroll 16")

template <int kPixels, int kBlocks>
HWY_INLINE void add_step(const uint8_t* const (&codes)[kPixels], const uint8_t* weights, size_t block_stride,
                         Products::Sums (&sums)[kPixels][kBlocks]) {
  const Bytes d8;
  const Words d;
  const ByteVector low_half = hn::Set(d8, 15);
  ByteVector low[kPixels], high[kPixels];
  UNROLL
  for (int p = 0; p < kPixels; ++p) {
    low[p] = broadcast_four(codes[p]);
    high[p] = broadcast_four(codes[p] + 4);
  }
  UNROLL
  for (int r = 0; r < kBlocks; ++r) {
    const ByteVector w = hn::LoadU(d8, weights + r * block_stride);
    const ByteVector w_low = hn::And(w, low_half);
    const ByteVector w_high = hn::And(hn::BitCast(d8, hn::ShiftRight<4>(hn::BitCast(d, w))), low_half);
    UNROLL
    for (int p = 0; p < kPixels; ++p) {
      sums[p][r] = Products::add(Products::add(sums[p][r], low[p], w_low), high[p], w_high);
    }
  }
}

template <int kPixels, int kBlocks>
HWY_NOINLINE void tile(const NibblePixels& a, int block) {
  const Words d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  const size_t step_bytes = 4 * hn::Lanes(d), block_stride = a.steps * step_bytes;
  const uint8_t* weights = a.weights + block * block_stride;
  Products::Sums sums[kPixels][kBlocks];
  WordVector totals[kPixels][kBlocks];
  const uint8_t* codes[kPixels];
  UNROLL
  for (int p = 0; p < kPixels; ++p) {
    codes[p] = a.codes[p];
    UNROLL
    for (int r = 0; r < kBlocks; ++r) {
      sums[p][r] = Products::zero();
      totals[p][r] = hn::Zero(d);
    }
  }
  const auto widen = [&]() HWY_ATTR {
    UNROLL
    for (int p = 0; p < kPixels; ++p) {
      UNROLL
      for (int r = 0; r < kBlocks; ++r) {
        totals[p][r] = hn::Add(totals[p][r], Products::widen(sums[p][r]));
        sums[p][r] = Products::zero();
      }
    }
  };
  for (int left = a.steps - 1; left > 0;) {
    const int steps = Products::kDirect ? left : std::min(left, a.exact_steps);
    for (int i = 0; i < steps; ++i, weights += step_bytes) {
      add_step<kPixels, kBlocks>(codes, weights, block_stride, sums);
      UNROLL
      for (int p = 0; p < kPixels; ++p) codes[p] += kNibbleStep;
    }
    left -= steps;
    if (!Products::kDirect) widen();
  }
  UNROLL
  for (int p = 0; p < kPixels; ++p) codes[p] = a.tails[p];
  add_step<kPixels, kBlocks>(codes, weights, block_stride, sums);
  widen();
  UNROLL
  for (int p = 0; p < kPixels; ++p) {
    UNROLL
    for (int r = 0; r < kBlocks; ++r) {
      const WordVector bias = hn::LoadU(d, reinterpret_cast<const uint32_t*>(a.bias) + (block + r) * lanes);
      const WordVector y =
          hn::Add(hn::ShiftLeftSame(totals[p][r], a.mul_shift), hn::Add(hn::Set(d, a.shared[p]), bias));
      store_channels(y, a.out[p] + (block + r) * lanes, a.channels - (block + r) * lanes);
    }
  }
}

template <int kPixels, int kBlocks>
HWY_INLINE void all_blocks(const NibblePixels& a) {
  int block = 0;
  for (; block + kBlocks <= a.blocks; block += kBlocks) tile<kPixels, kBlocks>(a, block);
  for (; block < a.blocks; ++block) tile<kPixels, 1>(a, block);
}

// Registers: sums and, when these have 16 bits, totals per pixel and block, two codes per pixel, two weights.
void run(const NibblePixels& a) {
#if HWY_TARGET == HWY_AVX2
  constexpr int kMany = 2, kFew = 1;
#else
  constexpr int kMany = 4, kFew = 2;
#endif
  switch (a.pixels) {
    case 1:
      return all_blocks<1, 4>(a);
    case 2:
      return all_blocks<2, kMany>(a);
    case 3:
      return all_blocks<3, kFew>(a);
    default:
      return all_blocks<4, kFew>(a);
  }
}

NibbleTarget target() {
  static const std::string name = std::string("highway ") + hwy::TargetName(HWY_TARGET);
  NibbleTarget t;
  t.lanes = static_cast<int>(hn::Lanes(Words()));
  t.name = name.c_str();
  t.products_per_step = Products::kPerStep;
  t.max_sum = Products::kMaxSum;
  t.run = run;
  return t;
}

#endif

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace bitstrata::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitstrata::kernels {

NibbleTarget nibble_target(Isa isa) {
  struct Candidate {
    Isa isa;
    int64_t needs;
    NibbleTarget (*get)();
  };
  static const Candidate candidates[] = {
      {Isa::kNeon, HWY_NEON, HWY_CHOOSE_NEON(target)},
      {Isa::kAvx2, HWY_AVX2, HWY_CHOOSE_AVX2(target)},
      {Isa::kAvx512, HWY_AVX3, HWY_CHOOSE_AVX3(target)},
      {Isa::kVnni, HWY_AVX3_DL, HWY_CHOOSE_AVX3_DL(target)},
  };
  for (const Candidate& candidate : candidates) {
    if (candidate.isa != isa || candidate.get == nullptr) continue;
    if ((hwy::SupportedTargets() & candidate.needs) != 0) return candidate.get();
  }
  return {};
}

}  // namespace bitstrata::kernels
#endif
