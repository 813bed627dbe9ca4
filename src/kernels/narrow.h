#pragma once

#include <cstddef>
#include <cstdint>

#include "core/isa.h"

/// What the narrow-operand int8 convolution (narrow.cpp) needs from an instruction set. Internal to the
/// module.
namespace bitstrata::kernels {

/// Activations that follow one another in a prepared row, four bytes of them a step.
struct NarrowRun {
  size_t offset_bytes;  ///< from the pixel's first byte in the row
  int steps;
};

/// Consecutive output pixels against consecutive blocks of `lanes` output channels of one group.
struct NarrowBand {
  /// [blocks][steps][lanes][4], signed or unsigned bytes as the target has it; or [..][2] int16_t
  const uint8_t* weights;
  const uint8_t* const* codes;  ///< [kernel_h][pixels]: first byte of the window's row
  int kernel_h, pixels;
  int ow;                ///< pixels of one output row; `pixels` is a multiple
  const uint8_t* zeros;  ///< codes in [zeros, zeros + zeros_bytes) are 0
  size_t zeros_bytes;
  const NarrowRun* runs;  ///< [run_count] of one row of the window
  int run_count, steps;   ///< steps: of the whole window
  /// Steps whose products fit the target's 16-bit sums, at least 1. Not used by targets with 32-bit sums.
  int exact_steps;
  int blocks;
  int mul_shift;
  uint32_t value_factor;
  const uint32_t* pixel_sums;  ///< [pixels]: sum of the codes in the window; may be null with value_factor 0
  const int32_t* bias;         ///< [blocks * lanes]
  /// out[x * out_stride + o] = (sum of products << mul_shift) + value_factor * pixel_sums[x] + bias[o],
  /// modulo 2^32
  int32_t* out;
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
  /// As band(), with 32-bit sums, for an exact_steps of at least 1. Null: band() has these.
  void (*direct_band)(const NarrowBand& band) = nullptr;
  /// As band() for codes and weights of 16 bits, with 32-bit sums. Null: exact_steps is never 0.
  void (*wide_band)(const NarrowBand& band) = nullptr;
  /// Sum of the codes. 64 bytes behind them may be read.
  uint32_t (*sum)(const uint8_t* codes, size_t count) = nullptr;
};

/// The target for exactly this instruction set: pairs of products in 16 bits for kAvx2 and kAvx512 (32 bits
/// for 16-bit operands), dot products of four bytes for kVnni, products in 16 bits for kNeon.
NarrowTarget narrow_target(Isa isa);

/// Plain C++, one lane.
NarrowTarget narrow_scalar_target();

}  // namespace bitstrata::kernels
