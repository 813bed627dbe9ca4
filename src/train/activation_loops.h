#pragma once

#include <cstdint>

namespace bitstrata::train {

/// Constants of one fake-quantization pass; see fake_quantize.
struct ActivationPass {
  float scale, inverse, low, high;
  bool interior;  ///< rounding errors inside the range count in the scale's gradient
};

/// y[i] = scale * clip(rint(x[i] * inverse), low, high). Vectorised for the best instruction set of this CPU.
void activation_forward(const ActivationPass& pass, const float* x, float* y, int64_t n);

/// gx[i] = g[i] inside the range, else 0. Returns the sum of this part's contributions to the scale's gradient.
double activation_backward(const ActivationPass& pass, const float* x, const float* g, float* gx, int64_t n);

}  // namespace bitstrata::train
