// One source for every vector instruction set: Highway includes this file once per target.
#include <algorithm>
#include <cstring>
#include <string>

#include "kernels/lookup.h"

#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/lookup_simd.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/highway_target.h"

HWY_BEFORE_NAMESPACE();
namespace bitstrata::kernels {
namespace HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

[[maybe_unused]] LookupTarget target() {
  return {};
}

#else

namespace hn = hwy::HWY_NAMESPACE;
using Bytes = hn::ScalableTag<uint8_t>;
using Shorts = hn::ScalableTag<uint16_t>;
using Words = hn::ScalableTag<uint32_t>;
using ByteVector = hn::Vec<Bytes>;
using ShortVector = hn::Vec<Shorts>;
using WordVector = hn::Vec<Words>;

constexpr int kLanes = static_cast<int>(hn::MaxLanes(Bytes()));
constexpr int kBlocks = kLanes / kTableBytes;

/// Registers: accumulators of bytes that fit, with what else a step needs.
#if HWY_TARGET == HWY_AVX3
constexpr int kTileVectors = 16, kIndexVectors = 2;
#else
constexpr int kTileVectors = 8, kIndexVectors = 2;
#endif

// Sums of bytes in 16-bit lanes, of one byte vector. `direct` sums are complete; otherwise lane i of `whole`
// holds even + 256 * odd byte modulo 2^16, from which the even one follows, once the odd ones are summed.
template <bool kTwoPlanes>
struct Wide {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  static constexpr bool kDirect = kTwoPlanes;
#else
  static constexpr bool kDirect = false;
#endif
  ShortVector whole, odd;

  // Written out: for NEON, GCC 12 compiles an implicit one without the target's instructions.
  HWY_INLINE Wide() {}
  HWY_INLINE void clear() {
    whole = hn::Zero(Shorts());
    odd = hn::Zero(Shorts());
  }
  HWY_INLINE void add(ByteVector bytes) {
    if constexpr (kDirect) {
      whole = hn::Add(whole, weigh_planes(bytes));
    } else {
      const ShortVector v = hn::BitCast(Shorts(), bytes);
      whole = hn::Add(whole, v);
      odd = hn::Add(odd, hn::ShiftRight<8>(v));
    }
  }
  HWY_INLINE ShortVector even() const {
    return hn::Sub(whole, hn::ShiftLeft<8>(odd));
  }

