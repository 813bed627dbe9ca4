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

#include "kernels/highway_target.h"

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

HWY_INLINE WordVector weight_word(const PlanePair& pair, int r, int i) {
  const Words d;
  return hn::LoadU(d, pair.weights + r * pair.block_stride_elems + i * hn::Lanes(d));
}

HWY_INLINE WordVector pixel_word(const BitplaneRow& a, const PlanePair& pair, int p, int i) {
  return broadcast_word(a.words[i] + pair.offset_bytes + p * a.pixel_stride_bytes);
}

#if HWY_TARGET == HWY_AVX3_DL

// 16 accumulators and the words of two blocks fit in 32 registers.
constexpr int kTilePixels = 8, kTileBlocks = 2;
constexpr Differing kCountsDiffering = Differing::kWords;

// acc[p][r] += number of common or differing bits of the weights of block r and pixel p, in one pair of
// planes.
template <bool kDiffering, int kPixels, int kBlocks>
HWY_INLINE void add_bits(const BitplaneRow& a, const PlanePair& pair, WordVector (&acc)[kPixels][kBlocks]) {
  for (int i = 0; i < a.word_count; ++i) {
    WordVector w[kBlocks];
    for (int r = 0; r < kBlocks; ++r) w[r] = weight_word(pair, r, i);
    for (int p = 0; p < kPixels; ++p) {
      const WordVector v = pixel_word(a, pair, p, i);
      for (int r = 0; r < kBlocks; ++r) {
        const WordVector bits = kDiffering ? hn::Xor(w[r], v) : hn::And(w[r], v);
        acc[p][r] = hn::Add(acc[p][r], hn::PopulationCount(bits));
      }
    }
  }
}

#else

HWY_INLINE ByteVector count_bits(WordVector words) {
  return hn::PopulationCount(hn::BitCast(Bytes(), words));
}

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

// Counting the bits of bytes takes shuffles, many more steps than adding three words bit by bit into a sum
// and a carry (Harley and Seal), so eight words become one before bits are counted. That takes the registers
// of more pixels, and instructions enough to hide the loads that more pixels would share.
constexpr int kTilePixels = 1, kTileBlocks = 2;
constexpr Differing kCountsDiffering = Differing::kPairs;

// The sums of 8 * eights + ones over the bytes of each word.
HWY_INLINE WordVector sum_bytes_of_words(ByteVector eights, ByteVector ones) {
#if HWY_TARGET == HWY_AVX2
  const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(eights.raw, _mm256_set1_epi8(8)),
                                         _mm256_maddubs_epi16(ones.raw, _mm256_set1_epi8(1)));
  return WordVector{_mm256_madd_epi16(pairs, _mm256_set1_epi16(1))};
#else
  const __m512i pairs = _mm512_add_epi16(_mm512_maddubs_epi16(eights.raw, _mm512_set1_epi8(8)),
                                         _mm512_maddubs_epi16(ones.raw, _mm512_set1_epi8(1)));
  return WordVector{_mm512_madd_epi16(pairs, _mm512_set1_epi16(1))};
#endif
}

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

// Adds two words of bits to be counted to `sum`, bit by bit. Of differing bits the second word is known only
// as its exclusive or with the first, in weights and pixels alike, which saves an instruction.
template <bool kDiffering>
HWY_INLINE void add_words(WordVector& sum, WordVector w0, WordVector w1, WordVector v0, WordVector v1,
                          WordVector& carry) {
  if constexpr (kDiffering) {
    const WordVector first = hn::Xor(w0, v0);
#if HWY_TARGET == HWY_AVX3
    const WordVector before = sum;
    sum = hn::Xor3(sum, w1, v1);
    // Where the sum changed the words differ, and the carry is what was there before.
    carry = WordVector{_mm512_ternarylogic_epi32(sum.raw, before.raw, first.raw, 0x8E)};
#else
    const WordVector differ = hn::Xor(w1, v1);
    carry = hn::Xor(hn::And(hn::Xor(sum, first), differ), first);
    sum = hn::Xor(sum, differ);
#endif
  } else {
    full_add(sum, hn::And(w0, v0), hn::And(w1, v1), carry);
  }
}

/// The low binary digits of counts.
struct Digits {
  WordVector ones, twos, fours;
};

