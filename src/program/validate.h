#pragma once

#include "program/program.h"

/// The two halves of validate(), private to this module.
namespace bitstrata::program::detail {

/// Rejects an op whose inputs are defined tensors: number of inputs, code types, parameters, dims, steps.
void validate_op(const Program& program, const Op& op);

/// "[3, 32, 32]".
std::string text(const Dims& dims);

}  // namespace bitstrata::program::detail
