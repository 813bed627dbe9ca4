#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace bitstrata::quant {

/// Uniform activation code: a real number x is held as v in [0, 2^bits) with value scale * (v + zero).
/// bits in [1, 8]; scale > 0 and finite; zero in [-(2^bits - 1), 0], 0 after a ReLU-like clip, so that the value 0 is
/// always a code (v = -zero), which is what padding stores.
struct CodeType {
  int bits = 8;
  int zero = 0;
  float scale = 1.0f;

  int levels() const noexcept { return 1 << bits; }
  int max_code() const noexcept { return levels() - 1; }
  uint8_t zero_code() const noexcept { return static_cast<uint8_t>(-zero); }
  /// float32 reciprocal of scale, the factor that quantize() multiplies with.
  float inverse_scale() const noexcept { return 1.0f / scale; }
  bool operator==(const CodeType&) const = default;
};

/// docs/arithmetic.md "store": v = clamp(rint(x * inverse_scale), zero, zero + 2^bits - 1) - zero, every step in float32, rint
/// half to even; NaN becomes the code of the lowest value.
inline uint8_t quantize(float x, const CodeType& type) noexcept {
  const float low = static_cast<float>(type.zero);
  const float high = static_cast<float>(type.zero + type.max_code());
  const float r = std::nearbyintf(x * type.inverse_scale());
  const float clamped = r > low ? (r < high ? r : high) : low;
  return static_cast<uint8_t>(static_cast<int>(clamped) - type.zero);
}

/// docs/arithmetic.md "load": float32(v + zero) * scale, one rounding.
inline float dequantize(uint8_t v, const CodeType& type) noexcept {
  return static_cast<float>(static_cast<int>(v) + type.zero) * type.scale;
}

}  // namespace bitstrata::quant
