// One source for every vector instruction set: Highway includes this file once per target.
#include <algorithm>

#include "kernels/winograd.h"

#define HWY_WANT_AVX3_DL
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/winograd_simd.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace bitstrata::kernels {
namespace HWY_NAMESPACE {
namespace {

#if HWY_TARGET != HWY_AVX2 && HWY_TARGET != HWY_AVX3 && HWY_TARGET != HWY_AVX3_DL

[[maybe_unused]] WinogradTarget target() {
  return {};
}

#else

namespace hn = hwy::HWY_NAMESPACE;

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

using Integers = hn::ScalableTag<int32_t>;
using IntegerVector = hn::Vec<Integers>;

HWY_INLINE void store_channels(IntegerVector y, int32_t* out, int channels) {
  const Integers d;
  if (channels >= static_cast<int>(hn::Lanes(d))) {
    hn::StoreU(y, d, out);
    return;
  }
  HWY_ALIGN int32_t lanes[hn::MaxLanes(d)];
  hn::Store(y, d, lanes);
  for (int i = 0; i < channels; ++i) out[i] = lanes[i];
}

// Twice the two outputs of one dimension.
HWY_INLINE void combine(IntegerVector m0, IntegerVector m1, IntegerVector m2, IntegerVector m3,
                        IntegerVector& y0, IntegerVector& y1) {
  y0 = hn::Add(hn::Add(m0, m0), hn::Add(m1, m2));
  y1 = hn::Sub(hn::Sub(m1, m2), hn::Add(m3, m3));
}

void outputs(const WinogradOutputs& a) {
  const Integers d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  const size_t position_elems = size_t{1} * a.tiles * a.lanes_used;
  int y = a.first / a.row_tiles * 2, x = a.first % a.row_tiles * 2;
  for (int tile = 0; tile < a.tiles; ++tile) {
    const int height = std::min(2, a.oh - y), width = std::min(2, a.ow - x);
    const size_t pixel = size_t{1} * y * a.ow + x;
    for (int c = 0; c < a.channels; c += lanes) {
      const int32_t* products = a.products + size_t{1} * tile * a.lanes_used + c;
      IntegerVector left[4], right[4], sums[2][2];
      for (int i = 0; i < 4; ++i) {
        const auto m = [&](int j) { return hn::LoadU(d, products + (4 * i + j) * position_elems); };
        combine(m(0), m(1), m(2), m(3), left[i], right[i]);
      }
      combine(left[0], left[1], left[2], left[3], sums[0][0], sums[1][0]);
      combine(right[0], right[1], right[2], right[3], sums[0][1], sums[1][1]);
      const IntegerVector bias = hn::LoadU(d, a.bias + c);
      for (int i = 0; i < height; ++i) {
        for (int j = 0; j < width; ++j) {
          const size_t at = pixel + size_t{1} * i * a.ow + j;
          IntegerVector sum = hn::ShiftLeftSame(hn::ShiftRight<2>(sums[i][j]), a.mul_shift);
          if (a.pixel_sums != nullptr) {
            sum = hn::Add(sum, hn::Set(d, static_cast<int32_t>(a.value_factor * a.pixel_sums[at])));
          }
          store_channels(hn::Add(sum, bias), a.out + at * a.out_stride_elems + c, a.channels - c);
        }
      }
    }
    if ((x += 2) >= 2 * a.row_tiles) {
      x = 0;
      y += 2;
    }
  }
}

WinogradTarget target() {
  return {{}, columns, rows, outputs};
}

#endif

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace bitstrata::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitstrata::kernels {

WinogradTarget winograd_target(Isa isa) {
  using Get = WinogradTarget (*)();
  const Get get = isa == Isa::kAvx2     ? HWY_CHOOSE_AVX2(target)
                  : isa == Isa::kAvx512 ? HWY_CHOOSE_AVX3(target)
                  : isa == Isa::kVnni   ? HWY_CHOOSE_AVX3_DL(target)
                                        : nullptr;
  const NarrowTarget products = narrow_target(isa);
  if (get == nullptr || products.lanes == 0) return {};
  WinogradTarget target = get();
  target.products = products;
  return target;
}

}  // namespace bitstrata::kernels
#endif
