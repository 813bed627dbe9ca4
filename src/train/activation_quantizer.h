#pragma once

#include "train/torch.h"

namespace bitstrata::train {

/// Fake quantization y = s * clip(rint(x / s), low, high) with the straight-through estimator: dy/dx = 1
/// where low < x/s < high, else 0. dy/ds as LSQ has it (methods.md sheet 5): low or high beyond the range,
/// rint(x/s) - x/s inside. Made of framework operations: the definition of what mix_activations fuses. x: any
/// shape, any device; scale: one element > 0, same device; low <= 0 <= high: the zero point and zero point +
/// 2^bits - 1.
torch::Tensor fake_quantize(const torch::Tensor& x, const torch::Tensor& scale, int low, int high);

}  // namespace bitstrata::train