// The first kCount words, fewer than 8.
template <bool kDiffering, int kCount, int kBlocks>
HWY_INLINE void first_words(const BitplaneRow& a, const PlanePair& pair, Digits (&digits)[kBlocks]) {
  for (int r = 0; r < kBlocks; ++r) {
    Digits& digit = digits[r];
    digit.ones = digit.twos = digit.fours = hn::Zero(Words());
    if constexpr (kCount % 2 == 1) digit.ones = hn::And(weight_word(pair, r, 0), pixel_word(a, pair, 0, 0));
    for (int i = kCount % 2; i < kCount; i += 2) {
      WordVector carry;
      add_words<kDiffering>(digit.ones, weight_word(pair, r, i), weight_word(pair, r, i + 1),
                            pixel_word(a, pair, 0, i), pixel_word(a, pair, 0, i + 1), carry);
      digit.fours = hn::Xor(digit.fours, hn::And(digit.twos, carry));
      digit.twos = hn::Xor(digit.twos, carry);
    }
  }
}

template <bool kDiffering, int kCount = 7, int kBlocks>
HWY_INLINE void first_words(const BitplaneRow& a, const PlanePair& pair, int count,
                            Digits (&digits)[kBlocks]) {
  if constexpr (kCount > 0) {
    if (count < kCount) return first_words<kDiffering, kCount - 1>(a, pair, count, digits);
  }
  if constexpr (!kDiffering || kCount % 2 == 0) first_words<kDiffering, kCount>(a, pair, digits);
}

// Words [at, at + 4): ones and twos take what is less than four.
template <bool kDiffering, int kBlocks>
HWY_INLINE void four_words(const BitplaneRow& a, const PlanePair& pair, int at, Digits (&digits)[kBlocks],
                           WordVector (&carries)[kBlocks]) {
  const WordVector v0 = pixel_word(a, pair, 0, at), v1 = pixel_word(a, pair, 0, at + 1),
                   v2 = pixel_word(a, pair, 0, at + 2), v3 = pixel_word(a, pair, 0, at + 3);
  for (int r = 0; r < kBlocks; ++r) {
    WordVector carry0, carry1;
    add_words<kDiffering>(digits[r].ones, weight_word(pair, r, at), weight_word(pair, r, at + 1), v0, v1,
                          carry0);
    add_words<kDiffering>(digits[r].ones, weight_word(pair, r, at + 2), weight_word(pair, r, at + 3), v2, v3,
                          carry1);
    full_add(digits[r].twos, carry0, carry1, carries[r]);
  }
}

// acc[0][r] += number of common or differing bits of the weights of block r and the pixel, in one pair of
// planes. Byte counters are widened before 8 more could overflow them.
template <bool kDiffering, int kBlocks>
HWY_INLINE void add_bits(const BitplaneRow& a, const PlanePair& pair, WordVector (&acc)[1][kBlocks]) {
  constexpr int kMaxSteps = 255 / 8;
  Digits digits[kBlocks];
  int i = a.word_count % 8;
  first_words<kDiffering>(a, pair, i, digits);
  do {
    const int last = std::min(i + 8 * kMaxSteps, a.word_count);
    ByteVector eights[kBlocks];
    for (int r = 0; r < kBlocks; ++r) eights[r] = hn::Zero(Bytes());
    for (; i < last; i += 8) {
      WordVector carries0[kBlocks], carries1[kBlocks];
      four_words<kDiffering>(a, pair, i, digits, carries0);
      four_words<kDiffering>(a, pair, i + 4, digits, carries1);
      for (int r = 0; r < kBlocks; ++r) {
        WordVector carry;
        full_add(digits[r].fours, carries0[r], carries1[r], carry);
        eights[r] = hn::Add(eights[r], count_bits(carry));
      }
    }
    for (int r = 0; r < kBlocks; ++r) {
      ByteVector ones = hn::Zero(Bytes());
      if (i == a.word_count) {
        const ByteVector fours = count_bits(digits[r].fours);
        const ByteVector twos = hn::Add(count_bits(digits[r].twos), hn::Add(fours, fours));
        ones = hn::Add(count_bits(digits[r].ones), hn::Add(twos, twos));
      }
      acc[0][r] = hn::Add(acc[0][r], sum_bytes_of_words(eights[r], ones));
    }
  } while (i < a.word_count);
}

#else

constexpr int kTilePixels = 4, kTileBlocks = 2;
constexpr Differing kCountsDiffering = Differing::kNot;

