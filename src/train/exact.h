#pragma once

#include <functional>
#include <vector>

#include "program/program.h"
#include "train/torch.h"

namespace bitstrata::train {

/// Evaluates a program in the arithmetic of docs/arithmetic.md with LibTorch: convolutions on integer-valued tensors, one tensor operation per
/// rounding. Independent of the runtime's kernels, so that the two can be compared. Not thread-safe.
class ExactEvaluator {
 public:
  explicit ExactEvaluator(program::Program program, torch::Device device = torch::kCPU);

  /// Logits (the first program output) of x [n, dims of the input], normalised float32.
  torch::Tensor logits(const torch::Tensor& x) { return run(x, {}); }

  /// As logits; `visit` sees every tensor an op writes, [n, dims]: codes v as integer-valued float32, others as float32.
  using Visitor = std::function<void(size_t op_index, program::TensorId id, const torch::Tensor& tensor)>;
  torch::Tensor run(const torch::Tensor& x, const Visitor& visit);

  const program::Program& program() const noexcept { return program_; }

 private:
  struct Layer {
    torch::Tensor weights, mul, add;
    bool wide = false;  ///< accumulators may pass 2^24: float64
  };

  torch::Tensor load(program::TensorId id) const;
  torch::Tensor integers(program::TensorId id) const;
  torch::Tensor compute(size_t op_index);
  torch::Tensor compute_layer(size_t op_index, torch::Tensor x);
  torch::Tensor apply(const program::Step& step, torch::Tensor y) const;
  torch::Tensor move(const program::Op& op) const;
  torch::Tensor vector(const std::vector<float>& values) const;

  program::Program program_;
  torch::Device device_;
  std::vector<Layer> layers_;
  std::vector<size_t> last_use_;
  std::vector<torch::Tensor> tensors_;
};

}  // namespace bitstrata::train
