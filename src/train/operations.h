#pragma once

#include "program/program.h"
#include "train/torch.h"

/// Operators of the graph and the program on LibTorch tensors with a leading batch dimension; shared by training and exact evaluation.
namespace bitstrata::train {

/// x padded by the window with `value`; x itself when there is nothing to pad.
torch::Tensor pad_window(const torch::Tensor& x, const program::Window& window, double value);

/// 2-D convolution, any padding, no bias when `bias` is undefined.
torch::Tensor convolve(const torch::Tensor& x, const torch::Tensor& weights, const torch::Tensor& bias, const program::Window& window, int groups);

torch::Tensor max_pool(const torch::Tensor& x, const program::Window& window);

/// Sums over windows, and how many positions count for each output [1, 1, oh, ow].
torch::Tensor window_sums(const torch::Tensor& x, const program::Window& window);
torch::Tensor window_counts(const torch::Tensor& x, const program::AveragePool& pool);

/// Per-image axes of a mean as tensor axes, and how many elements one mean covers.
std::vector<int64_t> batch_axes(const std::vector<int>& axes);

/// x [n, dims] with ones put in front of its per-image dims until there are `rank`, so that it broadcasts from the right image by image.
torch::Tensor broadcastable(const torch::Tensor& x, size_t rank);

/// A vector of 1 or C entries shaped to scale the first per-image dim of a tensor with `rank` dims (batch included).
torch::Tensor per_channel(const torch::Tensor& vector, int64_t rank);

/// Slice, Concat, Pad (float value), Transpose, Reshape, Gather, MaxPool: data movement on one or more inputs to per-image dims `dims`.
torch::Tensor move_data(const program::Kind& kind, const std::vector<torch::Tensor>& inputs, const program::Dims& dims, double pad_value);

/// Scalar function in the tensor's precision.
torch::Tensor apply_function(program::Function function, const torch::Tensor& x, double a);

}  // namespace bitstrata::train
