// One source for every vector instruction set: Highway includes this file once per target.
#include <algorithm>
#include <string>
#include <utility>

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
  const auto shift = hn::Set(d, a.shift), sum_shift = hn::Set(d, a.sum_shift);
  const auto row = [&](int i) { return reinterpret_cast<const T*>(a.rows[i]); };
  const T *row0 = row(0), *row1 = row(1), *row2 = row(2), *row3 = row(3);
  const auto out = [&](int i) { return reinterpret_cast<T*>(a.out + i * a.out_stride_bytes); };
  T *out0 = out(0), *out1 = out(1), *out2 = out(2), *out3 = out(3);
  for (size_t i = 0; i < a.elements; i += lanes) {
    const auto d0 = hn::LoadU(d, row0 + i), d1 = hn::LoadU(d, row1 + i);
    const auto d2 = hn::LoadU(d, row2 + i), d3 = hn::LoadU(d, row3 + i);
    hn::StoreU(hn::Add(hn::Sub(d0, d2), shift), d, out0 + i);
    hn::StoreU(hn::Add(hn::Add(d1, d2), sum_shift), d, out1 + i);
    hn::StoreU(hn::Add(hn::Sub(d2, d1), shift), d, out2 + i);
    hn::StoreU(hn::Add(hn::Sub(d1, d3), shift), d, out3 + i);
  }
}

void rows(const WinogradRows& a) {
  a.wide ? rows_of<uint16_t>(a) : rows_of<uint8_t>(a);
}

/// Products of one position: `groups` groups of as many tiles as the function's template says.
struct Groups {
  const uint8_t* values;  ///< of the first tile
  size_t tile_bytes;
  const uint8_t* weights;
  int steps;             ///< at least 1
  const uint8_t* ahead;  ///< to be read next; every step fetches some of it
  size_t ahead_step_bytes;
  int32_t* out;  ///< [tiles][blocks][lanes]
  bool adds;     ///< to what is there
  int groups;
};

// Registers: a sum per tile and block, a weight per block, a code and a product.
constexpr int kMaxTiles = HWY_TARGET == HWY_AVX2 ? 6 : 10;

// The more tiles, the fewer calls; with VNNI, products are made so fast that those of few tiles, which stay
// in the first cache, gain more.
constexpr int kChunkTiles = HWY_TARGET == HWY_AVX3_DL ? 18 : 56;

// sum + products, written out so that the sum stays in its register and the compiler does not compute later
// products first, whose operands then push sums out of registers.
template <class Products>
HWY_INLINE void add_to(typename Products::Sums& sum, ByteVector codes, ByteVector weights) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  const auto product = Products::add(Products::zero(), codes, weights);
  if constexpr (Products::kDirect) {
    asm volatile("vpaddd %1, %0, %0" : "+v"(sum.raw) : "v"(product.raw));
  } else {
    asm volatile("vpaddw %1, %0, %0" : "+v"(sum.raw) : "v"(product.raw));
  }
#else
  sum = Products::add(sum, codes, weights);
  asm volatile("" : "+v"(sum.raw));
#endif
}

template <class Products, bool kFirst, int kTiles, int kBlocks>
HWY_INLINE void add_step(const uint8_t* values, size_t tile_bytes, const uint8_t* weights,
                         typename Products::Sums (&sums)[kTiles][kBlocks]) {
  const Bytes d8;
  ByteVector w[kBlocks];
  UNROLL
  for (int r = 0; r < kBlocks; ++r) w[r] = hn::LoadU(d8, weights + r * hn::Lanes(d8));
  UNROLL
  for (int t = 0; t < kTiles; ++t) {
    const ByteVector v = broadcast_four(values + t * tile_bytes);
    UNROLL
    for (int r = 0; r < kBlocks; ++r) {
      if constexpr (kFirst) {
        sums[t][r] = Products::add(Products::zero(), v, w[r]);
        asm volatile("" : "+v"(sums[t][r].raw));
      } else {
        add_to<Products>(sums[t][r], v, w[r]);
      }
    }
  }
}

template <class Products, bool kAdds, int kTiles, int kBlocks>
HWY_INLINE void finish(const typename Products::Sums (&sums)[kTiles][kBlocks], uint32_t* out) {
  const Words d;
  UNROLL
  for (int t = 0; t < kTiles; ++t) {
    UNROLL
    for (int r = 0; r < kBlocks; ++r) {
      uint32_t* to = out + (t * kBlocks + r) * hn::Lanes(d);
      const WordVector sum = Products::widen(sums[t][r]);
      hn::StoreU(kAdds ? hn::Add(sum, hn::LoadU(d, to)) : sum, d, to);
    }
  }
}

