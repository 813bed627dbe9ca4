#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace bitstrata::kernels {

/// The end given to ConvKernel::fuse(); mul and add in the order of channels that a kernel packs weights in.
struct CodeEnd {
  const float *mul, *add;
  float inverse;
  int max_code;

  /// The code of an accumulator of channel o, in plain C++.
  uint8_t code(int32_t acc, int o) const {
    float y = static_cast<float>(acc) * mul[o];
    y = y + add[o];
    const float code = std::rint(y * inverse);
    return static_cast<uint8_t>(code > 0 ? std::min(code, static_cast<float>(max_code)) : 0.0f);
  }
};

}  // namespace bitstrata::kernels