 private:
  static HWY_INLINE ShortVector weigh_planes(ByteVector bytes) {
#if HWY_TARGET == HWY_AVX2
    return ShortVector{_mm256_maddubs_epi16(bytes.raw, _mm256_set1_epi16(0x0201))};
#elif HWY_TARGET == HWY_AVX3
    return ShortVector{_mm512_maddubs_epi16(bytes.raw, _mm512_set1_epi16(0x0201))};
#else
    return hn::BitCast(Shorts(), bytes);
#endif
  }
};

template <class D>
HWY_INLINE void store(D d, hn::Vec<D> sums, const LookupTile& a, bool add, int pixel, int channel) {
  const int count = a.channels - channel, lanes = static_cast<int>(hn::Lanes(d));
  if (count <= 0) return;
  uint32_t* out = reinterpret_cast<uint32_t*>(a.out + pixel * a.out_stride_elems + channel);
  const size_t bytes = static_cast<size_t>(std::min(count, lanes)) * sizeof(uint32_t);
  HWY_ALIGN uint32_t part[hn::MaxLanes(d)] = {};
  if (!add) {
    const auto bias = hn::LoadU(d, reinterpret_cast<const uint32_t*>(a.bias + channel));
    sums = hn::Add(sums, hn::Add(bias, hn::Set(d, static_cast<uint32_t>(a.base[pixel]))));
  } else if (count >= lanes) {
    sums = hn::Add(sums, hn::LoadU(d, out));
  } else {
    std::memcpy(part, out, bytes);
    sums = hn::Add(sums, hn::Load(d, part));
  }
  if (count >= lanes) {
    hn::StoreU(sums, d, out);
  } else {
    hn::Store(sums, d, part);
    std::memcpy(out, part, bytes);
  }
}

// One 16-bit vector of sums: of consecutive channels of one pixel, or of 8 channels per pixel.
template <bool kAcrossPixels>
HWY_INLINE void finish(ShortVector sums, const LookupTile& a, bool add, int pixel, int channel) {
  const hn::Half<Shorts> half;
  const Words d;
  const int shift = a.shift;
  const WordVector low = hn::ShiftLeftSame(hn::PromoteTo(d, hn::LowerHalf(half, sums)), shift);
  const WordVector high = hn::ShiftLeftSame(hn::PromoteTo(d, hn::UpperHalf(half, sums)), shift);
  constexpr int kWords = kLanes / 4;
  if constexpr (!kAcrossPixels || kBlocks == 1) {
    store(d, low, a, add, pixel, channel);
    store(d, high, a, add, pixel, channel + kWords);
  } else if constexpr (kBlocks == 2) {
    if (pixel < a.pixels) store(d, low, a, add, pixel, channel);
    if (pixel + 1 < a.pixels) store(d, high, a, add, pixel + 1, channel);
  } else {
    const hn::Half<Words> h;
    if (pixel < a.pixels) store(h, hn::LowerHalf(h, low), a, add, pixel, channel);
    if (pixel + 1 < a.pixels) store(h, hn::UpperHalf(h, low), a, add, pixel + 1, channel);
    if (pixel + 2 < a.pixels) store(h, hn::LowerHalf(h, high), a, add, pixel + 2, channel);
    if (pixel + 3 < a.pixels) store(h, hn::UpperHalf(h, high), a, add, pixel + 3, channel);
  }
}

// Holds GCC 12 to the order written, in which a step takes the fewest registers; left alone it loads tables
// once per use, moves sums around and spills some in the innermost loop.
HWY_INLINE void keep_in_register(ByteVector& v) {
#if HWY_ARCH_X86 && HWY_COMPILER_GCC
  asm volatile("" : "+v"(v.raw));
#else
  (void)v;
#endif
}

// sum = or += entries of one step.
template <bool kAcrossPixels, bool kSet, int kP, int kV>
HWY_INLINE void look_up(const uint8_t* table, const uint8_t* indices, ByteVector (&sum)[kP][kV]) {
  const Bytes d;
  ByteVector index[kV];
  for (int v = 0; v < kV; ++v) {
    index[v] =
        kAcrossPixels ? hn::LoadDup128(d, indices + v * kTableBytes) : hn::LoadU(d, indices + v * kLanes);
  }
  for (int p = 0; p < kP; ++p) {
    ByteVector t =
        kAcrossPixels ? hn::LoadU(d, table + p * kLanes) : hn::LoadDup128(d, table + p * kTableBytes);
    keep_in_register(t);
    for (int v = 0; v < kV; ++v) {
      ByteVector entry = hn::TableLookupBytes(t, index[v]);
      if constexpr (!kSet) entry = hn::Add(sum[p][v], entry);
      keep_in_register(entry);
      sum[p][v] = entry;
    }
  }
}

// Steps [s, s + kSteps).
template <bool kAcrossPixels, bool kSet, int kSteps, int kP, int kV>
HWY_INLINE void look_up_steps(const LookupTile& a, int s, ByteVector (&sum)[kP][kV]) {
  constexpr int kIndexBytes = kV * (kAcrossPixels ? kTableBytes : kLanes);
  const uint8_t* indices = a.indices + static_cast<ptrdiff_t>(s) * kIndexBytes;
  const uint8_t* const* tables = a.tables + s;
  look_up<kAcrossPixels, kSet>(tables[0] + a.first_bytes, indices, sum);
  for (int i = 1; i < kSteps; ++i) {
    look_up<kAcrossPixels, false>(tables[i] + a.first_bytes, indices + i * kIndexBytes, sum);
  }
}

template <bool kAcrossPixels, bool kTwoPlanes, int kSteps, int kP, int kV>
HWY_NOINLINE void tile(const LookupTile& a) {
  constexpr int kPixelsPerVector = kAcrossPixels ? kBlocks : 1;
  constexpr int kChannelsPerVector = (kAcrossPixels ? kTableBytes : kLanes) / (kTwoPlanes ? 2 : 1);
  for (int begin = 0; begin < a.steps; begin += a.widen_steps) {
    const int end = std::min(begin + a.widen_steps, a.steps);
    Wide<kTwoPlanes> wide[kP][kV];
    for (int p = 0; p < kP; ++p) {
      for (int v = 0; v < kV; ++v) wide[p][v].clear();
    }
    for (int first = begin; first < end; first += a.flush_steps) {
      const int last = std::min(first + a.flush_steps, end);
      ByteVector sum[kP][kV];
      look_up_steps<kAcrossPixels, true, kSteps>(a, first, sum);
      for (int s = first + kSteps; s < last; s += kSteps) {
        look_up_steps<kAcrossPixels, false, kSteps>(a, s, sum);
      }
      for (int p = 0; p < kP; ++p) {
        for (int v = 0; v < kV; ++v) wide[p][v].add(sum[p][v]);
      }
    }
    const bool add = a.add || begin > 0;
    for (int p = 0; p < kP; ++p) {
      for (int v = 0; v < kV; ++v) {
        const Wide<kTwoPlanes>& w = wide[p][v];
        const int pixel = p * kPixelsPerVector, channel = v * kChannelsPerVector;
        if constexpr (Wide<kTwoPlanes>::kDirect) {
          finish<kAcrossPixels>(w.whole, a, add, pixel, channel);
        } else if constexpr (kTwoPlanes) {
          finish<kAcrossPixels>(hn::Add(w.even(), hn::Add(w.odd, w.odd)), a, add, pixel, channel);
        } else {
          finish<kAcrossPixels>(w.even(), a, add, pixel, channel);
          finish<kAcrossPixels>(w.odd, a, add, pixel, channel + kChannelsPerVector / 2);
        }
      }
    }
  }
}

template <bool kAcrossPixels, bool kTwoPlanes, int kV, int kP = std::min(kTileVectors / kV, 8)>
HWY_INLINE void with_pixels(const LookupTile& a, int vectors) {
  if constexpr (kP > 1) {
    if (vectors < kP) return with_pixels<kAcrossPixels, kTwoPlanes, kV, kP - 1>(a, vectors);
  }
  a.flush_steps % kStepsAtOnce == 0 ? tile<kAcrossPixels, kTwoPlanes, kStepsAtOnce, kP, kV>(a)
                                    : tile<kAcrossPixels, kTwoPlanes, 1, kP, kV>(a);
}

template <bool kAcrossPixels, bool kTwoPlanes, int kV = kAcrossPixels ? kIndexVectors : 8>
HWY_INLINE void with_vectors(const LookupTile& a) {
  if constexpr (kV > 1) {
    if (a.vectors < kV) return with_vectors<kAcrossPixels, kTwoPlanes, kV / 2>(a);
  }
  with_pixels<kAcrossPixels, kTwoPlanes, kV>(a,
                                             kAcrossPixels ? (a.pixels + kBlocks - 1) / kBlocks : a.pixels);
}

void any_tile(const LookupTile& a) {
  if (a.across_pixels) {
    a.two_planes ? with_vectors<kBlocks != 1, true>(a) : with_vectors<kBlocks != 1, false>(a);
  } else {
    a.two_planes ? with_vectors<false, true>(a) : with_vectors<false, false>(a);
  }
}

// 16 codes of each of the pixels that the vector takes.
template <class D>
HWY_INLINE hn::Vec<D> load_codes(D d, const uint8_t* codes, size_t stride) {
  if constexpr (hn::MaxLanes(D()) == kTableBytes) {
    return hn::LoadU(d, codes);
  } else {
    const hn::Half<D> half;
    const size_t pixels = hn::MaxLanes(half) / kTableBytes;
    return hn::Combine(d, load_codes(half, codes + pixels * stride, stride), load_codes(half, codes, stride));
  }
}

// Entry i of the table of codes a b c d is the sum of an entry of 0 a b a+b (by bits 0 and 1) and one of
// 0 c d c+d. Interleaved with the sums of neighbours, eight codes a b c d e f g h are
// a a+b b . c c+d d . e e+f f . g g+h h . in one block.
constexpr uint8_t kNone = 0x80;
alignas(16) constexpr uint8_t kFirstPair[16] = {kNone, 0, 2, 1, kNone, 0, 2, 1,
                                                kNone, 0, 2, 1, kNone, 0, 2, 1};
alignas(16) constexpr uint8_t kSecondPair[16] = {kNone, kNone, kNone, kNone, 4, 4, 4, 4,
                                                 6,     6,     6,     6,     5, 5, 5, 5};

// Loaded at 16 - n: the first n bytes set.
alignas(16) constexpr uint8_t kFirstBytes[32] = {255, 255, 255, 255, 255, 255, 255, 255,
                                                 255, 255, 255, 255, 255, 255, 255, 255};

void make_tables(const LookupRow& a) {
  const Bytes d;
  const Shorts d16;
  const hn::Repartition<uint64_t, Bytes> d64;
  const ByteVector eight = hn::Set(d, 8);
  const ByteVector first_even = hn::LoadDup128(d, kFirstPair), second_even = hn::LoadDup128(d, kSecondPair);
  const ByteVector first_odd = hn::Add(first_even, eight), second_odd = hn::Add(second_even, eight);
  if (a.pixels < kBlocks) return make_tables_scalar(a);
  for (int next = 0; next < a.pixels; next += kBlocks) {
    const int x = std::min(next, a.pixels - kBlocks);
    const uint8_t* codes = a.codes + x * a.pixel_stride_bytes;
    uint8_t* tables = a.tables + static_cast<size_t>(x * kTableBytes);
    auto sums = hn::Zero(d64);
    for (int c = 0; c < a.channels; c += 16, codes += 16) {
      ByteVector v = load_codes(d, codes, a.pixel_stride_bytes);
      if (c + 16 > a.channels) v = hn::And(v, hn::LoadDup128(d, kFirstBytes + 16 - (a.channels - c)));
      sums = hn::Add(sums, hn::SumsOf8(v));
      const ByteVector neighbours = hn::Add(v, hn::BitCast(d, hn::ShiftRight<8>(hn::BitCast(d16, v))));
      const ByteVector low = hn::InterleaveLower(d, v, neighbours),
                       high = hn::InterleaveUpper(d, v, neighbours);
      const auto make = [&](ByteVector parts, ByteVector first, ByteVector second) HWY_ATTR {
        hn::StoreU(hn::Add(hn::TableLookupBytesOr0(parts, first), hn::TableLookupBytesOr0(parts, second)), d,
                   tables);
        tables += a.row_stride_bytes;
      };
      make(low, first_even, second_even);
      if (c + 4 < a.channels) make(low, first_odd, second_odd);
      if (c + 8 < a.channels) make(high, first_even, second_even);
      if (c + 12 < a.channels) make(high, first_odd, second_odd);
    }
    HWY_ALIGN uint64_t halves[2 * kBlocks];
    hn::Store(sums, d64, halves);
    for (int i = 0; i < kBlocks; ++i) {
      a.sums[x + i] = static_cast<int32_t>(static_cast<uint32_t>(halves[2 * i] + halves[2 * i + 1]));
    }
  }
}

LookupTarget target() {
  static const std::string name = std::string("highway ") + hwy::TargetName(HWY_TARGET);
  return {kLanes, kTileVectors, kIndexVectors, name.c_str(), any_tile, make_tables};
}

#endif

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace bitstrata::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitstrata::kernels {

LookupTarget lookup_target(Isa isa) {
  return KERNEL_TARGET(LookupTarget, isa, target);
}

}  // namespace bitstrata::kernels
#endif
