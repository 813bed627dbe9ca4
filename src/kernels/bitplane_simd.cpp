// One source for every vector instruction set: Highway includes this file once per target.
#include <algorithm>
#include <cstring>
#include <string>

#include "kernels/bitplane.h"

#define HWY_WANT_AVX3_DL
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/bitplane_simd.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace bitstrata::kernels {
namespace HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

[[maybe_unused]] BitplaneTarget target() {
  return {};
}

#else

namespace hn = hwy::HWY_NAMESPACE;
using Words = hn::ScalableTag<uint32_t>;
using Bytes = hn::ScalableTag<uint8_t>;
using WordVector = hn::Vec<Words>;
using ByteVector = hn::Vec<Bytes>;

HWY_INLINE WordVector broadcast_word(const uint8_t* bytes) {
  uint32_t word;
  std::memcpy(&word, bytes, sizeof word);
  return hn::Set(Words(), word);
}

/// A pair of planes: the weights' (of the first block) and where the first pixel's lies behind a.words.
struct PlanePair {
  const uint32_t* weights;
  size_t block_stride_elems, offset_bytes;
};

// The bits that the weights of block r and pixel p have in common in word i.
HWY_INLINE WordVector common(const BitplaneRow& a, const PlanePair& pair, WordVector word, int r, int i) {
  const Words d;
  return hn::And(word, hn::LoadU(d, pair.weights + r * pair.block_stride_elems + i * hn::Lanes(d)));
}

HWY_INLINE WordVector pixel_word(const BitplaneRow& a, const PlanePair& pair, int p, int i) {
  return broadcast_word(a.words[i] + pair.offset_bytes + p * a.pixel_stride_bytes);
}

#if HWY_TARGET == HWY_AVX3_DL

// 16 accumulators and the words of two blocks fit in 32 registers.
constexpr int kTilePixels = 8, kTileBlocks = 2;

// acc[p][r] += number of bits that the weights of block r and pixel p have in common, in one pair of planes.
template <int kPixels, int kBlocks>
HWY_INLINE void add_common_bits(const BitplaneRow& a, const PlanePair& pair,
                                WordVector (&acc)[kPixels][kBlocks]) {
  const Words d;
  for (int i = 0; i < a.word_count; ++i) {
    const uint8_t* at = a.words[i] + pair.offset_bytes;
    WordVector w[kBlocks];
    for (int r = 0; r < kBlocks; ++r)
      w[r] = hn::LoadU(d, pair.weights + r * pair.block_stride_elems + i * hn::Lanes(d));
    for (int p = 0; p < kPixels; ++p) {
      const WordVector v = broadcast_word(at + p * a.pixel_stride_bytes);
      for (int r = 0; r < kBlocks; ++r) {
        acc[p][r] = hn::Add(acc[p][r], hn::PopulationCount(hn::And(w[r], v)));
      }
    }
  }
}

#else

HWY_INLINE WordVector sum_bytes_of_words(ByteVector bytes) {
  const Words d;
  const hn::Repartition<uint16_t, Words> d16;
  const auto b = hn::BitCast(d16, bytes);
  const auto pairs = hn::BitCast(d, hn::Add(hn::And(b, hn::Set(d16, 0xFF)), hn::ShiftRight<8>(b)));
  return hn::Add(hn::And(pairs, hn::Set(d, 0xFFFF)), hn::ShiftRight<16>(pairs));
}

HWY_INLINE ByteVector count_bits(WordVector words) {
  return hn::PopulationCount(hn::BitCast(Bytes(), words));
}

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

// Counting the bits of bytes takes shuffles, many more steps than adding three words bit by bit into a sum
// and a carry (Harley and Seal), so four words become one before bits are counted.
#if HWY_TARGET == HWY_AVX2
constexpr int kTilePixels = 1, kTileBlocks = 2;
#else
constexpr int kTilePixels = 2, kTileBlocks = 2;
#endif

HWY_INLINE void full_add(WordVector& sum, WordVector x, WordVector y, WordVector& carry) {
#if HWY_TARGET == HWY_AVX3
  carry = WordVector{_mm512_ternarylogic_epi32(sum.raw, x.raw, y.raw, 0xE8)};
  sum = hn::Xor3(sum, x, y);
#else
  const WordVector half = hn::Xor(x, y);
  carry = hn::Or(hn::And(x, y), hn::And(sum, half));
  sum = hn::Xor(sum, half);
#endif
}

/// The low bits of counts that have not been carried into a count yet.
struct Digits {
  WordVector ones, twos;
};

// The first kWords words, fewer than 4.
template <int kWords, int kPixels, int kBlocks>
HWY_INLINE void first_words(const BitplaneRow& a, const PlanePair& pair, Digits (&digits)[kPixels][kBlocks]) {
  for (int p = 0; p < kPixels; ++p) {
    for (int r = 0; r < kBlocks; ++r) {
      Digits& digit = digits[p][r];
      digit.ones = digit.twos = hn::Zero(Words());
      const auto word = [&](int i) { return common(a, pair, pixel_word(a, pair, p, i), r, i); };
      if constexpr (kWords > 0) digit.ones = word(0);
      if constexpr (kWords == 2) {
        const WordVector second = word(1);
        digit.twos = hn::And(digit.ones, second);
        digit.ones = hn::Xor(digit.ones, second);
      }
      if constexpr (kWords == 3) full_add(digit.ones, word(1), word(2), digit.twos);
    }
  }
}

template <int kPixels, int kBlocks>
HWY_INLINE void add_common_bits(const BitplaneRow& a, const PlanePair& pair,
                                WordVector (&acc)[kPixels][kBlocks]) {
  constexpr int kMaxSteps = 255 / 8;
  Digits digits[kPixels][kBlocks];
  int i = a.word_count % 4;
  switch (i) {
    case 0:
      first_words<0>(a, pair, digits);
      break;
    case 1:
      first_words<1>(a, pair, digits);
      break;
    case 2:
      first_words<2>(a, pair, digits);
      break;
    default:
      first_words<3>(a, pair, digits);
      break;
  }
  while (i < a.word_count) {
    const int last = std::min(i + 4 * kMaxSteps, a.word_count);
    ByteVector fours[kPixels][kBlocks];
    for (int p = 0; p < kPixels; ++p) {
      for (int r = 0; r < kBlocks; ++r) fours[p][r] = hn::Zero(Bytes());
    }
    for (; i < last; i += 4) {
      for (int p = 0; p < kPixels; ++p) {
        const WordVector v0 = pixel_word(a, pair, p, i), v1 = pixel_word(a, pair, p, i + 1),
                         v2 = pixel_word(a, pair, p, i + 2), v3 = pixel_word(a, pair, p, i + 3);
        for (int r = 0; r < kBlocks; ++r) {
          Digits& digit = digits[p][r];
          WordVector carry0, carry1, carry;
          full_add(digit.ones, common(a, pair, v0, r, i), common(a, pair, v1, r, i + 1), carry0);
          full_add(digit.ones, common(a, pair, v2, r, i + 2), common(a, pair, v3, r, i + 3), carry1);
          full_add(digit.twos, carry0, carry1, carry);
          fours[p][r] = hn::Add(fours[p][r], count_bits(carry));
        }
      }
    }
    for (int p = 0; p < kPixels; ++p) {
      for (int r = 0; r < kBlocks; ++r)
        acc[p][r] = hn::Add(acc[p][r], hn::ShiftLeft<2>(sum_bytes_of_words(fours[p][r])));
    }
  }
  for (int p = 0; p < kPixels; ++p) {
    for (int r = 0; r < kBlocks; ++r) {
      const ByteVector twos = count_bits(digits[p][r].twos);
      const ByteVector rest = hn::Add(count_bits(digits[p][r].ones), hn::Add(twos, twos));
      acc[p][r] = hn::Add(acc[p][r], sum_bytes_of_words(rest));
    }
  }
}

#else

constexpr int kTilePixels = 4, kTileBlocks = 2;

// Counts in byte lanes, which are widened before 8 bits more could overflow them.
template <int kPixels, int kBlocks>
HWY_INLINE void add_common_bits(const BitplaneRow& a, const PlanePair& pair,
                                WordVector (&acc)[kPixels][kBlocks]) {
  constexpr int kMaxSteps = 255 / 8;
  for (int first = 0; first < a.word_count; first += kMaxSteps) {
    const int last = std::min(first + kMaxSteps, a.word_count);
    ByteVector counts[kPixels][kBlocks];
    for (int p = 0; p < kPixels; ++p) {
      for (int r = 0; r < kBlocks; ++r) counts[p][r] = hn::Zero(Bytes());
    }
    for (int i = first; i < last; ++i) {
      for (int p = 0; p < kPixels; ++p) {
        const WordVector v = pixel_word(a, pair, p, i);
        for (int r = 0; r < kBlocks; ++r)
          counts[p][r] = hn::Add(counts[p][r], count_bits(common(a, pair, v, r, i)));
      }
    }
    for (int p = 0; p < kPixels; ++p) {
      for (int r = 0; r < kBlocks; ++r) acc[p][r] = hn::Add(acc[p][r], sum_bytes_of_words(counts[p][r]));
    }
  }
}

#endif
#endif

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

// Pixels [x, x + kPixels) and blocks [0, kBlocks). Planes are taken in order of falling weight 2^s, the
// running sum doubled in between, so that one accumulator per output suffices.
template <int kPixels, int kBlocks>
HWY_NOINLINE void tile(const BitplaneRow& a, int x) {
  const Words d;
  const size_t lanes = hn::Lanes(d);
  const size_t plane_stride = a.word_count * lanes, block_stride = plane_stride * a.w_bits;
  const size_t offset = a.offset_bytes + x * a.pixel_stride_bytes;
  WordVector acc[kPixels][kBlocks];
  for (int p = 0; p < kPixels; ++p) {
    for (int r = 0; r < kBlocks; ++r) acc[p][r] = hn::Zero(d);
  }
  for (int s = a.w_bits + a.a_bits - 2; s >= 0; --s) {
    for (int p = 0; p < kPixels; ++p) {
      for (int r = 0; r < kBlocks; ++r) acc[p][r] = hn::Add(acc[p][r], acc[p][r]);
    }
    for (int m = std::max(0, s - a.a_bits + 1); m <= std::min(a.w_bits - 1, s); ++m) {
      const PlanePair pair{a.weights + m * plane_stride, block_stride,
                           offset + (s - m) * a.plane_stride_bytes};
      add_common_bits<kPixels, kBlocks>(a, pair, acc);
    }
  }
  for (int p = 0; p < kPixels; ++p) {
    const WordVector correction = hn::Set(d, static_cast<uint32_t>(a.corrections[x + p]));
    int32_t* out = a.out + (x + p) * a.out_stride_elems;
    for (int r = 0; r < kBlocks; ++r) {
      const int first = r * static_cast<int>(lanes);
      const WordVector bias = hn::LoadU(d, reinterpret_cast<const uint32_t*>(a.bias) + first);
      const WordVector scaled = hn::ShiftLeftSame(acc[p][r], a.mul - 1);
      store_channels(hn::Add(scaled, hn::Add(correction, bias)), out + first, a.channels - first);
    }
  }
}

// Tiles of tile_pixels; the last one ends with the row, computing some pixels again rather than fewer.
template <int kPixels, int kBlocks>
HWY_INLINE void all_pixels(const BitplaneRow& a) {
  if constexpr (kPixels > 1) {
    if (a.tile_pixels < kPixels) return all_pixels<kPixels - 1, kBlocks>(a);
  }
  for (int x = 0; x < a.pixels; x += kPixels) tile<kPixels, kBlocks>(a, std::min(x, a.pixels - kPixels));
}

void row(const BitplaneRow& a) {
  if (a.blocks == kTileBlocks)
    all_pixels<kTilePixels, kTileBlocks>(a);
  else
    all_pixels<kTilePixels, 1>(a);
}

void extract(const uint8_t* codes, size_t count, int bits, uint8_t* planes, size_t plane_stride_bytes) {
  const Bytes d8;
  const size_t lanes = hn::Lanes(d8);
  for (size_t i = 0; i < (count + 63) / 64 * 64; i += lanes) {
    const ByteVector v = hn::LoadU(d8, codes + i);
    for (int k = 0; k < bits; ++k) {
      const ByteVector bit = hn::Set(d8, static_cast<uint8_t>(1 << k));
      uint8_t mask[8];  // StoreMaskBits may write 8 bytes
      hn::StoreMaskBits(d8, hn::TestBit(v, bit), mask);
      std::memcpy(planes + k * plane_stride_bytes + i / 8, mask, lanes / 8);
    }
  }
}

void sums(const uint8_t* planes, size_t plane_stride_bytes, int bits, size_t bytes, size_t count,
          int32_t* out) {
  sum_planes(planes, plane_stride_bytes, bits, bytes, count, out);
}

BitplaneTarget target() {
  static const std::string name = std::string("highway ") + hwy::TargetName(HWY_TARGET);
  return {static_cast<int>(hn::Lanes(Words())), kTilePixels, kTileBlocks, name.c_str(), row, extract, sums};
}

#endif

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace bitstrata::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitstrata::kernels {

BitplaneTarget bitplane_target(Isa isa) {
  struct Candidate {
    Isa isa;
    int64_t needs;
    BitplaneTarget (*get)();
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
