#pragma once

#include <optional>
#include <vector>

#include "onnx/builder.h"

namespace bitstrata::onnx {

/// True for operators that fold_constants knows.
bool is_foldable(const std::string& op);

/// Evaluates a node whose inputs are all constants: its first output. Results count against builder.budget.
/// Errors: kBadInput (shapes contradict, division by zero), kUnsupported (too many elements).
Tensor fold_constants(Builder& builder, const NodeView& node);

}  // namespace bitstrata::onnx
