#include "kernels/narrow.h"

namespace bitstrata::kernels {
namespace {

uint32_t products(const NarrowBand& a, const uint8_t* weights, const uint8_t* const* rows, int x) {
  uint32_t sum = 0;
  for (int ky = 0; ky < a.kernel_h; ++ky, weights += 4 * a.row_steps) {
    if (rows[ky] == nullptr) continue;
    for (int i = 0; i < a.row_steps; ++i) {
      const uint8_t* codes = rows[ky] + a.offsets[i] + size_t{4} * x;
      for (int j = 0; j < 4; ++j)
        sum += static_cast<uint32_t>(static_cast<int8_t>(weights[4 * i + j]) * codes[j]);
    }
  }
  return sum;
}

void band(const NarrowBand& a) {
  const size_t block_bytes = size_t{4} * a.kernel_h * a.row_steps;
  for (int pixel = 0; pixel < a.out_rows * a.ow; ++pixel) {
    const uint8_t* const* rows = a.rows + pixel / a.ow * a.kernel_h;
    const uint32_t shared = a.value_factor == 0 ? 0 : a.value_factor * a.pixel_sums[pixel];
    for (int o = 0; o < a.channels; ++o) {
      const uint32_t sum = products(a, a.weights + o * block_bytes, rows, pixel % a.ow);
      const auto acc = static_cast<int32_t>((sum << a.mul_shift) + shared + static_cast<uint32_t>(a.bias[o]));
      if (a.codes != nullptr) {
        a.codes[pixel * a.out_stride_elems + o] = a.end.code(acc, o);
      } else {
        a.out[pixel * a.out_stride_elems + o] = acc;
      }
    }
  }
}

uint32_t sum(const uint8_t* codes, size_t count) {
  uint32_t total = 0;
  for (size_t i = 0; i < count; ++i) total += codes[i];
  return total;
}

void planes(const NarrowPlanes& a) {
  for (int i = 0; i < a.count; ++i) narrow_plane(a, i);
}

}  // namespace

NarrowTarget narrow_scalar_target() {
  return {1, "scalar", true, 0, 0, band, nullptr, nullptr, sum, planes};
}

}  // namespace bitstrata::kernels
