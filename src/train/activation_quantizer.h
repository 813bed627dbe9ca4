#pragma once

#include "train/torch.h"

namespace bitstrata::train {

/// How the gradient of an activation quantizer's scale is estimated.
enum class ScaleGradient {
  kNone,     ///< fixed scale
  kClipped,  ///< PACT: only values beyond the range move it (methods.md sheet 2)
  kLsq,      ///< LSQ: rounding errors inside the range count too (sheet 5); the CG variant of PACT
};

/// Fake quantization y = s * clip(rint(x / s), low, high) with the straight-through estimator: dy/dx = 1 where low < x/s < high, else 0.
/// dy/ds = low or high beyond the range; inside 0 (kClipped) or rint(x/s) - x/s (kLsq). One pass over x per direction: only x is kept for
/// the backward pass, codes are recomputed. x: any shape and dense layout, float32; scale: one element > 0, same device;
/// low <= 0 <= high: the zero point and zero point + 2^bits - 1. The order of the sums that form ds is fixed for a thread count.
torch::Tensor fake_quantize(const torch::Tensor& x, const torch::Tensor& scale, int low, int high, ScaleGradient gradient);

/// The same from framework operations: the definition that fake_quantize is tested against, and what CUDA tensors use.
torch::Tensor fake_quantize_composed(const torch::Tensor& x, const torch::Tensor& scale, int low, int high, ScaleGradient gradient);

/// Multiplies the gradient of `parameter` by `factor` and leaves its value alone (LSQ's gradient scale).
torch::Tensor scale_gradient(const torch::Tensor& parameter, double factor);

}  // namespace bitstrata::train
