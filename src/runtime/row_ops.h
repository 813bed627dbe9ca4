#pragma once

#include <cstddef>
#include <cstdint>

#include "core/isa.h"

namespace bitstrata::runtime {

/// Codes that stand for float32(v + zero) * scale.
struct Codes {
  const uint8_t* v = nullptr;
  int zero = 0;
  float scale = 1;
};

/// Where and how values become codes: v = clamp(rint(y * inverse), zero, zero + max_code) - zero.
struct CodeStore {
  float inverse = 1;
  int zero = 0, max_code = 255;
  uint8_t* v = nullptr;
};

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
  /// scale, addition of the codes `residual` unless that is null, and one or two stores, in one pass.
  void (*requantize)(const int32_t* acc, const float* mul, const float* add, const Codes& residual,
                     const CodeStore* stores, int store_count, size_t count);
  /// y = the largest of v[0..n) at every element, n >= 1; y may be one of them.
  void (*max_codes)(const uint8_t* const* v, int n, uint8_t* y, size_t count);
  const char* name;  ///< Highway's name of the target
};

/// The operations compiled for the highest instruction set up to `cap` that this CPU has.
const RowOps& row_ops(Isa cap);

}  // namespace bitstrata::runtime
