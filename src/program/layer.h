#pragma once

#include "program/program.h"

namespace bitstrata::program {

/// Weights of a convolution or linear op; null for other ops.
const Weights* weights_of(const Op& op) noexcept;

/// Bits of an op's weights and of its input: 32 for float32, no weights: w_bits 0.
struct OpBits {
  int w_bits = 0;
  int a_bits = 32;
};
OpBits op_bits(const Program& program, const Op& op) noexcept;

/// Bytes of an op's weights as stored: packed codes, or 4 for each float; 0 without weights.
size_t weight_bytes(const Op& op) noexcept;

/// Number of an op's weights.
size_t weight_elems(const Program& program, const Op& op) noexcept;

}  // namespace bitstrata::program
