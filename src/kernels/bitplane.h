#pragma once

#include <cstddef>
#include <cstdint>

#include "core/isa.h"

/// What the bit-plane convolution (bitplane.cpp) needs from an instruction set. Internal to the module.
namespace bitstrata::kernels {

/// Pixels of one output row against consecutive blocks of `lanes` output channels of one group. A word is 32
/// bits of one plane: 32 consecutive input channels at one window position.
struct BitplaneRow {
  const uint32_t* weights;  ///< [blocks][w_bits][words][lanes]
  const uint8_t* planes;  ///< word i of plane k of pixel x is at planes + x * pixel_stride + k * plane_stride
                          ///< + word_offsets[i]
  size_t pixel_stride_bytes, plane_stride_bytes;
  const size_t* word_offsets_bytes;  ///< [words]
  int words, pixels, blocks;
  int w_bits, a_bits;
  const int32_t* pixel_sums;  ///< [pixels]: sum of the codes in the window
  const int32_t* bias;        ///< [blocks * lanes]
  int mul, offset;            ///< of the weight grid
  int32_t* out;  ///< out[x * out_stride + o] = mul * sum uv + offset * pixel_sums[x] + bias[o], modulo 2^32
  size_t out_stride_elems;
  int channels;  ///< outputs to write per pixel, at most blocks * lanes
};

/// The bit-plane code of one instruction set.
struct BitplaneTarget {
  int lanes = 0;  ///< 0: not compiled in, or this CPU cannot run it
  const char* name = "";
  void (*row)(const BitplaneRow& row) = nullptr;
  /// Splits `count` codes into bit planes: bit i % 8 of byte i / 8 of plane k (at planes + k *
  /// plane_stride_bytes) is bit k of codes[i]. Writes whole 32-bit words, unused bits 0.
  void (*extract)(const uint8_t* codes, size_t count, int bits, uint8_t* planes,
                  size_t plane_stride_bytes) = nullptr;
  int32_t (*sum)(const uint8_t* codes, size_t count) = nullptr;  ///< sum of the codes modulo 2^32
};

/// The target for exactly this instruction set; kVnni stands for AVX-512 with VPOPCNTDQ and BITALG.
BitplaneTarget bitplane_target(Isa isa);

/// Plain C++, one lane.
BitplaneTarget bitplane_scalar_target();

/// The tail of extract: plain C++, any count. Same contract.
void extract_planes_scalar(const uint8_t* codes, size_t count, int bits, uint8_t* planes,
                           size_t plane_stride_bytes);

}  // namespace bitstrata::kernels
