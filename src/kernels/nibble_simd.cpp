// One source for every vector instruction set: Highway includes this file once per target.
#include <algorithm>
#include <string>

#include "kernels/nibble.h"

#define HWY_WANT_AVX3_DL
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/nibble_simd.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/highway_target.h"
#include "kernels/narrow_products-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bitstrata::kernels {
namespace HWY_NAMESPACE {
namespace {

#if !BITSTRATA_NARROW_PRODUCTS

[[maybe_unused]] NibbleTarget target() {
  return {};
}

#else

template <int kPixels, int kBlocks>
HWY_INLINE void add_step(const uint8_t* const (&codes)[kPixels], const uint8_t* weights, size_t block_stride,
                         ByteProducts::Sums (&sums)[kPixels][kBlocks]) {
  const Bytes d8;
  const Words d;
  const ByteVector low_half = hn::Set(d8, 15);
  ByteVector low[kPixels], high[kPixels];
  UNROLL
  for (int p = 0; p < kPixels; ++p) {
    low[p] = broadcast_four(codes[p]);
    high[p] = broadcast_four(codes[p] + 4);
  }
  UNROLL
  for (int r = 0; r < kBlocks; ++r) {
    const ByteVector w = hn::LoadU(d8, weights + r * block_stride);
    const ByteVector w_low = hn::And(w, low_half);
    const ByteVector w_high = hn::And(hn::BitCast(d8, hn::ShiftRight<4>(hn::BitCast(d, w))), low_half);
    UNROLL
    for (int p = 0; p < kPixels; ++p) {
      sums[p][r] = ByteProducts::add(ByteProducts::add(sums[p][r], low[p], w_low), high[p], w_high);
    }
  }
}

template <int kPixels, int kBlocks>
HWY_NOINLINE void tile(const NibblePixels& a, int block) {
  const Words d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  const size_t step_bytes = 4 * hn::Lanes(d), block_stride = a.steps * step_bytes;
  const uint8_t* weights = a.weights + block * block_stride;
  ByteProducts::Sums sums[kPixels][kBlocks];
  WordVector totals[kPixels][kBlocks];
  const uint8_t* codes[kPixels];
  UNROLL
  for (int p = 0; p < kPixels; ++p) {
    codes[p] = a.codes[p];
    UNROLL
    for (int r = 0; r < kBlocks; ++r) {
      sums[p][r] = ByteProducts::zero();
      totals[p][r] = hn::Zero(d);
    }
  }
  const auto widen = [&]() HWY_ATTR {
    UNROLL
    for (int p = 0; p < kPixels; ++p) {
      UNROLL
      for (int r = 0; r < kBlocks; ++r) {
        totals[p][r] = hn::Add(totals[p][r], ByteProducts::widen(sums[p][r]));
        sums[p][r] = ByteProducts::zero();
      }
    }
  };
  for (int left = a.steps - 1; left > 0;) {
    const int steps = ByteProducts::kDirect ? left : std::min(left, a.exact_steps);
    for (int i = 0; i < steps; ++i, weights += step_bytes) {
      add_step<kPixels, kBlocks>(codes, weights, block_stride, sums);
      UNROLL
      for (int p = 0; p < kPixels; ++p) codes[p] += kNibbleStep;
    }
    left -= steps;
    if (!ByteProducts::kDirect) widen();
  }
  UNROLL
  for (int p = 0; p < kPixels; ++p) codes[p] = a.tails[p];
  add_step<kPixels, kBlocks>(codes, weights, block_stride, sums);
  widen();
  UNROLL
  for (int p = 0; p < kPixels; ++p) {
    UNROLL
    for (int r = 0; r < kBlocks; ++r) {
      const WordVector bias = hn::LoadU(d, reinterpret_cast<const uint32_t*>(a.bias) + (block + r) * lanes);
      const WordVector y =
          hn::Add(hn::ShiftLeftSame(totals[p][r], a.mul_shift), hn::Add(hn::Set(d, a.shared[p]), bias));
      store_channels(y, a.out[p] + (block + r) * lanes, a.channels - (block + r) * lanes);
    }
  }
}

template <int kPixels, int kBlocks>
HWY_INLINE void all_blocks(const NibblePixels& a) {
  int block = 0;
  for (; block + kBlocks <= a.blocks; block += kBlocks) tile<kPixels, kBlocks>(a, block);
  for (; block < a.blocks; ++block) tile<kPixels, 1>(a, block);
}

// Registers: sums and, when these have 16 bits, totals per pixel and block, two codes per pixel, two weights.
void run(const NibblePixels& a) {
#if HWY_TARGET == HWY_AVX2
  constexpr int kMany = 2, kFew = 1;
#else
  constexpr int kMany = 4, kFew = 2;
#endif
  switch (a.pixels) {
    case 1:
      return all_blocks<1, 4>(a);
    case 2:
      return all_blocks<2, kMany>(a);
    case 3:
      return all_blocks<3, kFew>(a);
    default:
      return all_blocks<4, kFew>(a);
  }
}

NibbleTarget target() {
  static const std::string name = std::string("highway ") + hwy::TargetName(HWY_TARGET);
  NibbleTarget t;
  t.lanes = static_cast<int>(hn::Lanes(Words()));
  t.name = name.c_str();
  t.products_per_step = 2 * ByteProducts::kPerStep;
  t.max_sum = ByteProducts::kMaxSum;
  t.run = run;
  return t;
}

#endif

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace bitstrata::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitstrata::kernels {

NibbleTarget nibble_target(Isa isa) {
  return KERNEL_TARGET(NibbleTarget, isa, target);
}

}  // namespace bitstrata::kernels
#endif