HWY_INLINE WordVector sum_bytes_of_words(ByteVector bytes) {
  const Words d;
  const hn::Repartition<uint16_t, Words> d16;
  const auto b = hn::BitCast(d16, bytes);
  const auto pairs = hn::BitCast(d, hn::Add(hn::And(b, hn::Set(d16, 0xFF)), hn::ShiftRight<8>(b)));
  return hn::Add(hn::And(pairs, hn::Set(d, 0xFFFF)), hn::ShiftRight<16>(pairs));
}

// Counts in byte lanes, which are widened before 8 bits more could overflow them.
template <bool kDiffering, int kPixels, int kBlocks>
HWY_INLINE void add_bits(const BitplaneRow& a, const PlanePair& pair, WordVector (&acc)[kPixels][kBlocks]) {
  static_assert(!kDiffering);
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
          counts[p][r] = hn::Add(counts[p][r], count_bits(hn::And(v, weight_word(pair, r, i))));
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
template <bool kDiffering, int kPixels, int kBlocks>
HWY_INLINE void tile(const BitplaneRow& a, int x) {
  const Words d;
  const hn::RebindToSigned<Words> di;
  const size_t lanes = hn::Lanes(d);
  const size_t plane_stride = a.word_count * lanes, block_stride = plane_stride * a.w_bits;
  const size_t offset = a.offset_bytes + x * a.pixel_stride_bytes;
  WordVector acc[kPixels][kBlocks];
  // Not a loop, which GCC would turn into a call of memset.
#pragma GCC unroll 8
  for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 8
    for (int r = 0; r < kBlocks; ++r) acc[p][r] = hn::Zero(d);
  }
  for (int s = a.w_bits + a.a_bits - 2; s >= 0; --s) {
    for (int p = 0; p < kPixels; ++p) {
      for (int r = 0; r < kBlocks; ++r) acc[p][r] = hn::Add(acc[p][r], acc[p][r]);
    }
    for (int m = std::max(0, s - a.a_bits + 1); m <= std::min(a.w_bits - 1, s); ++m) {
      const PlanePair pair{a.weights + m * plane_stride, block_stride,
                           offset + (s - m) * a.plane_stride_bytes};
      add_bits<kDiffering>(a, pair, acc);
    }
  }
  for (int p = 0; p < kPixels; ++p) {
    const WordVector correction = hn::Set(d, static_cast<uint32_t>(a.corrections[x + p]));
    int32_t* out = a.out + (x + p) * a.out_stride_elems;
    for (int r = 0; r < kBlocks; ++r) {
      const int first = r * static_cast<int>(lanes);
      const WordVector bias = hn::LoadU(d, reinterpret_cast<const uint32_t*>(a.bias) + first);
      WordVector y = hn::Add(correction, bias);
      if constexpr (kDiffering)
        y = hn::BitCast(d, hn::ShiftRightSame(hn::BitCast(di, hn::Sub(y, acc[p][r])), 2 - a.mul));
      else
        y = hn::Add(y, hn::ShiftLeftSame(acc[p][r], a.mul - 1));
      store_channels(y, out + first, a.channels - first);
    }
  }
}

// Tiles of tile_pixels; the last one ends with the row, computing some pixels again rather than fewer.
template <bool kDiffering, int kPixels, int kBlocks>
HWY_NOINLINE void all_pixels(const BitplaneRow& a) {
  if constexpr (kPixels > 1) {
    if (a.tile_pixels < kPixels) return all_pixels<kDiffering, kPixels - 1, kBlocks>(a);
  }
  for (int x = 0; x < a.pixels; x += kPixels)
    tile<kDiffering, kPixels, kBlocks>(a, std::min(x, a.pixels - kPixels));
}

template <bool kDiffering>
HWY_INLINE void all_blocks(const BitplaneRow& a) {
  if (a.blocks == kTileBlocks)
    all_pixels<kDiffering, kTilePixels, kTileBlocks>(a);
  else
    all_pixels<kDiffering, kTilePixels, 1>(a);
}

void row(const BitplaneRow& a) {
  if constexpr (kCountsDiffering != Differing::kNot) {
    if (a.differing) return all_blocks<true>(a);
  }
  all_blocks<false>(a);
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
  return {static_cast<int>(hn::Lanes(Words())),
          kTilePixels,
          kTileBlocks,
          kCountsDiffering,
          name.c_str(),
          row,
          extract,
          sums};
}

#endif

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace bitstrata::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitstrata::kernels {

BitplaneTarget bitplane_target(Isa isa) {
  return KERNEL_TARGET(BitplaneTarget, isa, target);
}

}  // namespace bitstrata::kernels
#endif
