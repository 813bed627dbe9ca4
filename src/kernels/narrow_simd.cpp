// One source for every vector instruction set: Highway includes this file once per target.
#include <algorithm>
#include <cstring>
#include <string>

#include "kernels/narrow.h"

#define HWY_WANT_AVX3_DL
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/narrow_simd.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace bitstrata::kernels {
namespace HWY_NAMESPACE {
namespace {

#if HWY_TARGET != HWY_AVX2 && HWY_TARGET != HWY_AVX3 && HWY_TARGET != HWY_AVX3_DL && HWY_TARGET != HWY_NEON

[[maybe_unused]] NarrowTarget target() {
  return {};
}

#else

namespace hn = hwy::HWY_NAMESPACE;
using Words = hn::ScalableTag<uint32_t>;
using Bytes = hn::ScalableTag<uint8_t>;
using WordVector = hn::Vec<Words>;
using ByteVector = hn::Vec<Bytes>;

// Highway 1.0.3 has no operation for products of bytes. Each target below gives
//   Sums            the sums of products of one output per 32-bit lane
//   kDirect         Sums are final 32-bit sums
//   add_products()  sums + products of four bytes each of codes and weights
//   widen()         one 32-bit sum per lane

#if HWY_TARGET == HWY_AVX3_DL

using Sums = WordVector;
constexpr bool kDirect = true;
constexpr int kProductsPerStep = 0, kMaxSum = 0;
constexpr bool kSignedWeights = true;

// Written out because Highway 1.0.3 does not enable the intrinsic of AVX512-VNNI for this target.
HWY_INLINE Sums add_products(Sums sums, ByteVector codes, ByteVector weights) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sums.raw) : "v"(codes.raw), "v"(weights.raw));
  return sums;
}
HWY_INLINE WordVector widen(Sums sums) {
  return sums;
}

#elif HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

using Sums = hn::Vec<hn::ScalableTag<int16_t>>;
constexpr bool kDirect = false;
constexpr int kProductsPerStep = 2, kMaxSum = 32767;
constexpr bool kSignedWeights = true;

#if HWY_TARGET == HWY_AVX2
HWY_INLINE Sums add_products(Sums sums, ByteVector codes, ByteVector weights) {
  return {_mm256_add_epi16(sums.raw, _mm256_maddubs_epi16(codes.raw, weights.raw))};
}
HWY_INLINE WordVector widen(Sums sums) {
  return {_mm256_madd_epi16(sums.raw, _mm256_set1_epi16(1))};
}
#else
HWY_INLINE Sums add_products(Sums sums, ByteVector codes, ByteVector weights) {
  return {_mm512_add_epi16(sums.raw, _mm512_maddubs_epi16(codes.raw, weights.raw))};
}
HWY_INLINE WordVector widen(Sums sums) {
  return {_mm512_madd_epi16(sums.raw, _mm512_set1_epi16(1))};
}
#endif

#else  // HWY_NEON

constexpr bool kSignedWeights = false;

#ifdef __ARM_FEATURE_DOTPROD
using Sums = WordVector;
constexpr bool kDirect = true;
constexpr int kProductsPerStep = 0, kMaxSum = 0;

HWY_INLINE Sums add_products(Sums sums, ByteVector codes, ByteVector weights) {
  return Sums(vdotq_u32(sums.raw, codes.raw, weights.raw));
}
HWY_INLINE WordVector widen(Sums sums) {
  return sums;
}
#else
struct Sums {
  uint16x8_t low, high;  // of the first and the last two lanes
};
constexpr bool kDirect = false;
constexpr int kProductsPerStep = 1, kMaxSum = 65535;

HWY_INLINE Sums add_products(Sums sums, ByteVector codes, ByteVector weights) {
  return {vmlal_u8(sums.low, vget_low_u8(codes.raw), vget_low_u8(weights.raw)),
          vmlal_u8(sums.high, vget_high_u8(codes.raw), vget_high_u8(weights.raw))};
}
HWY_INLINE WordVector widen(Sums sums) {
  return WordVector(vpaddq_u32(vpaddlq_u16(sums.low), vpaddlq_u16(sums.high)));
}
#endif

