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

HWY_BEFORE_NAMESPACE();
namespace bitstrata::kernels {
namespace HWY_NAMESPACE {
namespace {

#if !BITSTRATA_NARROW_PRODUCTS

[[maybe_unused]] NarrowTarget target() {
  return {};
}

#else

// sums += products of `steps` steps from `offset` on.
template <class Products, int kPixels, int kBlocks>
HWY_INLINE void add_steps(const uint8_t* const (&codes)[kPixels], size_t offset, const uint8_t* weights,
                          size_t block_stride, int steps, typename Products::Sums (&sums)[kPixels][kBlocks]) {
  const Bytes d8;
  for (int i = 0; i < steps; ++i) {
    ByteVector w[kBlocks];
    UNROLL
    for (int r = 0; r < kBlocks; ++r) w[r] = hn::LoadU(d8, weights + r * block_stride + i * hn::Lanes(d8));
    UNROLL
    for (int p = 0; p < kPixels; ++p) {
      const ByteVector v = broadcast_four(codes[p] + offset + 4 * i);
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

// totals: [kPixels][kBlocks][lanes], aligned.
template <class Products, int kPixels, int kBlocks>
HWY_INLINE void add_to_totals(const typename Products::Sums (&sums)[kPixels][kBlocks], uint32_t* totals) {
  const Words d;
  UNROLL
  for (int p = 0; p < kPixels; ++p) {
    UNROLL
    for (int r = 0; r < kBlocks; ++r) {
      uint32_t* total = totals + (p * kBlocks + r) * hn::Lanes(d);
      hn::Store(hn::Add(hn::Load(d, total), Products::widen(sums[p][r])), d, total);
    }
  }
}

template <int kPixels, int kBlocks>
HWY_INLINE void finish(const NarrowBand& a, int x, int block, const WordVector (&sums)[kPixels][kBlocks]) {
  const Words d;
  const int lanes = static_cast<int>(hn::Lanes(d)), mul_shift = a.mul_shift;
  const int channels = a.channels - block * lanes;
  WordVector bias[kBlocks];
  UNROLL
  for (int r = 0; r < kBlocks; ++r) {
    bias[r] = hn::LoadU(d, reinterpret_cast<const uint32_t*>(a.bias) + (block + r) * lanes);
  }
  int32_t* out = a.out + x * a.out_stride_elems + block * lanes;
  const size_t out_stride = a.out_stride_elems;
  UNROLL
  for (int p = 0; p < kPixels; ++p, out += out_stride) {
    const WordVector shared =
        a.pixel_sums == nullptr ? hn::Zero(d) : hn::Set(d, a.value_factor * a.pixel_sums[x + p]);
    UNROLL
    for (int r = 0; r < kBlocks; ++r) {
      const WordVector y = hn::Add(hn::ShiftLeftSame(sums[p][r], mul_shift), hn::Add(shared, bias[r]));
      store_channels(y, out + r * lanes, channels - r * lanes);
    }
  }
}

// Pixels [x, x + kPixels) and blocks [block, block + kBlocks). totals: room for the sums of the tile when
// these have to be widened on the way.
template <class Products, int kPixels, int kBlocks, bool kWidens>
HWY_NOINLINE void tile(const NarrowBand& a, int x, int block, uint32_t* totals) {
  const Words d;
  const size_t step_bytes = 4 * hn::Lanes(d), block_stride = a.steps * step_bytes;
  const uint8_t* weights = a.weights + block * block_stride;
  typename Products::Sums sums[kPixels][kBlocks];
  clear<Products>(sums);
  if (kWidens) std::memset(totals, 0, kPixels * kBlocks * step_bytes);
  int room = a.exact_steps;
  const uint8_t* const* pixels = a.codes + x;
  for (int ky = 0; ky < a.kernel_h; ++ky, pixels += a.pixels) {
    const uint8_t* codes[kPixels];
    UNROLL
    for (int p = 0; p < kPixels; ++p) codes[p] = pixels[p];
    bool all_zero = true;
    UNROLL
    for (int p = 0; p < kPixels; ++p) {
      all_zero = all_zero && static_cast<size_t>(codes[p] - a.zeros) < a.zeros_bytes;
    }
    if (all_zero) {
      weights += a.steps / a.kernel_h * step_bytes;
      continue;
    }
    for (int run = 0; run < a.run_count; ++run) {
      size_t offset = a.runs[run].offset_bytes;
      for (int left = a.runs[run].steps; left > 0;) {
        const int steps = kWidens ? std::min(left, room) : left;
        add_steps<Products>(codes, offset, weights, block_stride, steps, sums);
        weights += steps * step_bytes;
        offset += 4 * steps;
        left -= steps;
        if (kWidens && (room -= steps) == 0) {
          add_to_totals<Products>(sums, totals);
          clear<Products>(sums);
          room = a.exact_steps;
        }
      }
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
  finish(a, x, block, final_sums);
}

template <class Products, int kBlocks, int kMaxPixels>
HWY_INLINE void tile_of(const NarrowBand& a, int pixels, int x, int block, uint32_t* totals) {
  if constexpr (kMaxPixels > 1) {
    if (pixels < kMaxPixels) return tile_of<Products, kBlocks, kMaxPixels - 1>(a, pixels, x, block, totals);
  }
  if (Products::kDirect || a.exact_steps >= a.steps) {
    tile<Products, kMaxPixels, kBlocks, false>(a, x, block, totals);
  } else {
    tile<Products, kMaxPixels, kBlocks, !Products::kDirect>(a, x, block, totals);
  }
}

// Tiles of whole parts of a row where that hardly makes them smaller, since these skip padding; otherwise
// tiles of about equal size.
template <class Products, int kBlocks, int kMaxPixels>
HWY_INLINE void all_pixels(const NarrowBand& a, int block) {
  HWY_ALIGN uint32_t totals[Products::kDirect ? 1 : kMaxPixels * kBlocks * hn::MaxLanes(Words())];
  int x = 0;
  int tiles = (a.pixels + kMaxPixels - 1) / kMaxPixels;
  for (int part : {kMaxPixels, kMaxPixels - 1}) {
    if (part > 0 && a.ow % part == 0) {
      tiles = a.pixels / part;
      break;
    }
  }
  for (; tiles > 0; --tiles) {
    const int pixels = (a.pixels - x + tiles - 1) / tiles;
    tile_of<Products, kBlocks, kMaxPixels>(a, pixels, x, block, totals);
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

// Four blocks at once share the cost of starting where pixels or steps are few.
template <class Products>
void band(const NarrowBand& a) {
  const bool few = a.pixels <= 4 || a.steps < 8 * a.kernel_h;
  int block = 0;
  for (; few && block + 4 <= a.blocks; block += 4) all_pixels<Products, 4, kPixels4>(a, block);
  for (; block + 2 <= a.blocks; block += 2) all_pixels<Products, 2, kPixels2>(a, block);
  if (block < a.blocks) all_pixels<Products, 1, kPixels1>(a, block);
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
