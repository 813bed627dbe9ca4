#pragma once

#include <vector>

#include "quant/policy.h"
#include "train/torch.h"

/// Fused fake quantization: a tensor as the weighted sum of its quantizations at candidate widths (EBS,
/// papers.md 3.3). One candidate with share 1 is the plain quantizer, to the last bit of the value.
namespace bitstrata::train {

/// A candidate of an activation: codes low..high of values scale * code, low <= 0 <= high.
struct CodeRange {
  float scale = 1;
  int low = 0, high = 255;
};

/// sum_j shares[j] * s_j * clip(rint(x / s_j), low_j, high_j) with s_j = growth * candidates[j].scale, in one
/// pass over x per direction; only x is kept for the backward pass. Gradients: straight-through to x, sum of
/// g * (quantization j) to shares[j], and to growth that of LSQ for each s_j (0 when it does not require a
/// gradient). x: any shape and dense layout, float32; shares: [1 to 8 candidates]; growth: [1], > 0.
/// Candidates that clip to one range from 0 up behave as PACT's, with the range growth * scale * high as its
/// clip (papers.md 3.2). The order of all sums is fixed.
torch::Tensor mix_activations(const torch::Tensor& x, const torch::Tensor& shares,
                              const torch::Tensor& growth, const std::vector<CodeRange>& candidates);

/// The same from framework operations: the definition that mix_activations is tested against, and what CUDA
/// tensors use.
torch::Tensor mix_activations_composed(const torch::Tensor& x, const torch::Tensor& shares,
                                       const torch::Tensor& growth, const std::vector<CodeRange>& candidates);

/// mix_activations in two halves, for who keeps x on his own account. g, the gradient of the value, has the
/// strides of x; that of x is written to gx, of the same strides, which may be g.
torch::Tensor mix_activations_value(const torch::Tensor& x, const torch::Tensor& shares,
                                    const torch::Tensor& growth, const std::vector<CodeRange>& candidates);
struct ActivationMixGradients {
  torch::Tensor x, shares, growth;
};
ActivationMixGradients mix_activations_backward(const torch::Tensor& g, const torch::Tensor& x,
                                                const torch::Tensor& shares, const torch::Tensor& growth,
                                                const std::vector<CodeRange>& candidates,
                                                const torch::Tensor& gx);

/// sum_i shares[i] * fake_quantize_weights(policy, bits[i], weights, params[i]) from one set of weights,
/// fused: what candidates have in common is computed once. params: [candidates, 1 or oc], and the unit
/// where the policy has one; learned params
/// receive their gradient, the shares theirs.
torch::Tensor mix_weights(quant::Policy policy, const std::vector<int>& bits, const torch::Tensor& weights,
                          const torch::Tensor& shares, const torch::Tensor& params);

/// The same by that formula, for tests and for CUDA tensors.
torch::Tensor mix_weights_composed(quant::Policy policy, const std::vector<int>& bits,
                                   const torch::Tensor& weights, const torch::Tensor& shares,
                                   const torch::Tensor& params);

}  // namespace bitstrata::train
