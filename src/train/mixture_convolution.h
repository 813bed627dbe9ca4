#pragma once

#include <vector>

#include "program/program.h"
#include "train/mixture_quantizer.h"
#include "train/torch.h"

namespace bitstrata::train {

/// Whether mix_convolve can do this convolution: padding must be the same on opposite sides.
bool can_mix_convolve(const program::Window& window) noexcept;

/// convolve(mix_activations(x, shares, growth, candidates), weights, bias, window, groups) with the same
/// gradients, but for the backward pass only x is kept, which the graph mostly keeps anyway, and the mixture
/// is computed again: it would be as large as x. bias: may be undefined. On the CPU.
torch::Tensor mix_convolve(const torch::Tensor& x, const torch::Tensor& shares, const torch::Tensor& growth,
                           const std::vector<CodeRange>& candidates, const torch::Tensor& weights,
                           const torch::Tensor& bias, const program::Window& window, int groups);

}  // namespace bitstrata::train
