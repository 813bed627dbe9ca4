#include <bit>
#include <cstring>

#include "kernels/bitplane.h"

namespace bitstrata::kernels {
namespace {

uint32_t load_word(const uint8_t* bytes) {
  uint32_t word;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

uint32_t common_bits(const BitplaneRow& a, const uint32_t* weights, size_t offset) {
  uint32_t count = 0;
  int i = 0;
  for (; i + 2 <= a.word_count; i += 2) {
    const uint64_t w = weights[i] | uint64_t{weights[i + 1]} << 32;
    const uint64_t v = load_word(a.words[i] + offset) | uint64_t{load_word(a.words[i + 1] + offset)} << 32;
    count += static_cast<uint32_t>(std::popcount(w & v));
  }
  if (i < a.word_count)
    count += static_cast<uint32_t>(std::popcount(weights[i] & load_word(a.words[i] + offset)));
  return count;
}

void row(const BitplaneRow& a) {
  for (int x = 0; x < a.pixels; ++x) {
    const size_t pixel = a.offset_bytes + x * a.pixel_stride_bytes;
    for (int o = 0; o < a.channels; ++o) {
      const uint32_t* weights = a.weights + size_t{1} * o * a.w_bits * a.word_count;
      uint32_t sum = 0;
      for (int m = 0; m < a.w_bits; ++m) {
        for (int k = 0; k < a.a_bits; ++k) {
          sum += common_bits(a, weights + size_t{1} * m * a.word_count, pixel + k * a.plane_stride_bytes)
                 << (m + k);
        }
      }
      const uint32_t y = static_cast<uint32_t>(a.mul) * sum + static_cast<uint32_t>(a.corrections[x]) +
                         static_cast<uint32_t>(a.bias[o]);
      a.out[x * a.out_stride_elems + o] = static_cast<int32_t>(y);
    }
  }
}

void extract(const uint8_t* codes, size_t count, int bits, uint8_t* planes, size_t plane_stride_bytes) {
  for (size_t i = 0; i < (count + 63) / 64 * 64; i += 8) {
    uint64_t eight;
    std::memcpy(&eight, codes + i, sizeof eight);
    for (int k = 0; k < bits; ++k) {
      // The product gathers bit 8j of the masked word at bit 56 + j; no two partial products meet.
      const uint64_t gathered = ((eight >> k) & 0x0101010101010101u) * 0x0102040810204080u;
      planes[k * plane_stride_bytes + i / 8] = static_cast<uint8_t>(gathered >> 56);
    }
  }
}

void sums(const uint8_t* planes, size_t plane_stride_bytes, int bits, size_t bytes, size_t count,
          int32_t* out) {
  sum_planes(planes, plane_stride_bytes, bits, bytes, count, out);
}

}  // namespace

BitplaneTarget bitplane_scalar_target() {
  return {1, 1, 1, Differing::kNot, "scalar", row, extract, sums};
}

}  // namespace bitstrata::kernels
