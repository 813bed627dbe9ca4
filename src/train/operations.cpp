#include "train/operations.h"

#include <limits>

#include "core/error.h"

namespace bitstrata::train {
namespace {

namespace F = torch::nn::functional;
using torch::Tensor;

bool has_padding(const program::Window& w) { return w.pad_top || w.pad_left || w.pad_bottom || w.pad_right; }

Tensor select(const Tensor& x, int axis, const std::vector<int64_t>& indices) {
  return x.index_select(axis + 1, torch::tensor(indices, torch::TensorOptions(torch::kLong).device(x.device())));
}

Tensor slice(const Tensor& x, const program::Slice& kind, int64_t extent) {
  if (kind.step > 0) return x.slice(kind.axis + 1, kind.start, kind.start + (extent - 1) * kind.step + 1, kind.step);
  std::vector<int64_t> indices;
  for (int64_t i = 0; i < extent; ++i) indices.push_back(kind.start + i * kind.step);
  return select(x, kind.axis, indices);
}

Tensor pad(const Tensor& x, const program::Pad& kind, double value) {
  std::vector<int64_t> sizes;  // last dim first, pairs of before and after
  for (size_t i = kind.before.size(); i-- > 0;) {
    sizes.push_back(kind.before[i]);
    sizes.push_back(kind.after[i]);
  }
  return torch::constant_pad_nd(x, sizes, value);
}

}  // namespace

Tensor pad_window(const Tensor& x, const program::Window& w, double value) {
  if (!has_padding(w)) return x;
  return torch::constant_pad_nd(x, {w.pad_left, w.pad_right, w.pad_top, w.pad_bottom}, value);
}

Tensor convolve(const Tensor& x, const Tensor& weights, const Tensor& bias, const program::Window& w, int groups) {
  const bool symmetric = w.pad_top == w.pad_bottom && w.pad_left == w.pad_right;
  const Tensor padded = symmetric ? x : pad_window(x, w, 0);
  const std::vector<int64_t> padding = symmetric ? std::vector<int64_t>{w.pad_top, w.pad_left} : std::vector<int64_t>{0, 0};
  return torch::conv2d(padded, weights, bias, {w.stride_h, w.stride_w}, padding, {w.dilation_h, w.dilation_w}, groups);
}

Tensor max_pool(const Tensor& x, const program::Window& w) {
  const Tensor padded = pad_window(x, w, -std::numeric_limits<double>::infinity());
  return torch::max_pool2d(padded, {w.kernel_h, w.kernel_w}, {w.stride_h, w.stride_w}, {0, 0}, {w.dilation_h, w.dilation_w});
}

Tensor window_sums(const Tensor& x, const program::Window& w) {
  const Tensor padded = pad_window(x, w, 0);
  if (w.dilation_h == 1 && w.dilation_w == 1) {
    return torch::avg_pool2d(padded, {w.kernel_h, w.kernel_w}, {w.stride_h, w.stride_w}, {0, 0}, false, true, 1);
  }
  const auto starts = [](int64_t extent, int kernel, int stride, int dilation) { return (extent - dilation * (kernel - 1) - 1) / stride * stride + 1; };
  const int64_t rows = starts(padded.size(2), w.kernel_h, w.stride_h, w.dilation_h), columns = starts(padded.size(3), w.kernel_w, w.stride_w, w.dilation_w);
  Tensor sum;
  for (int64_t i = 0; i < w.kernel_h; ++i) {
    for (int64_t j = 0; j < w.kernel_w; ++j) {
      const int64_t top = i * w.dilation_h, left = j * w.dilation_w;
      const Tensor term = padded.slice(2, top, top + rows, w.stride_h).slice(3, left, left + columns, w.stride_w);
      sum = sum.defined() ? sum + term : term;
    }
  }
  return sum;
}

Tensor window_counts(const Tensor& x, const program::AveragePool& pool) {
  if (pool.count_include_pad) return torch::full({1, 1, 1, 1}, pool.window.kernel_h * pool.window.kernel_w, x.options());
  return window_sums(torch::ones({1, 1, x.size(2), x.size(3)}, x.options()), pool.window);
}

std::vector<int64_t> batch_axes(const std::vector<int>& axes) {
  std::vector<int64_t> shifted;
  for (int axis : axes) shifted.push_back(axis + 1);
  return shifted;
}

Tensor broadcastable(const Tensor& x, size_t rank) {
  std::vector<int64_t> dims{x.size(0)};
  dims.resize(1 + rank - static_cast<size_t>(x.dim() - 1), 1);
  dims.insert(dims.end(), x.sizes().begin() + 1, x.sizes().end());
  return static_cast<size_t>(x.dim() - 1) == rank ? x : x.reshape(dims);
}

Tensor per_channel(const Tensor& vector, int64_t rank) {
  std::vector<int64_t> dims(static_cast<size_t>(rank), 1);
  dims[1] = vector.numel();
  return vector.reshape(dims);
}

Tensor move_data(const program::Kind& kind, const std::vector<Tensor>& inputs, const program::Dims& dims, double pad_value) {
  const Tensor& x = inputs[0];
  if (const auto* pool = std::get_if<program::MaxPool>(&kind)) return max_pool(x, pool->window);
  if (const auto* concat = std::get_if<program::Concat>(&kind)) return torch::cat(inputs, concat->axis + 1);
  if (const auto* cut = std::get_if<program::Slice>(&kind)) return slice(x, *cut, dims[static_cast<size_t>(cut->axis)]);
  if (const auto* padding = std::get_if<program::Pad>(&kind)) return pad(x, *padding, pad_value);
  if (const auto* gather = std::get_if<program::Gather>(&kind)) return select(x, gather->axis, gather->indices);
  if (const auto* transpose = std::get_if<program::Transpose>(&kind)) {
    std::vector<int64_t> order{0};
    for (int axis : transpose->perm) order.push_back(axis + 1);
    return x.permute(order);
  }
  if (std::holds_alternative<program::Reshape>(kind)) {
    std::vector<int64_t> shape{x.size(0)};
    shape.insert(shape.end(), dims.begin(), dims.end());
    return x.reshape(shape);
  }
  fail(ErrorCode::kInternal, "move_data: '{}' is not data movement", program::to_string(kind));
}

Tensor apply_function(program::Function function, const Tensor& x, double a) {
  using program::Function;
  switch (function) {
    case Function::kNone: return x;
    case Function::kSigmoid: return torch::sigmoid(x);
    case Function::kTanh: return torch::tanh(x);
    case Function::kExp: return torch::exp(x);
    case Function::kLog: return torch::log(x);
    case Function::kSqrt: return torch::sqrt(x);
    case Function::kErf: return torch::erf(x);
    case Function::kSoftplus: return torch::softplus(x);
    case Function::kElu: return torch::elu(x, a);
    case Function::kSilu: return torch::silu(x);
    case Function::kGelu: return torch::gelu(x);
    case Function::kAbs: return torch::abs(x);
    case Function::kNegate: return -x;
    case Function::kReciprocal: return torch::reciprocal(x);
    case Function::kPower: return torch::pow(x, a);
  }
  return x;
}

}  // namespace bitstrata::train
