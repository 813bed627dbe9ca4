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

#include "kernels/highway_target.h"
#include "kernels/narrow_products-inl.h"
#include "kernels/requantize-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bitstrata::kernels {
namespace HWY_NAMESPACE {
namespace {

#if !BITSTRATA_NARROW_PRODUCTS

[[maybe_unused]] NarrowTarget target() {
  return {};
}

#else

using Floats = hn::ScalableTag<float>;
using Ints = hn::ScalableTag<int32_t>;
using IntVector = hn::Vec<Ints>;

// sums += products of `steps` steps of one row of the window, without those of the first kFirst and the last
// kLast pixels. codes: of the first pixel.
template <class Products, int kPixels, int kBlocks, int kFirst = 0, int kLast = 0>
HWY_INLINE void add_steps(const uint8_t* codes, const uint32_t* offsets, const uint8_t* weights,
                          size_t block_stride, int steps, typename Products::Sums (&sums)[kPixels][kBlocks]) {
  const Bytes d8;
  for (int i = 0; i < steps; ++i, weights += hn::Lanes(d8)) {
    const uint8_t* step = codes + offsets[i];
    asm("" : "+r"(step));  // or compilers keep the sums of pixel offsets and codes in registers, one for each
    ByteVector w[kBlocks];
    UNROLL
    for (int r = 0; r < kBlocks; ++r) w[r] = hn::LoadU(d8, weights + r * block_stride);
    UNROLL
    for (int p = kFirst; p < kPixels - kLast; ++p) {
      const ByteVector v = broadcast_four(step + 4 * p);
      UNROLL
      for (int r = 0; r < kBlocks; ++r) sums[p][r] = Products::add(sums[p][r], v, w[r]);
    }
  }
}

template <class Products, int kPixels, int kBlocks>
HWY_INLINE void clear(typename Products::Sums (&sums)[kPixels][kBlocks]) {
  UNROLL
  for (int p = 0; p < kPixels; ++p) {
    UNROLL
    for (int r = 0; r < kBlocks; ++r) sums[p][r] = Products::zero();
  }
}

// totals: [kPixels][kBlocks][lanes], aligned. Clears the sums.
template <class Products, int kPixels, int kBlocks>
HWY_INLINE void move_to_totals(typename Products::Sums (&sums)[kPixels][kBlocks], uint32_t* totals) {
  const Words d;
  UNROLL
  for (int p = 0; p < kPixels; ++p) {
    UNROLL
    for (int r = 0; r < kBlocks; ++r) {
      uint32_t* total = totals + (p * kBlocks + r) * hn::Lanes(d);
      hn::Store(hn::Add(hn::Load(d, total), Products::widen(sums[p][r])), d, total);
    }
  }
  clear<Products>(sums);
}

// Products to accumulators.
template <int kPixels, int kBlocks>
HWY_INLINE void complete(const NarrowBand& a, int pixel, int block, WordVector (&sums)[kPixels][kBlocks]) {
  const Words d;
  const auto* bias = reinterpret_cast<const uint32_t*>(a.bias) + block * hn::Lanes(d);
  const int mul_shift = a.mul_shift;
  UNROLL
  for (int p = 0; p < kPixels; ++p) {
    const WordVector shared =
        a.pixel_sums == nullptr ? hn::Zero(d) : hn::Set(d, a.value_factor * a.pixel_sums[pixel + p]);
    UNROLL
    for (int r = 0; r < kBlocks; ++r) {
      const WordVector own = hn::Add(shared, hn::LoadU(d, bias + r * hn::Lanes(d)));
      sums[p][r] = hn::Add(hn::ShiftLeftSame(sums[p][r], mul_shift), own);
    }
  }
}

// Accumulators to codes.
template <int kPixels, int kBlocks>
HWY_INLINE void store_codes(const NarrowBand& a, int pixel, int block,
                            const WordVector (&sums)[kPixels][kBlocks]) {
  const Floats d;
  const Ints d32;
  const int lanes = static_cast<int>(hn::Lanes(d)), channels = a.channels - block * lanes;
  const float *mul = a.end.mul + block * lanes, *add = a.end.add + block * lanes;
  const float inverse = a.end.inverse;
  const int max_code = a.end.max_code;
  const size_t stride = a.out_stride_elems;
  uint8_t* out = a.codes + pixel * stride + block * lanes;
  UNROLL
  for (int p = 0; p < kPixels; ++p, out += stride) {
    IntVector codes[kBlocks];
    UNROLL
    for (int r = 0; r < kBlocks; ++r) {
      const auto scaled =
          hn::Mul(hn::ConvertTo(d, hn::BitCast(d32, sums[p][r])), hn::LoadU(d, mul + r * lanes));
      codes[r] = codes_of(d, hn::Add(scaled, hn::LoadU(d, add + r * lanes)), inverse, 0, max_code);
    }
    if (channels >= kBlocks * lanes) {
      store_bytes(codes, out);
    } else {
      uint8_t bytes[kBlocks * hn::MaxLanes(d)];
      store_bytes(codes, bytes);
      for (int i = 0; i < channels; ++i) out[i] = bytes[i];
    }
  }
}

template <int kPixels, int kBlocks>
HWY_INLINE void store_sums(const NarrowBand& a, int pixel, int block,
                           const WordVector (&sums)[kPixels][kBlocks]) {
  const int lanes = static_cast<int>(hn::Lanes(Words())), channels = a.channels - block * lanes;
  const size_t stride = a.out_stride_elems;
  int32_t* out = a.out + pixel * stride + block * lanes;
  UNROLL
  for (int p = 0; p < kPixels; ++p, out += stride) {
    UNROLL
    for (int r = 0; r < kBlocks; ++r) store_channels(sums[p][r], out + r * lanes, channels - r * lanes);
  }
}

/// Where a tile is.
struct Place {
  int row, x, block;
};

// kPixels pixels and kBlocks blocks. totals: room for the sums of the tile when these have to be widened on
// the way.
template <class Products, int kPixels, int kBlocks, bool kWidens>
HWY_NOINLINE void tile(const NarrowBand& a, Place at, uint32_t* totals) {
  const Words d;
  const size_t step_bytes = 4 * hn::Lanes(d), block_stride = a.kernel_h * a.row_steps * step_bytes;
  const uint8_t* weights = a.weights + at.block * block_stride;
  const uint8_t* const* rows = a.rows + at.row * a.kernel_h;
  const int row_steps = a.row_steps;
  // Tiles whose first or last pixel is worth leaving out where it lies in padding.
  constexpr bool kEdges = !kWidens && kBlocks == 2 && kPixels >= 4;
  const int left = kEdges && at.x == 0 ? a.left_steps : 0;
  const int right = kEdges && at.x + kPixels == a.ow ? a.right_steps : 0;
  typename Products::Sums sums[kPixels][kBlocks];
  clear<Products>(sums);
  if (kWidens) {
    UNROLL
    for (int i = 0; i < kPixels * kBlocks; ++i) hn::Store(hn::Zero(d), d, totals + i * hn::Lanes(d));
  }
  int rows_left = a.exact.rows;
  for (int ky = 0; ky < a.kernel_h; ++ky, weights += row_steps * step_bytes) {
    if (rows[ky] != nullptr) {
      const uint8_t* codes = rows[ky] + 4 * at.x;
      if (kWidens) {
        for (int i = 0; i < row_steps;) {
          const int steps = std::min(a.exact.steps, row_steps - i);
          add_steps<Products>(codes, a.offsets + i, weights + i * step_bytes, block_stride, steps, sums);
          i += steps;
          if (i < row_steps) move_to_totals<Products>(sums, totals);
        }
      } else if (kEdges) {
        const uint32_t* offsets = a.offsets;
        const uint8_t* w = weights;
        add_steps<Products, kPixels, kBlocks, 1, 0>(codes, offsets, w, block_stride, left, sums);
        offsets += left;
        w += left * step_bytes;
        add_steps<Products>(codes, offsets, w, block_stride, row_steps - left - right, sums);
        offsets += row_steps - left - right;
        w += (row_steps - left - right) * step_bytes;
        add_steps<Products, kPixels, kBlocks, 0, 1>(codes, offsets, w, block_stride, right, sums);
      } else {
        add_steps<Products>(codes, a.offsets, weights, block_stride, row_steps, sums);
      }
    }
    if (kWidens && --rows_left == 0) {
      move_to_totals<Products>(sums, totals);
      rows_left = a.exact.rows;
    }
  }
  WordVector final_sums[kPixels][kBlocks];
  UNROLL
  for (int p = 0; p < kPixels; ++p) {
    UNROLL
    for (int r = 0; r < kBlocks; ++r) {
      final_sums[p][r] = Products::widen(sums[p][r]);
      if (kWidens) {
        const WordVector total = hn::Load(d, totals + (p * kBlocks + r) * hn::Lanes(d));
        final_sums[p][r] = hn::Add(final_sums[p][r], total);
      }
    }
  }
  const int pixel = at.row * a.ow + at.x;
  if (!a.complete) complete(a, pixel, at.block, final_sums);
  if (a.codes != nullptr) {
    store_codes(a, pixel, at.block, final_sums);
  } else {
    store_sums(a, pixel, at.block, final_sums);
  }
}

// Pixels of a tile: every number up to this one, then the even ones.
constexpr int kEveryPixels = 8;

template <class Products, int kBlocks, int kMaxPixels>
HWY_INLINE void tile_of(const NarrowBand& a, int pixels, Place at, uint32_t* totals) {
  if constexpr (kMaxPixels > 1) {
    constexpr int kNext = kMaxPixels - (kMaxPixels > kEveryPixels ? 2 : 1);
    if (pixels < kMaxPixels) return tile_of<Products, kBlocks, kNext>(a, pixels, at, totals);
  }
  if (Products::kDirect || (a.exact.rows >= a.kernel_h && a.exact.steps >= a.row_steps)) {
    tile<Products, kMaxPixels, kBlocks, false>(a, at, totals);
  } else {
    tile<Products, kMaxPixels, kBlocks, !Products::kDirect>(a, at, totals);
  }
}

// Tiles of about equal size in every row.
template <class Products, int kBlocks, int kMaxPixels>
HWY_INLINE void all_pixels(const NarrowBand& a, int block) {
  HWY_ALIGN uint32_t totals[Products::kDirect ? 1 : kMaxPixels * kBlocks * hn::MaxLanes(Words())];
  const int tiles = (a.ow + kMaxPixels - 1) / kMaxPixels;
  const int least = a.ow / tiles, larger = a.ow % tiles;
  for (int row = 0; row < a.out_rows; ++row) {
    int x = 0;
    for (int i = 0; i < tiles; ++i) {
      int left = least + (i < larger ? 1 : 0);
      if (left > kEveryPixels && left % 2 != 0) {
        tile_of<Products, kBlocks, kMaxPixels>(a, left / 2, {row, x, block}, totals);
        x += left / 2;
        left -= left / 2;
      }
      tile_of<Products, kBlocks, kMaxPixels>(a, left, {row, x, block}, totals);
      x += left;
    }
  }
}

// Registers: a sum per pixel and block, a weight per block, a code and a product.
#if HWY_TARGET == HWY_AVX2
constexpr int kPixels1 = 8, kPixels2 = 6, kPixels4 = 2;
#elif HWY_TARGET == HWY_NEON && !defined(__ARM_FEATURE_DOTPROD)
constexpr int kPixels1 = 6, kPixels2 = 6, kPixels4 = 3;
#else
constexpr int kPixels1 = 16, kPixels2 = 8, kPixels4 = 4;
#endif

// Four blocks at once keep sums enough in flight, and share the cost of starting, where pixels are few.
template <class Products>
void band(const NarrowBand& a) {
  int block = 0;
  for (; a.ow <= kPixels4 && block + 4 <= a.blocks; block += 4) all_pixels<Products, 4, kPixels4>(a, block);
  for (; block + 2 <= a.blocks; block += 2) all_pixels<Products, 2, kPixels2>(a, block);
  if (block < a.blocks) all_pixels<Products, 1, kPixels1>(a, block);
}

// Four words each of four pixels to four pixels each of four planes.
HWY_INLINE void transpose(const uint8_t* from, size_t stride_bytes, uint8_t* out, size_t plane_bytes) {
  const hn::Full128<uint32_t> d;
  const hn::Repartition<uint64_t, decltype(d)> d64;
  const auto row = [=](size_t i) HWY_ATTR {
    return hn::LoadU(d, reinterpret_cast<const uint32_t*>(from + i * stride_bytes));
  };
  const auto put = [=](size_t plane, auto words) HWY_ATTR {
    hn::StoreU(hn::BitCast(d, words), d, reinterpret_cast<uint32_t*>(out + plane * plane_bytes));
  };
  const auto v0 = row(0), v1 = row(1), v2 = row(2), v3 = row(3);
  const auto low01 = hn::BitCast(d64, hn::InterleaveLower(d, v0, v1)),
             low23 = hn::BitCast(d64, hn::InterleaveLower(d, v2, v3)),
             high01 = hn::BitCast(d64, hn::InterleaveUpper(d, v0, v1)),
             high23 = hn::BitCast(d64, hn::InterleaveUpper(d, v2, v3));
  put(0, hn::InterleaveLower(d64, low01, low23));
  put(1, hn::InterleaveUpper(d64, low01, low23));
  put(2, hn::InterleaveLower(d64, high01, high23));
  put(3, hn::InterleaveUpper(d64, high01, high23));
}

void planes(const NarrowPlanes& a) {
  const int words = a.words;
  const size_t stride = a.stride_bytes, plane_bytes = a.plane_bytes;
  int plane = 0;
  for (; words >= 4 && plane + 4 <= a.count; plane += 4) {
    const uint8_t* from = a.codes + 4 * plane;
    uint8_t* out = a.out + plane * plane_bytes;
    for (int x = 0; x + 4 <= words; x += 4) transpose(from + x * stride, stride, out + 4 * x, plane_bytes);
    const int last = words - 4;
    if (words % 4 != 0) transpose(from + last * stride, stride, out + 4 * last, plane_bytes);
  }
  for (; plane < a.count; ++plane) narrow_plane(a, plane);
}

uint32_t sum(const uint8_t* codes, size_t count) {
  const Bytes d8;
  const hn::Repartition<uint64_t, Bytes> d64;
  const size_t lanes = hn::Lanes(d8);
  auto sums = hn::Zero(d64);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) sums = hn::Add(sums, hn::SumsOf8(hn::LoadU(d8, codes + i)));
  if (i < count) {
    const ByteVector tail = hn::IfThenElseZero(hn::FirstN(d8, count - i), hn::LoadU(d8, codes + i));
    sums = hn::Add(sums, hn::SumsOf8(tail));
  }
  return static_cast<uint32_t>(hn::GetLane(hn::SumOfLanes(d64, sums)));
}

NarrowTarget target() {
  static const std::string name = std::string("highway ") + hwy::TargetName(HWY_TARGET);
  NarrowTarget t;
  t.lanes = static_cast<int>(hn::Lanes(Words()));
  t.name = name.c_str();
  t.signed_weights = ByteProducts::kSignedWeights;
  t.products_per_step = ByteProducts::kPerStep;
  t.max_sum = ByteProducts::kMaxSum;
  t.band = band<ByteProducts>;
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  t.wide_band = band<WordProducts>;
#endif
#if HWY_TARGET != HWY_AVX3_DL && !defined(__ARM_FEATURE_DOTPROD)
  t.direct_band = band<DirectProducts>;
#endif
  t.sum = sum;
  t.planes = planes;
  return t;
}

#endif

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace bitstrata::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitstrata::kernels {

NarrowTarget narrow_target(Isa isa) {
  return KERNEL_TARGET(NarrowTarget, isa, target);
}

}  // namespace bitstrata::kernels
#endif