#endif

HWY_INLINE Sums zero_sums() {
#if HWY_TARGET == HWY_NEON && !defined(__ARM_FEATURE_DOTPROD)
  return {vdupq_n_u16(0), vdupq_n_u16(0)};
#else
  return hn::Zero(hn::DFromV<Sums>());
#endif
}

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
  std::memcpy(words, lanes, static_cast<size_t>(channels) * sizeof(uint32_t));
}

template <int kPixels, int kBlocks>
struct Tile {
  Sums sums[kPixels][kBlocks];
  HWY_ALIGN uint32_t totals[kPixels][kBlocks][hn::MaxLanes(Words())];  // widened sums
  bool any_totals = false;

  HWY_INLINE void clear() {
    for (int p = 0; p < kPixels; ++p) {
      for (int r = 0; r < kBlocks; ++r) sums[p][r] = zero_sums();
    }
  }
  HWY_INLINE WordVector total(int p, int r) const {
    const WordVector sum = widen(sums[p][r]);
    return any_totals ? hn::Add(sum, hn::Load(Words(), totals[p][r])) : sum;
  }
  HWY_INLINE void widen_all() {
    for (int p = 0; p < kPixels; ++p) {
      for (int r = 0; r < kBlocks; ++r) hn::Store(total(p, r), Words(), totals[p][r]);
    }
    any_totals = true;
    clear();
  }
  HWY_INLINE void add(const uint8_t* const (&codes)[kPixels], size_t offset, const uint8_t* weights,
                      size_t block_stride, int steps) {
    const Bytes d8;
    Sums local[kPixels][kBlocks];
    for (int p = 0; p < kPixels; ++p) {
      for (int r = 0; r < kBlocks; ++r) local[p][r] = sums[p][r];
    }
    for (int i = 0; i < steps; ++i) {
      ByteVector w[kBlocks];
      for (int r = 0; r < kBlocks; ++r) w[r] = hn::LoadU(d8, weights + r * block_stride + i * hn::Lanes(d8));
      for (int p = 0; p < kPixels; ++p) {
        const ByteVector v = broadcast_four(codes[p] + offset + 4 * i);
        for (int r = 0; r < kBlocks; ++r) local[p][r] = add_products(local[p][r], v, w[r]);
      }
    }
    for (int p = 0; p < kPixels; ++p) {
      for (int r = 0; r < kBlocks; ++r) sums[p][r] = local[p][r];
    }
  }
};

// Pixels [x, x + kPixels) and blocks [block, block + kBlocks).
template <int kPixels, int kBlocks>
HWY_NOINLINE void tile(const NarrowBand& a, int x, int block) {
  const Words d;
  const size_t lanes = hn::Lanes(d), step_bytes = 4 * lanes, block_stride = a.steps * step_bytes;
  const uint8_t* weights = a.weights + block * block_stride;
  const uint8_t* const* rows[kPixels];
  size_t offsets[kPixels];
  for (int p = 0; p < kPixels; ++p) {
    rows[p] = a.rows + size_t{1} * ((x + p) / a.ow) * a.kernel_h;
    offsets[p] = a.row_offset_bytes + (x + p) % a.ow * a.pixel_stride_bytes;
  }
  Tile<kPixels, kBlocks> t;
  t.clear();
  int room = a.exact_steps;
  for (int ky = 0; ky < a.kernel_h; ++ky) {
    const uint8_t* codes[kPixels];
    for (int p = 0; p < kPixels; ++p) codes[p] = rows[p][ky] + offsets[p];
    for (int run = 0; run < a.run_count; ++run) {
      size_t offset = a.runs[run].offset_bytes;
      for (int left = a.runs[run].steps; left > 0;) {
        const int steps = kDirect ? left : std::min(left, room);
        t.add(codes, offset, weights, block_stride, steps);
        weights += steps * step_bytes;
        offset += 4 * steps;
        left -= steps;
        if constexpr (!kDirect) {
          room -= steps;
          if (room == 0) {
            t.widen_all();
            room = a.exact_steps;
          }
        }
      }
    }
  }
  for (int p = 0; p < kPixels; ++p) {
    const uint32_t shared = a.value_factor == 0 ? 0 : a.value_factor * a.pixel_sums[x + p];
    int32_t* out = a.out + (x + p) * a.out_stride_elems;
    for (int r = 0; r < kBlocks; ++r) {
      const int first = (block + r) * static_cast<int>(lanes);
      const WordVector bias = hn::LoadU(d, reinterpret_cast<const uint32_t*>(a.bias) + first);
      const WordVector product = hn::ShiftLeftSame(t.total(p, r), a.mul_shift);
      store_channels(hn::Add(product, hn::Add(hn::Set(d, shared), bias)), out + first, a.channels - first);
    }
  }
}

