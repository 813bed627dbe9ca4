#include <utility>

#include "onnx/ops.h"

namespace bitstrata::onnx {

namespace {

/// [k, n] to [n, k], which is how Linear holds its weights.
template <typename T>
std::vector<T> transposed(const std::vector<T>& values, int64_t rows, int64_t columns) {
  std::vector<T> result(values.size());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) result[c * rows + r] = values[r * columns + c];
  }
  return result;
}

int feature_count(const NodeView& n, int64_t count) {
  if (count < 1 || count > (int64_t{1} << 24))
    n.unsupported("{} output features, supported are 1 to 2^24", count);
  return static_cast<int>(count);
}

/// Gemm's C, [out], [1, out], one element or absent, as a bias.
std::vector<float> gemm_bias(Builder& b, const NodeView& n, int64_t out, float beta) {
  if (!b.has(n, 2) || beta == 0) return {};
  std::vector<float> bias = b.float_vector(n, 2);
  const auto& dims = b.constant(n, 2).dims;
  const bool row = dims.empty() || dims.size() == 1 || (dims.size() == 2 && dims[0] == 1);
  if (bias.size() == 1 && row) bias.assign(out, bias[0]);
  if (!row || static_cast<int64_t>(bias.size()) != out) {
    n.unsupported("C of dims [{}], supported are 1 or {} values in a row", fmt::join(dims, ", "), out);
  }
  for (float& v : bias) v *= beta;
  return bias;
}

void gemm(Builder& b, const NodeView& n) {
  const ValueId x = b.activation(n, 0);
  if (n.integer("transA", 0) != 0) n.unsupported("transA = 1 would move the batch, supported is 0");
  if (b.dims(x).size() != 1) n.bad("input of {} dims with the batch, expected 2", b.dims(x).size() + 1);
  const Tensor& weights = b.constant(n, 1);
  if (weights.dims.size() != 2) n.bad("B has {} dims, expected 2", weights.dims.size());
  const bool transposed_b = n.integer("transB", 0) != 0;
  const float alpha = n.real("alpha", 1.0f), beta = n.real("beta", 1.0f);
  graph::Linear linear;
  linear.out = feature_count(n, weights.dims[transposed_b ? 0 : 1]);
  linear.weights = b.float_vector(n, 1);
  if (alpha == 1.0f) linear.integers = b.integers_of(n, 1, transposed_b ? 0 : 1);
  if (!transposed_b) {
    linear.weights = transposed(linear.weights, weights.dims[0], weights.dims[1]);
    if (linear.integers)
      linear.integers->values = transposed(linear.integers->values, weights.dims[0], weights.dims[1]);
  }
  if (alpha != 1.0f) {
    for (float& v : linear.weights) v *= alpha;
  }
  linear.bias = gemm_bias(b, n, linear.out, beta);
  if (weights.dims[transposed_b ? 1 : 0] != b.dims(x).back()) {
    n.bad("A has {} features, B takes {}", b.dims(x).back(), weights.dims[transposed_b ? 1 : 0]);
  }
  b.bind(n, 0, b.emit(n, std::move(linear), {x}));
}

void matmul(Builder& b, const NodeView& n) {
  const ValueId x = b.activation(n, 0);
  if (!b.operand(n, 1).is_constant()) {
    const ValueId y = b.activation(n, 1);
    if (b.dims(x).size() < 2 || b.dims(x).size() != b.dims(y).size()) {
      n.unsupported(
          "of two activations of {} and {} dims with the batch, supported are equal ranks of 3 and more",
          b.dims(x).size() + 1, b.dims(y).size() + 1);
    }
    b.bind(n, 0, b.emit(n, program::MatMul{}, {x, y}));
    return;
  }
  const Tensor& weights = b.constant(n, 1);
  if (weights.dims.size() != 2)
    n.unsupported("constant operand of {} dims, supported are 2", weights.dims.size());
  if (weights.dims[0] != b.dims(x).back())
    n.bad("input has {} features, B takes {}", b.dims(x).back(), weights.dims[0]);
  graph::Linear linear;
  linear.out = feature_count(n, weights.dims[1]);
  linear.weights = transposed(b.float_vector(n, 1), weights.dims[0], weights.dims[1]);
  linear.integers = b.integers_of(n, 1, 1);
  if (linear.integers)
    linear.integers->values = transposed(linear.integers->values, weights.dims[0], weights.dims[1]);
  b.bind(n, 0, b.emit(n, std::move(linear), {x}));
}

void batch_normalization(Builder& b, const NodeView& n) {
  const ValueId x = b.activation(n, 0);
  if (n.integer("training_mode", 0) != 0)
    n.unsupported("training_mode = 1, supported is 0: export the network in evaluation mode");
  if (n.integer("spatial", 1) != 1) n.unsupported("spatial = 0, supported is 1");
  n.real("momentum", 0.9f);
  graph::BatchNorm norm;
  norm.gamma = b.float_vector(n, 1);
  norm.beta = b.float_vector(n, 2);
  norm.mean = b.float_vector(n, 3);
  norm.variance = b.float_vector(n, 4);
  norm.epsilon = n.real("epsilon", 1e-5f);
  b.bind(n, 0, b.emit(n, std::move(norm), {x}));
}

}  // namespace

void add_layer_ops(Handlers& handlers) {
  handlers["Gemm"] = gemm;
  handlers["MatMul"] = matmul;
  handlers["BatchNormalization"] = batch_normalization;
}

}  // namespace bitstrata::onnx
