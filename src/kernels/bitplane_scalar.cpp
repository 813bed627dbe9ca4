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

uint32_t common_bits(const BitplaneRow& a, const uint32_t* weights, const uint8_t* plane) {
  uint32_t count = 0;
  int i = 0;
  for (; i + 2 <= a.words; i += 2) {
    const uint64_t w = weights[i] | uint64_t{weights[i + 1]} << 32;
    const uint64_t v = load_word(plane + a.word_offsets_bytes[i]) |
                       uint64_t{load_word(plane + a.word_offsets_bytes[i + 1])} << 32;
    count += static_cast<uint32_t>(std::popcount(w & v));
  }
  if (i < a.words) {
    count += static_cast<uint32_t>(std::popcount(weights[i] & load_word(plane + a.word_offsets_bytes[i])));
  }
  return count;
}

void row(const BitplaneRow& a) {
  for (int x = 0; x < a.pixels; ++x) {
    const uint8_t* pixel = a.planes + x * a.pixel_stride_bytes;
    for (int o = 0; o < a.channels; ++o) {
      const uint32_t* weights = a.weights + size_t{1} * o * a.w_bits * a.words;
      uint32_t sum = 0;
      for (int m = 0; m < a.w_bits; ++m) {
        for (int k = 0; k < a.a_bits; ++k) {
          sum += common_bits(a, weights + size_t{1} * m * a.words, pixel + k * a.plane_stride_bytes)
                 << (m + k);
        }
      }
      const uint32_t y = static_cast<uint32_t>(a.mul) * sum +
                         static_cast<uint32_t>(a.offset) * static_cast<uint32_t>(a.pixel_sums[x]) +
                         static_cast<uint32_t>(a.bias[o]);
      a.out[x * a.out_stride_elems + o] = static_cast<int32_t>(y);
    }
  }
}

int32_t sum(const uint8_t* codes, size_t count) {
  uint32_t total = 0;
  for (size_t i = 0; i < count; ++i) total += codes[i];
  return static_cast<int32_t>(total);
}

}  // namespace

void extract_planes_scalar(const uint8_t* codes, size_t count, int bits, uint8_t* planes,
                           size_t plane_stride_bytes) {
  for (size_t i = 0; i < count; i += 32) {
    uint8_t padded[32] = {};
    std::memcpy(padded, codes + i, count - i < 32 ? count - i : 32);
    for (int k = 0; k < bits; ++k) {
      for (int byte = 0; byte < 4; ++byte) {
        uint64_t eight = 0;
        for (int j = 0; j < 8; ++j) eight |= uint64_t{padded[8 * byte + j]} << (8 * j);
        // The product gathers bit 8j of the masked word at bit 56 + j; no two partial products meet.
        const uint64_t gathered = ((eight >> k) & 0x0101010101010101u) * 0x0102040810204080u;
        planes[k * plane_stride_bytes + i / 8 + byte] = static_cast<uint8_t>(gathered >> 56);
      }
    }
  }
}

BitplaneTarget bitplane_scalar_target() {
  return {1, "scalar", row, extract_planes_scalar, sum};
}

}  // namespace bitstrata::kernels
