#pragma once

#include <cstdint>
#include <vector>

#include "onnx/builder.h"

namespace bitstrata::onnx {

/// The integers that a quantizer clamps to; low <= high.
struct IntegerRange {
  int64_t low = 0, high = 0;
};

/// Appends a quantizer behind `source`: what it stores stands for scale * q, q in low..high. Fewer bits are
/// used where a clip in front leaves fewer codes, and nothing is appended where `source` has such values
/// already. Returns the quantized value. kBadInput when 0 is no code, kUnsupported when 8 bits do not hold
/// the codes.
ValueId quantize_activation(Builder& builder, const NodeView& node, ValueId source, float scale,
                            IntegerRange range);

/// Constant of dims `dims` that stands for scales[i] * integers[i], with its grid where 32 bits are plenty.
Tensor dequantized(Builder& builder, const NodeView& node, const std::vector<int64_t>& dims,
                   const std::vector<int64_t>& integers, const std::vector<float>& scales);

}  // namespace bitstrata::onnx
