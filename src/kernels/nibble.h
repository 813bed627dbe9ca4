#pragma once

#include <cstddef>
#include <cstdint>

#include "core/isa.h"

/// What the fully connected kernel with two weights per byte (nibble.cpp) needs from an instruction set.
/// Internal to the module.
namespace bitstrata::kernels {

/// Codes that one step takes per pixel: four with the low halves of the weights' bytes, four with the high
/// ones.
inline constexpr int kNibbleStep = 8;
/// Pixels that share one pass over the weights.
inline constexpr int kNibblePixels = 4;

/// Some pixels against consecutive blocks of `lanes` output channels.
struct NibblePixels {
  /// [blocks][steps][lanes][4]: the low half of byte j is the code of input 8 * step + j, the high half of
  /// input 8 * step + 4 + j
  const uint8_t* weights;
  const uint8_t* codes[kNibblePixels];  ///< [channels of the input], read in whole steps
  const uint8_t* tails[kNibblePixels];  ///< the last step of each, padded with zeros
  int pixels;                           ///< in [1, kNibblePixels]
  int steps;                            ///< the last one reads `tails`
  int exact_steps;  ///< steps whose products fit the target's 16-bit sums, at least 1; unused with 32-bit
                    ///< sums
  int blocks;
  /// out[p][o] = sum << mul_shift + shared[p] + bias[o], modulo 2^32, `sum` of weight codes times codes
  int mul_shift;
  uint32_t shared[kNibblePixels];
  const int32_t* bias;          ///< [blocks * lanes]
  int32_t* out[kNibblePixels];  ///< of the first block
  int channels;                 ///< outputs to write per pixel, at most blocks * lanes
};

/// The code of one instruction set.
struct NibbleTarget {
  int lanes = 0;  ///< 0: not compiled in, or this CPU cannot run it
  const char* name = "";
  int products_per_step = 0;  ///< products that a step adds to one 16-bit sum; 0: sums have 32 bits
  int max_sum = 0;            ///< largest 16-bit sum
  void (*run)(const NibblePixels& pixels) = nullptr;
};

/// The target for exactly this instruction set.
NibbleTarget nibble_target(Isa isa);

}  // namespace bitstrata::kernels