template <class Products, int kTiles, int kBlocks>
HWY_NOINLINE void add_groups(const Groups& a) {
  const size_t step_bytes = kBlocks * hn::Lanes(Bytes()), tile_bytes = a.tile_bytes;
  const size_t ahead_step_bytes = a.ahead_step_bytes;
  const uint8_t *first = a.values, *ahead = a.ahead;
  uint32_t* out = reinterpret_cast<uint32_t*>(a.out);
  for (int group = 0; group < a.groups; ++group, first += kTiles * tile_bytes) {
    typename Products::Sums sums[kTiles][kBlocks];
    const uint8_t *values = first, *weights = a.weights;
    add_step<Products, true>(values, tile_bytes, weights, sums);
    for (int i = 1; i < a.steps; ++i) {
      values += 4;
      weights += step_bytes;
      UNROLL
      for (size_t line = 0; line < step_bytes; line += 64) __builtin_prefetch(ahead + line);
      ahead += ahead_step_bytes;
      add_step<Products, false>(values, tile_bytes, weights, sums);
    }
    if (a.adds) {
      finish<Products, true>(sums, out);
    } else {
      finish<Products, false>(sums, out);
    }
    out += kTiles * kBlocks * hn::Lanes(Words());
  }
}

using AddGroups = void (*)(const Groups&);

template <class Products, size_t... kTiles>
AddGroups function_of(int tiles, int blocks, std::index_sequence<kTiles...>) {
  static constexpr AddGroups kOne[] = {add_groups<Products, kTiles + 1, 1>...};
  static constexpr AddGroups kTwo[] = {add_groups<Products, kTiles + 1, 2>...};
  return (blocks == 1 ? kOne : kTwo)[tiles - 1];
}

// Tiles in groups of as even sizes as may be: first the larger ones, of size + 1.
struct Grouping {
  int tiles, size, larger, groups;
};

Grouping group(int tiles) {
  const int groups = (tiles + kMaxTiles - 1) / kMaxTiles, size = tiles / groups;
  return {tiles, size, tiles - size * groups, groups};
}

template <class Products>
void add_tiles(Groups& a, const Grouping& by, int blocks) {
  a.ahead_step_bytes = 4 * hn::Lanes(Words()) * blocks / by.groups;
  const auto add = [&](int groups, int size) {
    if (groups == 0) return;
    a.groups = groups;
    function_of<Products>(size, blocks, std::make_index_sequence<kMaxTiles>())(a);
    a.values += groups * size * a.tile_bytes;
    a.ahead += groups * (a.steps - 1) * a.ahead_step_bytes;
    a.out += groups * size * blocks * hn::Lanes(Words());
  };
  add(by.larger, by.size + 1);
  add(by.groups - by.larger, by.size);
}

void products(const WinogradProducts& a) {
  const size_t lanes = hn::Lanes(Words()), step_bytes = 4 * lanes * a.blocks;
  const bool wide = a.part_steps == nullptr;
  Grouping by{};
  for (int position = 0; position < kWinogradPositions; ++position) {
    const auto [first, tiles] = a.range[position];
    if (tiles == 0) continue;
    if (tiles != by.tiles) by = group(tiles);
    const uint8_t* weights = a.weights + position * a.steps * step_bytes;
    const uint8_t* values = a.values + position * a.position_bytes + size_t{4} * a.steps * first;
    int32_t* out = a.products + size_t{1} * position * kChunkTiles * kWinogradBlocks * lanes;
    const int part_steps = wide || a.part_steps[position] == 0 ? a.steps : a.part_steps[position];
    for (int from = 0; from < a.steps; from += part_steps) {
      const uint8_t* part_weights = weights + from * step_bytes;
      Groups groups;  // not copied later on: whole vectors cannot be loaded soon after their parts are stored
      groups.values = values + size_t{4} * from;
      groups.tile_bytes = size_t{4} * a.steps;
      groups.weights = part_weights;
      groups.steps = std::min(part_steps, a.steps - from);
      groups.ahead = part_weights + a.steps * step_bytes;
      groups.out = out;
      groups.adds = from > 0;
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
      if (wide) {
        add_tiles<WordProducts>(groups, by, a.blocks);
        continue;
      }
      if (a.part_steps[position] == 0) {
        add_tiles<DirectProducts>(groups, by, a.blocks);
        continue;
      }
#endif
      add_tiles<ByteProducts>(groups, by, a.blocks);
    }
  }
}

