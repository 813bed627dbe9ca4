#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/isa.h"
#include "kernels/code_end.h"

/// What the narrow-operand int8 convolution (narrow.cpp) needs from an instruction set. Internal to the
/// module.
namespace bitstrata::kernels {

/// Words of four bytes of a prepared row, in planes: one word per output pixel, so that neighbouring pixels'
/// words are neighbours.
struct NarrowPlanes {
  const uint8_t* codes;  ///< word x of plane i is at codes + x * stride_bytes + 4 * i
  size_t stride_bytes;
  int count, words;  ///< planes, and words of each
  uint8_t* out;      ///< word x of plane i goes to out + i * plane_bytes + 4 * x
  size_t plane_bytes;
};

/// Plane i, in plain C++.
inline void narrow_plane(const NarrowPlanes& a, int i) {
  const size_t stride = a.stride_bytes;
  const uint8_t* from = a.codes + size_t{4} * i;
  uint8_t* out = a.out + i * a.plane_bytes;
  for (int left = a.words; left > 0; --left, from += stride, out += 4) std::memcpy(out, from, 4);
}

/// How far 16-bit sums go before they have to be widened: `rows` whole rows of the window, or, with rows 1,
/// `steps` steps of a row, then the rest of it.
struct NarrowExact {
  int rows, steps;
};

/// Consecutive output rows against consecutive blocks of `lanes` output channels of one group.
struct NarrowBand {
  /// [blocks][kernel_h][row_steps][lanes][4], signed or unsigned bytes as the target has it; or [..][2]
  /// int16_t
  const uint8_t* weights;
  /// [out_rows][kernel_h]: the group's planes of the row, or null where all codes are 0
  const uint8_t* const* rows;
  int out_rows, kernel_h, ow;
  const uint32_t*
      offsets;  ///< [row_steps]: of the first output pixel's word, four bytes of operands, in rows
  int row_steps;
  /// The first left_steps are of padding of code 0 for the first pixel of a row, the last right_steps for the
  /// last one.
  int left_steps, right_steps;
  NarrowExact exact;  ///< not used by targets with 32-bit sums
  int blocks;
  /// acc = (sum of products << mul_shift) + value_factor * pixel sum + bias, modulo 2^32
  int mul_shift;
  uint32_t value_factor;
  const uint32_t* pixel_sums;  ///< [out_rows][ow]: sum of the codes in the window; null with value_factor 0
  const int32_t* bias;         ///< [blocks * lanes]
  bool complete;               ///< acc is the sum of products
  CodeEnd end;                 ///< with codes; mul, add: [blocks * lanes]
  /// [out_rows][ow][out_stride_elems]: acc to out, or its codes to `codes`; the other is null
  int32_t* out;
  uint8_t* codes;
  size_t out_stride_elems;
  int channels;  ///< outputs to write per pixel, at most blocks * lanes
};

/// The code of one instruction set.
struct NarrowTarget {
  int lanes = 0;  ///< 0: not compiled in, or this CPU cannot run it
  const char* name = "";
  bool signed_weights = true;  ///< false: weights are unsigned bytes
  int products_per_step = 0;   ///< products that a step adds to one 16-bit sum; 0: sums have 32 bits
  int max_sum = 0;             ///< largest absolute value of a 16-bit sum
  void (*band)(const NarrowBand& band) = nullptr;
  /// As band(), with 32-bit sums. Null: band() has these.
  void (*direct_band)(const NarrowBand& band) = nullptr;
  /// As band() for codes and weights of 16 bits, with 32-bit sums. Null: one step always fits 16-bit sums.
  void (*wide_band)(const NarrowBand& band) = nullptr;
  /// Sum of the codes. 64 bytes behind them may be read.
  uint32_t (*sum)(const uint8_t* codes, size_t count) = nullptr;
  void (*planes)(const NarrowPlanes& planes) = nullptr;
};

/// The target for exactly this instruction set: pairs of products in 16 bits for kAvx2 and kAvx512 (32 bits
/// for 16-bit operands), dot products of four bytes for kVnni, products in 16 bits for kNeon.
NarrowTarget narrow_target(Isa isa);

/// Plain C++, one lane.
NarrowTarget narrow_scalar_target();

}  // namespace bitstrata::kernels
