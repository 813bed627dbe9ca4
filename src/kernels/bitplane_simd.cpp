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

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

BitplaneTarget target() {
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

#if HWY_TARGET == HWY_AVX3_DL

// acc[p][r] += number of bits that the weights of block r and pixel p have in common, in one pair of planes.
template <int kPixels, int kBlocks>
HWY_INLINE void add_common_bits(const BitplaneRow& a, const uint32_t* weights, size_t block_stride,
                                const uint8_t* plane, WordVector (&acc)[kPixels][kBlocks]) {
  const Words d;
  for (int i = 0; i < a.words; ++i) {
    const uint8_t* at = plane + a.word_offsets_bytes[i];
    WordVector w[kBlocks];
    for (int r = 0; r < kBlocks; ++r) w[r] = hn::LoadU(d, weights + r * block_stride + i * hn::Lanes(d));
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

// As above, counting in byte lanes, which are widened before 8 bits more could overflow them.
template <int kPixels, int kBlocks>
HWY_INLINE void add_common_bits(const BitplaneRow& a, const uint32_t* weights, size_t block_stride,
                                const uint8_t* plane, WordVector (&acc)[kPixels][kBlocks]) {
  constexpr int kMaxSteps = 255 / 8;
  const Words d;
  const Bytes d8;
  for (int first = 0; first < a.words; first += kMaxSteps) {
    const int last = std::min(first + kMaxSteps, a.words);
    ByteVector counts[kPixels][kBlocks];
    for (int p = 0; p < kPixels; ++p) {
      for (int r = 0; r < kBlocks; ++r) counts[p][r] = hn::Zero(d8);
    }
    for (int i = first; i < last; ++i) {
      const uint8_t* at = plane + a.word_offsets_bytes[i];
      WordVector w[kBlocks];
      for (int r = 0; r < kBlocks; ++r) w[r] = hn::LoadU(d, weights + r * block_stride + i * hn::Lanes(d));
      for (int p = 0; p < kPixels; ++p) {
        const WordVector v = broadcast_word(at + p * a.pixel_stride_bytes);
        for (int r = 0; r < kBlocks; ++r) {
          counts[p][r] = hn::Add(counts[p][r], hn::PopulationCount(hn::BitCast(d8, hn::And(w[r], v))));
        }
      }
    }
    for (int p = 0; p < kPixels; ++p) {
      for (int r = 0; r < kBlocks; ++r) acc[p][r] = hn::Add(acc[p][r], sum_bytes_of_words(counts[p][r]));
    }
  }
}

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

// Pixels [x, x + kPixels) and blocks [block, block + kBlocks). Planes are taken in order of falling weight
// 2^s, the running sum doubled in between, so that one accumulator per output suffices.
template <int kPixels, int kBlocks>
HWY_NOINLINE void tile(const BitplaneRow& a, int x, int block) {
  const Words d;
  const size_t lanes = hn::Lanes(d);
  const size_t plane_stride = a.words * lanes, block_stride = plane_stride * a.w_bits;
  const uint32_t* weights = a.weights + block * block_stride;
  const uint8_t* pixel = a.planes + x * a.pixel_stride_bytes;
  WordVector acc[kPixels][kBlocks];
  for (int p = 0; p < kPixels; ++p) {
    for (int r = 0; r < kBlocks; ++r) acc[p][r] = hn::Zero(d);
  }
  for (int s = a.w_bits + a.a_bits - 2; s >= 0; --s) {
    for (int p = 0; p < kPixels; ++p) {
      for (int r = 0; r < kBlocks; ++r) acc[p][r] = hn::Add(acc[p][r], acc[p][r]);
    }
    for (int m = std::max(0, s - a.a_bits + 1); m <= std::min(a.w_bits - 1, s); ++m) {
      add_common_bits<kPixels, kBlocks>(a, weights + m * plane_stride, block_stride,
                                        pixel + (s - m) * a.plane_stride_bytes, acc);
    }
  }
  const WordVector mul = hn::Set(d, static_cast<uint32_t>(a.mul));
  for (int p = 0; p < kPixels; ++p) {
    const uint32_t sum = static_cast<uint32_t>(a.pixel_sums[x + p]) * static_cast<uint32_t>(a.offset);
    int32_t* out = a.out + (x + p) * a.out_stride_elems;
    for (int r = 0; r < kBlocks; ++r) {
      const int first = (block + r) * static_cast<int>(lanes);
      const WordVector bias = hn::LoadU(d, reinterpret_cast<const uint32_t*>(a.bias) + first);
      const WordVector y = hn::Add(hn::Mul(acc[p][r], mul), hn::Add(hn::Set(d, sum), bias));
      store_channels(y, out + first, a.channels - first);
    }
  }
}

// Registers allow 8 accumulators of 512 bits with 32 registers, 4 with 16.
#if HWY_TARGET == HWY_AVX2
constexpr int kTilePixels = 2;
#else
constexpr int kTilePixels = 4;
#endif

template <int kBlocks>
HWY_INLINE void all_pixels(const BitplaneRow& a, int block) {
  int x = 0;
  for (; x + kTilePixels <= a.pixels; x += kTilePixels) tile<kTilePixels, kBlocks>(a, x, block);
  if constexpr (kTilePixels > 2) {
    if (x + 2 <= a.pixels) {
      tile<2, kBlocks>(a, x, block);
      x += 2;
    }
  }
  if (x < a.pixels) tile<1, kBlocks>(a, x, block);
}

void row(const BitplaneRow& a) {
  int block = 0;
  for (; block + 2 <= a.blocks; block += 2) all_pixels<2>(a, block);
  if (block < a.blocks) all_pixels<1>(a, block);
}

void extract(const uint8_t* codes, size_t count, int bits, uint8_t* planes, size_t plane_stride_bytes) {
  const Bytes d8;
  const size_t lanes = hn::Lanes(d8);
  const size_t step = std::max<size_t>(lanes, 32);
  size_t i = 0;
  for (; i + step <= count; i += step) {
    for (size_t part = 0; part < step; part += lanes) {
      const ByteVector v = hn::LoadU(d8, codes + i + part);
      for (int k = 0; k < bits; ++k) {
        const ByteVector bit = hn::Set(d8, static_cast<uint8_t>(1 << k));
        uint8_t mask[8];  // StoreMaskBits may write 8 bytes
        hn::StoreMaskBits(d8, hn::TestBit(v, bit), mask);
        std::memcpy(planes + k * plane_stride_bytes + (i + part) / 8, mask, lanes / 8);
      }
    }
  }
  if (i < count) extract_planes_scalar(codes + i, count - i, bits, planes + i / 8, plane_stride_bytes);
}

int32_t sum(const uint8_t* codes, size_t count) {
  const Bytes d8;
  const hn::Repartition<uint64_t, Bytes> d64;
  const size_t lanes = hn::Lanes(d8);
  auto sums = hn::Zero(d64);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) sums = hn::Add(sums, hn::SumsOf8(hn::LoadU(d8, codes + i)));
  uint32_t total = static_cast<uint32_t>(hn::GetLane(hn::SumOfLanes(d64, sums)));
  for (; i < count; ++i) total += codes[i];
  return static_cast<int32_t>(total);
}

BitplaneTarget target() {
  static const std::string name = std::string("highway ") + hwy::TargetName(HWY_TARGET);
  return {static_cast<int>(hn::Lanes(Words())), name.c_str(), row, extract, sum};
}

#endif

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