using Integers = hn::ScalableTag<int32_t>;

// Twice the two outputs of one dimension.
HWY_INLINE void combine(WordVector m0, WordVector m1, WordVector m2, WordVector m3, WordVector& y0,
                        WordVector& y1) {
  y0 = hn::Add(m0, hn::Add(m1, m2));
  y1 = hn::Sub(hn::Sub(m1, m2), m3);
}

// The 2x2 outputs of one tile and vector of channels. products: of the first position; last_column: of the
// fourth.
HWY_INLINE void outputs_of(const int32_t* products, const int32_t* last_column, const int32_t* constants,
                           size_t lanes_used, WordVector (&sums)[4]) {
  const Words d;
  const auto load = [&](const int32_t* from) {
    return hn::LoadU(d, reinterpret_cast<const uint32_t*>(from));
  };
  const size_t stride = kChunkTiles * kWinogradBlocks * hn::Lanes(d);
  WordVector left[4], right[4];
  UNROLL
  for (int i = 0; i < 4; ++i) {
    const int32_t* row = products + 4 * i * stride;
    combine(load(row), load(row + stride), load(row + 2 * stride), load(last_column + 4 * i * stride),
            left[i], right[i]);
  }
  combine(left[0], left[1], left[2], left[3], sums[0], sums[2]);
  combine(right[0], right[1], right[2], right[3], sums[1], sums[3]);
  UNROLL
  for (int i = 0; i < 4; ++i) sums[i] = hn::Add(sums[i], load(constants + i * lanes_used));
}

template <bool kTerms>
void outputs_with(const WinogradOutputs& a) {
  const Words d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  const size_t stride = a.out_stride_elems, row_stride = a.ow * stride;
  int y = a.first / a.row_tiles * 2, x = a.first % a.row_tiles * 2;
  const int32_t* products = a.products;
  const int32_t* last_column = a.products + 3 * kChunkTiles * kWinogradBlocks * lanes;
  for (int tile = 0; tile < a.tiles; ++tile) {
    const bool below = y + 1 < a.oh, right = x + 1 < a.ow;
    const size_t pixel = size_t{1} * y * a.ow + x;
    WordVector terms[4];
    if constexpr (kTerms) {
      const uint32_t* from = a.pixel_terms + pixel;
      const size_t next_row = below ? a.ow : 0, next = right ? 1 : 0;
      terms[0] = hn::Set(d, from[0]), terms[1] = hn::Set(d, from[next]);
      terms[2] = hn::Set(d, from[next_row]), terms[3] = hn::Set(d, from[next_row + next]);
    }
    for (int c = 0; c < a.channels; c += lanes) {
      WordVector sums[4];
      outputs_of(products + c, last_column + c, a.constants + c, a.lanes_used, sums);
      UNROLL
      for (int i = 0; i < 4; ++i) {
        if constexpr (kTerms) sums[i] = hn::Add(sums[i], terms[i]);
        sums[i] = hn::BitCast(d, hn::ShiftRightSame(hn::BitCast(Integers(), sums[i]), a.shift));
      }
      int32_t* out = a.out + pixel * stride + c;
      const int channels = a.channels - c;
      store_channels(sums[0], out, channels);
      if (right) store_channels(sums[1], out + stride, channels);
      if (below) store_channels(sums[2], out + row_stride, channels);
      if (below && right) store_channels(sums[3], out + row_stride + stride, channels);
    }
    products += a.lanes_used;
    if (right) last_column += a.lanes_used;
    if ((x += 2) >= 2 * a.row_tiles) {
      x = 0;
      y += 2;
    }
  }
}

void outputs(const WinogradOutputs& a) {
  a.pixel_terms != nullptr ? outputs_with<true>(a) : outputs_with<false>(a);
}

WinogradTarget target() {
  static const std::string name = std::string("highway ") + hwy::TargetName(HWY_TARGET);
  WinogradTarget t;
  t.lanes = static_cast<int>(hn::Lanes(Words()));
  t.chunk_tiles = kChunkTiles;
  t.band_tiles = HWY_TARGET == HWY_AVX3_DL ? 28 : 56;
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
