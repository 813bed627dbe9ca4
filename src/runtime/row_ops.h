#pragma once

#include <cstddef>
#include <cstdint>

#include "core/isa.h"

namespace bitstrata::runtime {

/// The operations of docs/arithmetic.md over `count` neighbouring elements, for one instruction set. Element
/// by element they round exactly as written there, so that every instruction set gives the same result. No
/// alignment needed.
struct RowOps {
  static constexpr int kBinaryOps =
      5;  ///< add, subtract, reverse subtract, multiply, divide, as in program::StepKind

  /// y = float32(acc)
  void (*convert)(const int32_t* acc, float* y, size_t count);
  /// y = float32(acc) * mul; y = y + add
  void (*scale)(const int32_t* acc, const float* mul, const float* add, float* y, size_t count);
  /// y = float32(v + zero) * scale
  void (*load)(const uint8_t* v, int zero, float scale, float* y, size_t count);
  /// y = y op t, with t per element, one value, or codes to be loaded.
  void (*vector[kBinaryOps])(float* y, const float* t, size_t count);
  void (*scalar[kBinaryOps])(float* y, float t, size_t count);
  void (*codes[kBinaryOps])(float* y, const uint8_t* v, int zero, float scale, size_t count);
  void (*clip)(float* y, float a, float b, size_t count);
  void (*leaky_relu)(float* y, float slope, size_t count);
  void (*prelu)(float* y, const float* slope, size_t count);
  void (*hard_sigmoid)(float* y, float a, float b, size_t count);
  void (*hard_swish)(float* y, size_t count);
  /// v = clamp(rint(y * inverse), zero, zero + max_code) - zero
  void (*store)(const float* y, float inverse, int zero, int max_code, uint8_t* v, size_t count);
  /// scale and store in one pass, for the layers whose epilogue is just that.
  void (*requantize)(const int32_t* acc, const float* mul, const float* add, float inverse, int zero,
                     int max_code, uint8_t* v, size_t count);
  /// scale, addition of the codes `residual`, and store in one pass, for the ends of residual blocks.
  void (*requantize_sum)(const int32_t* acc, const float* mul, const float* add, const uint8_t* residual,
                         int residual_zero, float residual_scale, float inverse, int zero, int max_code,
                         uint8_t* v, size_t count);
  const char* name;  ///< Highway's name of the target
};

/// The operations compiled for the highest instruction set up to `cap` that this CPU has.
const RowOps& row_ops(Isa cap);

}  // namespace bitstrata::runtime
