#pragma once

#include "quant/policy.h"
#include "train/torch.h"

namespace bitstrata::train {

/// Differentiable counterpart of quant::quantize_weights: the quantized real weights, with each policy's
/// gradient estimator (methods.md sheets 1 to 8). Made of framework operations: the definition of what
/// mix_weights fuses. weights: [oc, ...] float32; params: [1] or [oc], and the unit where the policy has one,
/// > 0, as in quant/weights.h. LSQ's params receive a gradient, scaled by 1 / sqrt(elements per param * Qp);
/// the other policies' do not. Any device.
torch::Tensor fake_quantize_weights(quant::Policy policy, int bits, const torch::Tensor& weights,
                                    const torch::Tensor& params);

/// Whether `params` of the policy are trained.
bool learns_weight_params(quant::Policy policy) noexcept;

/// Multiplies the gradient of `parameter` by `factor` and leaves its value alone (LSQ's gradient scale).
torch::Tensor scale_gradient(const torch::Tensor& parameter, double factor);

}  // namespace bitstrata::train