template <int kBlocks, int kMaxPixels>
HWY_INLINE void tile_of(const NarrowBand& a, int pixels, int x, int block) {
  if constexpr (kMaxPixels > 1) {
    if (pixels < kMaxPixels) return tile_of<kBlocks, kMaxPixels - 1>(a, pixels, x, block);
  }
  tile<kMaxPixels, kBlocks>(a, x, block);
}

// Tiles of about equal size, at most kMaxPixels.
template <int kBlocks, int kMaxPixels>
HWY_INLINE void all_pixels(const NarrowBand& a, int block) {
  int x = 0;
  for (int tiles = (a.pixels + kMaxPixels - 1) / kMaxPixels; tiles > 0; --tiles) {
    const int pixels = (a.pixels - x + tiles - 1) / tiles;
    tile_of<kBlocks, kMaxPixels>(a, pixels, x, block);
    x += pixels;
  }
}

// Registers: a sum per pixel and block, a weight per block, a code and a product.
#if HWY_TARGET == HWY_AVX2
constexpr int kPixels1 = 6, kPixels2 = 6, kPixels4 = 2;
#elif HWY_TARGET == HWY_NEON && !defined(__ARM_FEATURE_DOTPROD)
constexpr int kPixels1 = 6, kPixels2 = 6, kPixels4 = 3;
#else
constexpr int kPixels1 = 8, kPixels2 = 8, kPixels4 = 6;
#endif

void band(const NarrowBand& a) {
  int block = 0;
  for (; (a.pixels <= kPixels4 || kPixels4 > 4) && block + 4 <= a.blocks; block += 4)
    all_pixels<4, kPixels4>(a, block);
  for (; block + 2 <= a.blocks; block += 2) all_pixels<2, kPixels2>(a, block);
  if (block < a.blocks) all_pixels<1, kPixels1>(a, block);
}

uint32_t sum(const uint8_t* codes, size_t count) {
  const Bytes d8;
  const hn::Repartition<uint64_t, Bytes> d64;
  const size_t lanes = hn::Lanes(d8);
  auto sums = hn::Zero(d64);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) sums = hn::Add(sums, hn::SumsOf8(hn::LoadU(d8, codes + i)));
  uint32_t total = static_cast<uint32_t>(hn::GetLane(hn::SumOfLanes(d64, sums)));
  for (; i < count; ++i) total += codes[i];
  return total;
}

NarrowTarget target() {
  static const std::string name = std::string("highway ") + hwy::TargetName(HWY_TARGET);
  return {static_cast<int>(hn::Lanes(Words())),
          name.c_str(),
          kSignedWeights,
          kProductsPerStep,
          kMaxSum,
          band,
          sum};
}

#endif

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace bitstrata::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitstrata::kernels {

NarrowTarget narrow_target(Isa isa) {
  struct Candidate {
    Isa isa;
    int64_t needs;
    NarrowTarget (*get)();
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
