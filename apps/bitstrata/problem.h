#pragma once

#include <optional>

#include "kernels/conv.h"
#include "program/program.h"

namespace bitstrata::cli {

/// Bits of an op's weights and of its input: 32 for float32, no weights: w_bits 0.
struct OpBits {
  int w_bits = 0;
  int a_bits = 32;
};
OpBits op_bits(const program::Program& program, const program::Op& op);

/// The kernel problem of a quantized convolution or linear layer as the runtime poses it; nothing for other
/// ops.
std::optional<kernels::ConvProblem> conv_problem(const program::Program& program, const program::Op& op);

/// Bytes of an op's weights as stored: packed codes, or 4 for each float; 0 without weights.
size_t weight_bytes(const program::Op& op);

/// Number of an op's weights.
size_t weight_elems(const program::Program& program, const program::Op& op);

}  // namespace bitstrata::cli
