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
#include "kernels/requantize-inl.h"

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
  if (!add) {
    const auto bias = hn::LoadU(d, reinterpret_cast<const uint32_t*>(a.bias + channel));
    sums = hn::Add(sums, hn::Add(bias, hn::Set(d, static_cast<uint32_t>(a.base[pixel]))));
  }
  uint32_t* out = reinterpret_cast<uint32_t*>(a.out + pixel * a.out_stride_elems + channel);
  const size_t bytes = static_cast<size_t>(std::min(count, lanes)) * sizeof(uint32_t);
  HWY_ALIGN uint32_t part[hn::MaxLanes(d)] = {};
  if (add && count >= lanes) {
    sums = hn::Add(sums, hn::LoadU(d, out));
  } else if (add) {
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
  if (a.sums != nullptr) {
    uint16_t* out = a.sums + pixel * a.out_stride_elems + channel;
    if constexpr (!kAcrossPixels || kBlocks == 1) {
      hn::StoreU(sums, Shorts(), out);
    } else if constexpr (kBlocks == 2) {
      if (pixel < a.pixels) hn::StoreU(hn::LowerHalf(half, sums), half, out);
      if (pixel + 1 < a.pixels) hn::StoreU(hn::UpperHalf(half, sums), half, out + a.out_stride_elems);
    } else {
      HWY_ALIGN uint16_t parts[hn::MaxLanes(Shorts())];
      hn::Store(sums, Shorts(), parts);
      constexpr int kPart = kTableBytes / 2;
      for (int i = 0; i < kBlocks && pixel + i < a.pixels; ++i) {
        std::memcpy(out + i * a.out_stride_elems, parts + i * kPart, kPart * sizeof(uint16_t));
      }
    }
    return;
  }
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

template <bool kAcrossPixels, bool kTwoPlanes, int kP, int kV>
HWY_INLINE void finish_tile(const Wide<kTwoPlanes> (&wide)[kP][kV], const LookupTile& a, bool add) {
  constexpr int kPixelsPerVector = kAcrossPixels ? kBlocks : 1;
  constexpr int kChannelsPerVector = (kAcrossPixels ? kTableBytes : kLanes) / (kTwoPlanes ? 2 : 1);
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

template <bool kAcrossPixels, bool kTwoPlanes, int kSteps, int kP, int kV>
HWY_NOINLINE void tile(const LookupTile& a) {
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
    finish_tile<kAcrossPixels>(wide, a, a.add || begin > 0);
  }
}

// Sums, in bytes, of entries that hold two: of whole ones, modulo 256, and of the high halves. Taken by a
// shift of 16 bits, the high half of every even byte comes with the low half of the odd byte beside it on
// top.
template <int kP, int kV>
struct PairSums {
  ByteVector whole[kP][kV], high[kP][kV];

  HWY_INLINE PairSums() {}
  HWY_INLINE void clear() {
    for (int p = 0; p < kP; ++p) {
      for (int v = 0; v < kV; ++v) whole[p][v] = high[p][v] = hn::Zero(Bytes());
    }
  }
  HWY_INLINE void add(int p, int v, ByteVector entries) {
    const ShortVector shifted = hn::ShiftRight<4>(hn::BitCast(Shorts(), entries));
    ByteVector sum = hn::Add(whole[p][v], entries),
               high_sum = hn::Add(high[p][v], hn::BitCast(Bytes(), shifted));
    keep_in_register(sum);
    keep_in_register(high_sum);
    whole[p][v] = sum;
    high[p][v] = high_sum;
  }
  // The first pixels' sums and the second ones'.
  HWY_INLINE ByteVector first(int p, int v) const {
    const ShortVector low_bits = hn::And(hn::BitCast(Shorts(), high[p][v]), hn::Set(Shorts(), 0x0F0F));
    return hn::Sub(whole[p][v], hn::BitCast(Bytes(), hn::ShiftLeft<4>(low_bits)));
  }
  HWY_INLINE ByteVector second(int p, int v, ByteVector firsts) const {
    const ShortVector beside = hn::ShiftRight<4>(hn::BitCast(Shorts(), firsts));
    return hn::Sub(high[p][v], hn::BitCast(Bytes(), hn::And(beside, hn::Set(Shorts(), 0x00F0))));
  }
};

// kPairSteps steps, of which the entries of kHalfSteps can be added before half of one overflows.
template <bool kAcrossPixels, int kHalfSteps, int kP, int kV>
HWY_INLINE void look_up_pairs(const LookupTile& a, int s, PairSums<kP, kV>& sums) {
  const Bytes d;
  constexpr int kIndexBytes = kAcrossPixels ? kTableBytes : kLanes;
  const uint8_t* indices = a.indices + static_cast<ptrdiff_t>(s) * (kV * kIndexBytes);
  ByteVector entries[kP][kV];
  for (int i = 0; i < kPairSteps; ++i, indices += kV * kIndexBytes) {
    const uint8_t* table = a.tables[s + i] + a.first_bytes;
    ByteVector index[kV];
    for (int v = 0; v < kV; ++v) {
      const uint8_t* from = indices + v * kIndexBytes;
      index[v] = kAcrossPixels ? hn::LoadDup128(d, from) : hn::LoadU(d, from);
    }
    for (int p = 0; p < kP; ++p) {
      ByteVector t =
          kAcrossPixels ? hn::LoadU(d, table + p * kLanes) : hn::LoadDup128(d, table + p * kTableBytes);
      keep_in_register(t);
      for (int v = 0; v < kV; ++v) {
        ByteVector entry = hn::TableLookupBytes(t, index[v]);
        if (i % kHalfSteps > 0) entry = hn::Add(entries[p][v], entry);
        keep_in_register(entry);
        entries[p][v] = entry;
        if ((i + 1) % kHalfSteps == 0) sums.add(p, v, entry);
      }
    }
  }
}

template <bool kAcrossPixels, bool kTwoPlanes, int kHalfSteps, int kP, int kV>
HWY_NOINLINE void pair_tile(const LookupTile& a) {
  Wide<kTwoPlanes> first[kP][kV], second[kP][kV];
  for (int p = 0; p < kP; ++p) {
    for (int v = 0; v < kV; ++v) {
      first[p][v].clear();
      second[p][v].clear();
    }
  }
  for (int begin = 0; begin < a.steps; begin += a.flush_steps) {
    const int end = std::min(begin + a.flush_steps, a.steps);
    PairSums<kP, kV> sums;
    sums.clear();
    for (int s = begin; s < end; s += kPairSteps) look_up_pairs<kAcrossPixels, kHalfSteps>(a, s, sums);
    for (int p = 0; p < kP; ++p) {
      for (int v = 0; v < kV; ++v) {
        const ByteVector firsts = sums.first(p, v);
        first[p][v].add(firsts);
        second[p][v].add(sums.second(p, v, firsts));
      }
    }
  }
  finish_tile<kAcrossPixels>(first, a, false);
  LookupTile right = a;
  right.sums += a.second * a.out_stride_elems;
  finish_tile<kAcrossPixels>(second, right, false);
}

template <bool kAcrossPixels, bool kTwoPlanes, int kV,
          int kP = std::min(std::max(kTileVectors / 2 / kV, 1), 8)>
HWY_INLINE void with_pairs(const LookupTile& a, int vectors) {
  if constexpr (kP > 1) {
    if (vectors < kP) return with_pairs<kAcrossPixels, kTwoPlanes, kV, kP - 1>(a, vectors);
  }
  a.half_steps == kPairSteps ? pair_tile<kAcrossPixels, kTwoPlanes, kPairSteps, kP, kV>(a)
                             : pair_tile<kAcrossPixels, kTwoPlanes, 1, kP, kV>(a);
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
  const int vectors = kAcrossPixels ? (a.pixels + kBlocks - 1) / kBlocks : a.pixels;
  if constexpr (kV <= kIndexVectors) {
    if (a.half_steps > 0) return with_pairs<kAcrossPixels, kTwoPlanes, kV>(a, vectors);
  }
  with_pixels<kAcrossPixels, kTwoPlanes, kV>(a, vectors);
}

void any_tile(const LookupTile& a) {
  if (a.across_pixels) {
    a.two_planes ? with_vectors<kBlocks != 1, true>(a) : with_vectors<kBlocks != 1, false>(a);
  } else {
    a.two_planes ? with_vectors<false, true>(a) : with_vectors<false, false>(a);
  }
}

// A few vectors of channels of all pixels: what belongs to the channels stays in registers.
template <bool kCodes>
HWY_INLINE void finish_channels(const LookupEnd& a, int channel) {
  const Words d;
  const hn::Rebind<int32_t, Words> d32;
  const hn::Rebind<float, Words> df;
  const hn::Rebind<uint16_t, Words> d16;
  constexpr int kVectors = 2, kWords = kLanes / 4;
  const int shift = a.shift, count = std::min(a.channels - channel, kVectors * kWords);
  WordVector bias[kVectors];
  hn::Vec<decltype(df)> mul[kVectors], add[kVectors];
  for (int i = 0; i < kVectors; ++i) {
    const int at = channel + i * kWords;
    bias[i] = hn::LoadU(d, reinterpret_cast<const uint32_t*>(a.bias + at));
    if constexpr (kCodes) {
      mul[i] = hn::LoadU(df, a.end.mul + at);
      add[i] = hn::LoadU(df, a.end.add + at);
    }
  }
  // Copies: a store of bytes may change what `a` refers to, as far as the compiler knows.
  const float inverse = a.end.inverse;
  const int max_code = a.end.max_code, pixels = a.pixels;
  const size_t from_stride = a.sums_stride_elems, stride = a.out_stride_elems;
  const uint16_t* from = a.sums + channel;
  const int32_t* bases = a.base;
  uint8_t* codes_out = a.codes;
  size_t at = static_cast<size_t>(channel);
  for (int p = 0; p < pixels; ++p, from += from_stride, at += stride) {
    const WordVector base = hn::Set(d, static_cast<uint32_t>(bases[p]));
    WordVector sum[kVectors];
    for (int i = 0; i < kVectors; ++i) {
      const WordVector wide = hn::PromoteTo(d, hn::LoadU(d16, from + i * kWords));
      sum[i] = hn::Add(hn::ShiftLeftSame(wide, shift), hn::Add(bias[i], base));
    }
    if constexpr (kCodes) {
      hn::Vec<decltype(d32)> codes[kVectors];
      for (int i = 0; i < kVectors; ++i) {
        const auto y = hn::Add(hn::Mul(hn::ConvertTo(df, hn::BitCast(d32, sum[i])), mul[i]), add[i]);
        codes[i] = codes_of(df, y, inverse, 0, max_code);
      }
      if (count == kVectors * kWords) {
        store_bytes(codes, codes_out + at);
      } else {
        uint8_t part[kVectors * kWords];
        store_bytes(codes, part);
        std::memcpy(codes_out + at, part, static_cast<size_t>(count));
      }
    } else {
      HWY_ALIGN int32_t part[kVectors * kWords];
      int32_t* out = count == kVectors * kWords ? a.out + at : part;
      for (int i = 0; i < kVectors; ++i) hn::StoreU(hn::BitCast(d32, sum[i]), d32, out + i * kWords);
      if (out == part) std::memcpy(a.out + at, part, static_cast<size_t>(count) * sizeof(int32_t));
    }
  }
}

void finish_pixels(const LookupEnd& a) {
  for (int channel = 0; channel < a.channels; channel += kLanes / 2) {
    a.codes != nullptr ? finish_channels<true>(a, channel) : finish_channels<false>(a, channel);
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
  const auto load = [&](const uint8_t* codes, int c) HWY_ATTR {
    const ByteVector v = load_codes(d, codes, a.pixel_stride_bytes);
    return c + 16 > a.channels ? hn::And(v, hn::LoadDup128(d, kFirstBytes + 16 - (a.channels - c))) : v;
  };
  using SumVector = hn::Vec<hn::Repartition<uint64_t, Bytes>>;
  const auto store_sums = [&](SumVector sums, int x) HWY_ATTR {
    HWY_ALIGN uint64_t halves[2 * kBlocks];
    hn::Store(sums, d64, halves);
    for (int i = 0; i < kBlocks; ++i) {
      a.sums[x + i] = static_cast<int32_t>(static_cast<uint32_t>(halves[2 * i] + halves[2 * i + 1]));
    }
  };
  for (int next = 0; next < a.pixels; next += kBlocks) {
    const int x = std::min(next, a.pixels - kBlocks);
    const uint8_t* codes = a.codes + x * a.pixel_stride_bytes;
    uint8_t* tables = a.tables + static_cast<size_t>(x * kTableBytes);
    auto sums = hn::Zero(d64), second_sums = hn::Zero(d64);
    for (int c = 0; c < a.channels; c += 16, codes += 16) {
      const ByteVector of_first = load(codes, c);
      ByteVector v = of_first;
      sums = hn::Add(sums, hn::SumsOf8(of_first));
      if (a.second > 0) {
        const ByteVector of_second = load(codes + a.second * a.pixel_stride_bytes, c);
        second_sums = hn::Add(second_sums, hn::SumsOf8(of_second));
        // Codes of two bits at most: nothing crosses to the next byte.
        v = hn::Or(v, hn::BitCast(d, hn::ShiftLeft<4>(hn::BitCast(d16, of_second))));
      }
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
    store_sums(sums, x);
    if (a.second > 0) store_sums(second_sums, x + a.second);
  }
}

LookupTarget target() {
  static const std::string name = std::string("highway ") + hwy::TargetName(HWY_TARGET);
  return {kLanes, kTileVectors, kIndexVectors, name.c_str(), any_tile, finish_pixels, make_tables};
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
