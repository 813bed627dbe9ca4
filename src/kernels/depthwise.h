#pragma once

#include <cstddef>
#include <cstdint>

#include "core/isa.h"

/// What the depthwise convolution (depthwise.cpp) needs from an instruction set. Internal to the module.
namespace bitstrata::kernels {

/// One output pixel of all channels: out[c] = sum over the taps of weights[t][c] * (codes[t][c] + zero).
struct DepthwisePixel {
  const int32_t* weights;  ///< of the first tap inside the image; [row][column][channel]
  const uint8_t* codes;    ///< of the same tap
  int rows, columns;       ///< taps inside the image
  size_t weight_row_elems, code_row_elems, code_column_elems;
  int channels, zero;
  int32_t* out;
};

struct DepthwiseTarget {
  const char* name = "";
  void (*pixel)(const DepthwisePixel& pixel) = nullptr;  ///< null: not compiled in, or this CPU cannot run it
};

/// The target for exactly this instruction set.
DepthwiseTarget depthwise_target(Isa isa);

/// Channels [first, channels) in plain C++.
void depthwise_channels(const DepthwisePixel& pixel, int first);

}  // namespace bitstrata::kernels
