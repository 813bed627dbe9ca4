#include "kernels/narrow.h"

namespace bitstrata::kernels {
namespace {

uint32_t products(const NarrowBand& a, const uint8_t* weights, int x) {
  uint32_t sum = 0;
  for (int ky = 0; ky < a.kernel_h; ++ky) {
    for (int run = 0; run < a.run_count; ++run) {
      const uint8_t* codes = a.codes[ky * a.pixels + x] + a.runs[run].offset_bytes;
      const int bytes = 4 * a.runs[run].steps;
      for (int i = 0; i < bytes; ++i) {
        sum += static_cast<uint32_t>(static_cast<int8_t>(weights[i]) * codes[i]);
      }
      weights += bytes;
    }
  }
  return sum;
}

void band(const NarrowBand& a) {
  for (int x = 0; x < a.pixels; ++x) {
    const uint32_t shared = a.value_factor == 0 ? 0 : a.value_factor * a.pixel_sums[x];
    for (int o = 0; o < a.channels; ++o) {
      const uint32_t sum = products(a, a.weights + size_t{4} * o * a.steps, x);
      const uint32_t y = (sum << a.mul_shift) + shared + static_cast<uint32_t>(a.bias[o]);
      a.out[x * a.out_stride_elems + o] = static_cast<int32_t>(y);
    }
  }
}

uint32_t sum(const uint8_t* codes, size_t count) {
  uint32_t total = 0;
  for (size_t i = 0; i < count; ++i) total += codes[i];
  return total;
}

}  // namespace

NarrowTarget narrow_scalar_target() {
  return {1, "scalar", true, 0, 0, band, nullptr, nullptr, sum};
}

}  // namespace bitstrata::kernels
