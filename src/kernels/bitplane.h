#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/isa.h"

/// What the bit-plane convolution (bitplane.cpp) needs from an instruction set. Internal to the module.
namespace bitstrata::kernels {

/// Pixels of one output row against consecutive blocks of `lanes` output channels of one group. A word is 32
/// bits of one plane, consecutive in a prepared row.
struct BitplaneRow {
  const uint32_t* weights;      ///< [blocks][w_bits][words][lanes]
  const uint8_t* const* words;  ///< [word_count]: word i of plane k of pixel x is at words[i] + offset_bytes
                                ///< + x * pixel_stride_bytes + k * plane_stride_bytes
  size_t offset_bytes, pixel_stride_bytes, plane_stride_bytes;
  int word_count, pixels, blocks;
  int tile_pixels;  ///< pixels to compute together, at most `pixels` and the target's tile_pixels
  int w_bits, a_bits;
  int mul;                     ///< of the weight grid: 1 or 2
  bool differing;              ///< count differing bits, not common ones
  const int32_t* corrections;  ///< [pixels]
  const int32_t* bias;         ///< [blocks * lanes]
  /// Common bits, count = sum over the planes of 2^(m + k) popcount(w_m & v_k):
  /// out[x * out_stride + o] = mul * count + corrections[x] + bias[o], modulo 2^32.
  /// Differing bits, count of w_m ^ v_k: out = (corrections[x] + bias[o] - count) / (2 / mul).
  int32_t* out;
  size_t out_stride_elems;
  int channels;  ///< outputs to write per pixel, at most blocks * lanes
};

/// How a target counts differing bits: not at all, from the words as they are, or from pairs of words of
/// which the second is stored as its exclusive or with the first, in weights and planes alike.
enum class Differing { kNot, kWords, kPairs };

/// The bit-plane code of one instruction set.
struct BitplaneTarget {
  int lanes = 0;                         ///< 0: not compiled in, or this CPU cannot run it
  int tile_pixels = 1, tile_blocks = 1;  ///< most pixels and blocks computed together
  Differing differing = Differing::kNot;
  const char* name = "";
  void (*row)(const BitplaneRow& row) = nullptr;
  /// Splits codes into bit planes: bit i % 8 of byte i / 8 of plane k (at planes + k * plane_stride_bytes) is
  /// bit k of codes[i]. Reads and writes whole steps of 64 codes.
  void (*extract)(const uint8_t* codes, size_t count, int bits, uint8_t* planes,
                  size_t plane_stride_bytes) = nullptr;
  /// sums[i] = sum of the codes whose bits are bytes [i * bytes, (i + 1) * bytes) of each plane. Reads 7
  /// bytes more.
  void (*sums)(const uint8_t* planes, size_t plane_stride_bytes, int bits, size_t bytes, size_t count,
               int32_t* sums) = nullptr;
};

/// The target for exactly this instruction set; kVnni stands for AVX-512 with VPOPCNTDQ and BITALG.
BitplaneTarget bitplane_target(Isa isa);

/// Plain C++, one lane.
BitplaneTarget bitplane_scalar_target();

/// BitplaneTarget::sums, compiled into each target for its instruction that counts bits.
[[gnu::always_inline]] inline void sum_planes(const uint8_t* planes, size_t plane_stride_bytes, int bits,
                                              size_t bytes, size_t count, int32_t* sums) {
  const uint64_t last_mask = bytes % 8 == 0 ? ~uint64_t{0} : (uint64_t{1} << (bytes % 8 * 8)) - 1;
  for (size_t i = 0; i < count; ++i) {
    int total = 0;
    for (int k = 0; k < bits; ++k) {
      const uint8_t* at = planes + k * plane_stride_bytes + i * bytes;
      int ones = 0;
      for (size_t first = 0; first < bytes; first += 8) {
        uint64_t word;
        std::memcpy(&word, at + first, sizeof word);
        ones += std::popcount(first + 8 < bytes ? word : word & last_mask);
      }
      total += ones << k;
    }
    sums[i] = total;
  }
}

}  // namespace bitstrata::kernels
