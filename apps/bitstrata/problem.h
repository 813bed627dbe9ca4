#pragma once

#include <optional>

#include "kernels/conv.h"
#include "program/layer.h"
#include "program/program.h"

namespace bitstrata::cli {

using program::OpBits;

/// The kernel problem of a quantized convolution or linear layer as the runtime poses it; nothing for other
/// ops.
std::optional<kernels::ConvProblem> conv_problem(const program::Program& program, const program::Op& op);

}  // namespace bitstrata::cli
