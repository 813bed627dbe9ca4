#pragma once

#include <string>
#include <vector>

#include "onnx/writer.h"
#include "quant/code_type.h"
#include "quant/weights.h"

namespace bitstrata::onnx {

/// Weights of one quantized layer as ONNX formats hold them: real weight = scale[channel] * value.
struct IntegerWeights {
  int bits = 8;  ///< of a code
  quant::IntegerGrid grid;
  std::vector<int32_t> values;  ///< row-major over dims, on the grid
  Dims dims;
  int axis = 0;              ///< of the output channel
  std::vector<float> scale;  ///< per channel, positive normal numbers
};

/// What differs between the formats: how a tensor is rounded to codes, and how weights are stored.
class CodeStyle {
 public:
  virtual ~CodeStyle() = default;
  /// Whether a linear layer on a vector is a Gemm rather than a MatMul.
  virtual bool prefers_gemm() const = 0;
  /// Rounds the floats x to codes of `type` and returns the name of their values. on_grid: x holds values of
  /// codes already.
  virtual std::string round(const std::string& name, const std::string& x, const quant::CodeType& type,
                            bool on_grid) = 0;
  /// Returns the name of the float weights.
  virtual std::string weights(const std::string& name, const IntegerWeights& weights) = 0;
};

/// kInvalidArgument unless opset is in 13..25.
void check_opset(int opset);

/// Writes every op of a valid program: codes and integer weights in `style`, everything else as ONNX
/// operators on floats. Errors: kUnsupported for what ONNX has no form for.
void write_program(const program::Program& program, ModelWriter& writer, CodeStyle& style);

}  // namespace bitstrata::onnx
