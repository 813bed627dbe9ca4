// One source for every vector instruction set: Highway includes this file once per target.
#include <algorithm>
#include <string>

#include "kernels/narrow.h"
#include "kernels/winograd.h"

#define HWY_WANT_AVX3_DL
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/winograd_simd.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/highway_target.h"
#include "kernels/narrow_products-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bitstrata::kernels {
namespace HWY_NAMESPACE {
namespace {

#if !BITSTRATA_NARROW_PRODUCTS || HWY_TARGET == HWY_NEON

[[maybe_unused]] WinogradTarget target() {
  return {};
}

#else

template <typename T>
HWY_INLINE hn::Vec<hn::ScalableTag<T>> load_codes(const uint8_t* from) {
  const hn::ScalableTag<T> d;
  if constexpr (sizeof(T) == 1) {
    return hn::LoadU(d, from);
  } else {
    return hn::PromoteTo(d, hn::LoadU(hn::Rebind<uint8_t, decltype(d)>(), from));
  }
}

template <typename T>
void columns_of(const WinogradColumns& a) {
  const hn::ScalableTag<T> d;
  const size_t lanes = hn::Lanes(d);
  for (int tile = 0; tile < a.tiles; ++tile) {
    const uint8_t* pixels[4];
    for (int i = 0; i < 4; ++i)
      pixels[i] = a.codes + size_t{1} * std::min(2 * tile + i, a.pixels - 1) * a.channels;
    uint8_t* out = a.out + size_t{1} * tile * a.padded_channels * sizeof(T);
    for (size_t c = 0; c < static_cast<size_t>(a.channels); c += lanes) {
      const auto d0 = load_codes<T>(pixels[0] + c), d1 = load_codes<T>(pixels[1] + c);
      const auto d2 = load_codes<T>(pixels[2] + c), d3 = load_codes<T>(pixels[3] + c);
      const auto store = [&](int part, auto value) {
        hn::StoreU(value, d, reinterpret_cast<T*>(out + part * a.part_bytes) + c);
      };
      store(0, hn::Sub(d0, d2));
      store(1, hn::Add(d1, d2));
      store(2, hn::Sub(d2, d1));
      store(3, hn::Sub(d1, d3));
    }
  }
}

void columns(const WinogradColumns& a) {
  a.wide ? columns_of<uint16_t>(a) : columns_of<uint8_t>(a);
}

template <typename T>
void rows_of(const WinogradRows& a) {
  const hn::ScalableTag<T> d;
  const size_t lanes = hn::Lanes(d);
  const auto shift = hn::Set(d, a.shift), none = hn::Zero(d);
  for (int part = 0; part < 4; ++part) {
    const auto row = [&](int i) { return reinterpret_cast<const T*>(a.rows[i] + part * a.part_bytes); };
    const T *row0 = row(0), *row1 = row(1), *row2 = row(2), *row3 = row(3);
    const auto out = [&](int i) { return reinterpret_cast<T*>(a.out + (4 * i + part) * a.position_bytes); };
    T *out0 = out(0), *out1 = out(1), *out2 = out(2), *out3 = out(3);
    const auto shift1 = part == 1 ? none : shift;
    for (size_t i = 0; i < a.elements; i += lanes) {
      const auto d0 = hn::LoadU(d, row0 + i), d1 = hn::LoadU(d, row1 + i);
      const auto d2 = hn::LoadU(d, row2 + i), d3 = hn::LoadU(d, row3 + i);
      hn::StoreU(hn::Add(hn::Sub(d0, d2), shift), d, out0 + i);
      hn::StoreU(hn::Add(hn::Add(d1, d2), shift1), d, out1 + i);
      hn::StoreU(hn::Add(hn::Sub(d2, d1), shift), d, out2 + i);
      hn::StoreU(hn::Add(hn::Sub(d1, d3), shift), d, out3 + i);
    }
  }
}

void rows(const WinogradRows& a) {
  a.wide ? rows_of<uint16_t>(a) : rows_of<uint8_t>(a);
}

/// The products of one tile of pixels and blocks.
struct Tile {
  const uint8_t* values;  ///< of the first pixel
  size_t pixel_bytes;
  const uint8_t* weights;
  int steps;
  size_t ahead_bytes;  ///< from the weights to those that come next
  int32_t* out;
  size_t out_stride_elems;
  bool adds;  ///< to what is there
};

// Registers: a sum per pixel and block, a weight per block, a code and a product; for groups of four steps
// four weights of one block.
#if HWY_TARGET == HWY_AVX2
constexpr int kMaxPixels = 6, kMaxPixelsOfGroups = 5;
#else
constexpr int kMaxPixels = 10, kMaxPixelsOfGroups = 10;
#endif

// Keeps the compiler from computing later products first, whose operands then push sums out of registers.
template <class Vector>
HWY_INLINE void keep_order(Vector& sum) {
  asm volatile("" : "+v"(sum.raw));
}

template <class Products, int kPixels, int kBlocks>
HWY_INLINE void finish(const Tile& a, const typename Products::Sums (&sums)[kPixels][kBlocks]) {
  const Words d;
  uint32_t* out = reinterpret_cast<uint32_t*>(a.out);
  UNROLL
  for (int p = 0; p < kPixels; ++p, out += a.out_stride_elems) {
    UNROLL
    for (int r = 0; r < kBlocks; ++r) {
      uint32_t* to = out + r * hn::Lanes(d);
      const WordVector sum = Products::widen(sums[p][r]);
      hn::StoreU(a.adds ? hn::Add(sum, hn::LoadU(d, to)) : sum, d, to);
    }
  }
}

// Sums over all steps in the form that Products have.
template <class Products, int kPixels, int kBlocks>
HWY_NOINLINE void plain_tile(const Tile& a) {
  const Bytes d8;
  typename Products::Sums sums[kPixels][kBlocks];
  UNROLL
  for (int p = 0; p < kPixels; ++p) {
    UNROLL
    for (int r = 0; r < kBlocks; ++r) sums[p][r] = Products::zero();
  }
  const uint8_t *values = a.values, *weights = a.weights;
  const size_t pixel_bytes = a.pixel_bytes, ahead_bytes = a.ahead_bytes;
  for (int i = 0; i < a.steps; ++i, values += 4, weights += kBlocks * hn::Lanes(d8)) {
    ByteVector w[kBlocks];
    UNROLL
    for (int r = 0; r < kBlocks; ++r) {
      w[r] = hn::LoadU(d8, weights + r * hn::Lanes(d8));
      __builtin_prefetch(weights + r * hn::Lanes(d8) + ahead_bytes);
    }
    UNROLL
    for (int p = 0; p < kPixels; ++p) {
      const ByteVector v = broadcast_four(values + p * pixel_bytes);
      UNROLL
      for (int r = 0; r < kBlocks; ++r) {
        sums[p][r] = Products::add(sums[p][r], v, w[r]);
        keep_order(sums[p][r]);
      }
    }
  }
  finish<Products>(a, sums);
}

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

// sums + pairs of `shorts`. The factors are read from memory, since sums need the registers.
HWY_INLINE WordVector add_pairs(WordVector sums, ByteProducts::Sums shorts) {
  HWY_ALIGN static constexpr int16_t kOnes[32] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                                  1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  asm("vpmaddwd %1, %0, %0" : "+v"(shorts.raw) : "m"(*reinterpret_cast<const decltype(shorts.raw)*>(kOnes)));
  return hn::Add(sums, hn::BitCast(Words(), shorts));
}

// broadcast_four(row + at + kOffset), written out so that it is neither kept in a register from one block to
// the next nor given an address register of its own.
template <int kOffset>
HWY_INLINE ByteVector broadcast_at(const uint8_t* row, size_t at) {
  ByteVector v;
  asm volatile("vpbroadcastd %c3(%1,%2), %0" : "=v"(v.raw) : "r"(row), "r"(at), "i"(kOffset) : "memory");
  return v;
}

// Products of steps [kStep, kGroup) behind `at`.
template <int kStep, int kGroup>
HWY_INLINE void add_steps(const uint8_t* row, size_t at, const ByteVector (&w)[kGroup],
                          ByteProducts::Sums& sum) {
  if constexpr (kStep < kGroup) {
    sum = ByteProducts::add(sum, broadcast_at<4 * kStep>(row, at), w[kStep]);
    keep_order(sum);
    add_steps<kStep + 1>(row, at, w, sum);
  }
}

// 16-bit sums over kGroup steps at a time, added up in 32 bits.
template <int kGroup, int kPixels, int kBlocks>
HWY_INLINE void add_group(const uint8_t* const (&rows)[kPixels], size_t at, const uint8_t* weights,
                          WordVector (&sums)[kPixels][kBlocks]) {
  const Bytes d8;
  UNROLL
  for (int r = 0; r < kBlocks; ++r) {
    ByteVector w[kGroup];
    UNROLL
    for (int i = 0; i < kGroup; ++i) w[i] = hn::LoadU(d8, weights + (i * kBlocks + r) * hn::Lanes(d8));
    UNROLL
    for (int p = 0; p < kPixels; ++p) {
      auto sum = ByteProducts::zero();
      add_steps<0>(rows[p], at, w, sum);
      sums[p][r] = add_pairs(sums[p][r], sum);
      keep_order(sums[p][r]);
    }
  }
}

template <int kGroup, int kPixels, int kBlocks>
HWY_NOINLINE void grouped_tile(const Tile& a) {
  const size_t step_bytes = kBlocks * hn::Lanes(Bytes());
  WordVector sums[kPixels][kBlocks];
  const uint8_t* rows[kPixels];
  UNROLL
  for (int p = 0; p < kPixels; ++p) {
    rows[p] = a.values + p * a.pixel_bytes;
    UNROLL
    for (int r = 0; r < kBlocks; ++r) sums[p][r] = hn::Zero(Words());
  }
  const uint8_t* weights = a.weights;
  const size_t ahead_bytes = a.ahead_bytes, end = size_t{4} * a.steps;
  size_t at = 0;
  for (; at + 4 * kGroup <= end; at += 4 * kGroup, weights += kGroup * step_bytes) {
    for (size_t line = 0; line < kGroup * step_bytes; line += 64)
      __builtin_prefetch(weights + ahead_bytes + line);
    add_group<kGroup>(rows, at, weights, sums);
  }
  for (; at < end; at += 4, weights += step_bytes) add_group<1>(rows, at, weights, sums);
  finish<DirectProducts>(a, sums);
}

#endif

// How the products of one position are added up.
enum class Adding { kPlain, kGroupsOf4, kGroupsOf2, kDirect, kWide };

template <int kPixels, int kBlocks>
HWY_INLINE void tile_by(Adding adding, const Tile& a) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  switch (adding) {
    case Adding::kPlain:
      return plain_tile<ByteProducts, kPixels, kBlocks>(a);
    case Adding::kGroupsOf4:
      return grouped_tile<4, kPixels, kBlocks>(a);
    case Adding::kGroupsOf2:
      return grouped_tile<2, kPixels, kBlocks>(a);
    case Adding::kDirect:
      return plain_tile<DirectProducts, kPixels, kBlocks>(a);
    case Adding::kWide:
      return plain_tile<WordProducts, kPixels, kBlocks>(a);
  }
#else
  static_cast<void>(adding);
  plain_tile<ByteProducts, kPixels, kBlocks>(a);
#endif
}

template <int kPixels>
HWY_INLINE void tile_of(int pixels, int blocks, Adding adding, const Tile& a) {
  if constexpr (kPixels > 1) {
    if (pixels < kPixels) return tile_of<kPixels - 1>(pixels, blocks, adding, a);
  }
  blocks == 2 ? tile_by<kPixels, 2>(adding, a) : tile_by<kPixels, 1>(adding, a);
}

// Steps in 16-bit sums from which storing them in between costs less than adding up groups in 32 bits.
constexpr int kMinPart = 8;

void position(const WinogradProducts& a, int position) {
  const size_t lanes = hn::Lanes(Words()), step_bytes = 4 * lanes * a.blocks;
  const uint8_t* weights = a.weights + position * a.steps * step_bytes;
  const uint8_t* values = a.values + position * a.position_bytes;
  int32_t* out = a.products + size_t{1} * position * a.tiles * a.blocks * lanes;
  const int room = a.exact_steps == nullptr ? a.steps : a.exact_steps[position];
  const Adding adding = a.exact_steps == nullptr              ? Adding::kWide
                        : room >= std::min(a.steps, kMinPart) ? Adding::kPlain
                        : room >= 4                           ? Adding::kGroupsOf4
                        : room >= 2                           ? Adding::kGroupsOf2
                                                              : Adding::kDirect;
  const int parts = adding == Adding::kPlain ? (a.steps + room - 1) / room : 1;
  for (int part = 0; part < parts; ++part) {
    const int from = a.steps * part / parts, steps = a.steps * (part + 1) / parts - from;
    const size_t pixel_bytes = size_t{4} * a.steps, out_stride = a.blocks * lanes;
    size_t ahead = a.steps * step_bytes;
    const int most = adding == Adding::kGroupsOf4 ? kMaxPixelsOfGroups : kMaxPixels;
    for (int x = 0, groups = (a.tiles + most - 1) / most; groups > 0; --groups) {
      const int pixels = (a.tiles - x + groups - 1) / groups;
      tile_of<kMaxPixels>(
          pixels, a.blocks, adding,
          {values + x * pixel_bytes + size_t{4} * from, pixel_bytes, weights + from * step_bytes, steps,
           ahead, out + x * out_stride, out_stride, part > 0});
      x += pixels;
      ahead = 0;
    }
  }
}

void products(const WinogradProducts& a) {
  for (int i = 0; i < kWinogradPositions; ++i) position(a, i);
}

using Integers = hn::ScalableTag<int32_t>;

// Twice the two outputs of one dimension.
HWY_INLINE void combine(WordVector m0, WordVector m1, WordVector m2, WordVector m3, WordVector& y0,
                        WordVector& y1) {
  y0 = hn::Add(hn::Add(m0, m0), hn::Add(m1, m2));
  y1 = hn::Sub(hn::Sub(m1, m2), hn::Add(m3, m3));
}

void outputs(const WinogradOutputs& a) {
  const Words d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  const size_t position_elems = size_t{1} * a.tiles * a.lanes_used;
  int y = a.first / a.row_tiles * 2, x = a.first % a.row_tiles * 2;
  for (int tile = 0; tile < a.tiles; ++tile) {
    const int height = std::min(2, a.oh - y), width = std::min(2, a.ow - x);
    const size_t pixel = size_t{1} * y * a.ow + x;
    for (int c = 0; c < a.channels; c += lanes) {
      const int32_t* products = a.products + size_t{1} * tile * a.lanes_used + c;
      const auto load = [&](const int32_t* from) {
        return hn::LoadU(d, reinterpret_cast<const uint32_t*>(from));
      };
      WordVector left[4], right[4], sums[2][2];
      for (int i = 0; i < 4; ++i) {
        const auto m = [&](int j) { return load(products + (4 * i + j) * position_elems); };
        combine(m(0), m(1), m(2), m(3), left[i], right[i]);
      }
      combine(left[0], left[1], left[2], left[3], sums[0][0], sums[1][0]);
      combine(right[0], right[1], right[2], right[3], sums[0][1], sums[1][1]);
      const WordVector bias = load(a.bias + c);
      UNROLL
      for (int i = 0; i < 4; ++i) {
        if (i / 2 >= height || i % 2 >= width) continue;
        const size_t at = pixel + size_t{1} * (i / 2) * a.ow + i % 2;
        const WordVector four = hn::Add(sums[i / 2][i % 2], load(a.shifted + i * a.lanes_used + c));
        const WordVector sum = hn::BitCast(d, hn::ShiftRight<2>(hn::BitCast(Integers(), four)));
        WordVector out = hn::Add(hn::ShiftLeftSame(sum, a.mul_shift), bias);
        if (a.pixel_sums != nullptr) out = hn::Add(out, hn::Set(d, a.value_factor * a.pixel_sums[at]));
        store_channels(out, a.out + at * a.out_stride_elems + c, a.channels - c);
      }
    }
    if ((x += 2) >= 2 * a.row_tiles) {
      x = 0;
      y += 2;
    }
  }
}

WinogradTarget target() {
  static const std::string name = std::string("highway ") + hwy::TargetName(HWY_TARGET);
  WinogradTarget t;
  t.lanes = static_cast<int>(hn::Lanes(Words()));
  t.name = name.c_str();
  t.products_per_step = ByteProducts::kPerStep;
  t.max_sum = ByteProducts::kMaxSum;
  t.wide = HWY_TARGET != HWY_AVX3_DL;
  t.columns = columns;
  t.rows = rows;
  t.products = products;
  t.outputs = outputs;
  return t;
}

#endif

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace bitstrata::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitstrata::kernels {

WinogradTarget winograd_target(Isa isa) {
  WinogradTarget chosen = KERNEL_TARGET(WinogradTarget, isa, target);
  chosen.sum = narrow_target(isa).sum;
  return chosen;
}

}  // namespace bitstrata::kernels
#endif
