#include <cmath>

#include "runtime/epilogue.h"

namespace bitstrata::runtime {
namespace {

using program::Op;

class ElementwiseExecutor final : public Executor {
 public:
  ElementwiseExecutor(const Preparation& p, const Op& op)
      : epilogue_(p, op, scratch_),
        source_(p, op.inputs[0], p.tensor(op.outputs[0]).dims, epilogue_.tiling()) {}

  void run(const Context& context) const noexcept override {
    epilogue_.run(context, 0, context.n, [&](int64_t image, Tiling::Tile tile, float* y, void*) {
      source_.fill(context, image, tile, y);
    });
  }

 private:
  Epilogue epilogue_;
  Source source_;
};

class LookupExecutor final : public Executor {
 public:
  LookupExecutor(const Preparation& p, const Op& op)
      : input_(op.inputs[0]),
        elems_(program::elements(p.tensor(input_).dims)),
        table_(std::get<program::Lookup>(op.kind).table),
        epilogue_(p, op, scratch_) {}

  void run(const Context& context) const noexcept override {
    epilogue_.run(context, 0, context.n, [&](int64_t image, Tiling::Tile tile, float* y, void*) {
      const uint8_t* codes = context.data<uint8_t>(input_) + image * elems_ + tile.begin;
      for (int64_t i = 0; i < tile.count; ++i) y[i] = table_[codes[i]];
    });
  }

 private:
  TensorId input_;
  int64_t elems_;
  std::vector<float> table_;
  Epilogue epilogue_;
};

class SoftmaxExecutor final : public Executor {
 public:
  SoftmaxExecutor(const Preparation& p, const Op& op, size_t axis)
      : input_(op.inputs[0]), threads_(p.options.threads), epilogue_(p, op, scratch_) {
    const Dims& dims = p.tensor(input_).dims;
    elems_ = program::elements(dims);
    length_ = dims[axis];
    stride_ = physical_strides(dims)[axis];
    result_offset_ = scratch_.reserve(static_cast<size_t>(p.options.max_batch) * static_cast<size_t>(elems_) *
                                      sizeof(float));
  }

  void run(const Context& context) const noexcept override {
    const float* source = context.data<float>(input_);
    auto* result = reinterpret_cast<float*>(context.scratch + result_offset_);
    parallel_for(threads_, context.n * (elems_ / length_), [&](int64_t group, int) {
      const int64_t first = group / stride_ * stride_ * length_ + group % stride_;
      normalise(source + first, result + first);
    });
    epilogue_.run(context, 0, context.n, [&](int64_t image, Tiling::Tile tile, float* y, void*) {
      std::copy_n(result + image * elems_ + tile.begin, tile.count, y);
    });
  }

 private:
  void normalise(const float* x, float* y) const noexcept {
    float largest = x[0];
    for (int64_t i = 1; i < length_; ++i) largest = std::max(largest, x[i * stride_]);
    double sum = 0;
    for (int64_t i = 0; i < length_; ++i) sum += y[i * stride_] = std::exp(x[i * stride_] - largest);
    for (int64_t i = 0; i < length_; ++i) y[i * stride_] = static_cast<float>(y[i * stride_] / sum);
  }

  TensorId input_;
  int threads_;
  int64_t elems_ = 0, length_ = 1, stride_ = 1;
  size_t result_offset_ = 0;
  Epilogue epilogue_;
};

/// Works on row-major copies of one image's matrices.
class MatMulExecutor final : public Executor {
 public:
  MatMulExecutor(const Preparation& p, const Op& op)
      : threads_(p.options.threads), epilogue_(p, op, scratch_) {
    const Dims &a = p.tensor(op.inputs[0]).dims, &b = p.tensor(op.inputs[1]).dims,
               &out = p.tensor(op.outputs[0]).dims;
    m_ = a[a.size() - 2], k_ = a.back(), n_ = b.back();
    matrices_ = program::elements(a) / (m_ * k_);
    left_.emplace(operand(p, op.inputs[0], a));
    right_.emplace(operand(p, op.inputs[1], b));
    out_.emplace(out, row_major_strides(out), physical_strides(out));
    out_elems_ = program::elements(out);
    row_major_offset_ =
        scratch_.reserve(static_cast<size_t>(p.options.max_batch * out_elems_) * sizeof(float));
    result_offset_ = scratch_.reserve(static_cast<size_t>(p.options.max_batch * out_elems_) * sizeof(float));
  }

  void run(const Context& context) const noexcept override {
    auto* result = reinterpret_cast<float*>(context.scratch + result_offset_);
    parallel_for(threads_, context.n, [&](int64_t image, int) {
      const float* a = rows(*left_, context, image);
      const float* b = rows(*right_, context, image);
      float* y = reinterpret_cast<float*>(context.scratch + row_major_offset_) + image * out_elems_;
      for (int64_t i = 0; i < matrices_; ++i) multiply(a + i * m_ * k_, b + i * k_ * n_, y + i * m_ * n_);
      out_->run(y, result + image * out_elems_);
    });
    epilogue_.run(context, 0, context.n, [&](int64_t image, Tiling::Tile tile, float* y, void*) {
      std::copy_n(result + image * out_elems_ + tile.begin, tile.count, y);
    });
  }

 private:
  struct Operand {
    TensorId tensor;
    int64_t elems;
    StridedCopy copy;
    size_t offset;
  };

  Operand operand(const Preparation& p, TensorId id, const Dims& dims) {
    const int64_t elems = program::elements(dims);
    const size_t offset = scratch_.reserve(static_cast<size_t>(p.options.max_batch * elems) * sizeof(float));
    return {id, elems, StridedCopy(dims, physical_strides(dims), row_major_strides(dims)), offset};
  }

  static const float* rows(const Operand& operand, const Context& context, int64_t image) noexcept {
    float* target = reinterpret_cast<float*>(context.scratch + operand.offset) + image * operand.elems;
    operand.copy.run(context.data<float>(operand.tensor) + image * operand.elems, target);
    return target;
  }

  void multiply(const float* a, const float* b, float* y) const noexcept {
    for (int64_t i = 0; i < m_; ++i, y += n_) {
      std::fill_n(y, n_, 0.0f);
      for (int64_t k = 0; k < k_; ++k) {
        const float factor = a[i * k_ + k];
        const float* row = b + k * n_;
        for (int64_t j = 0; j < n_; ++j) y[j] += factor * row[j];
      }
    }
  }

  int threads_;
  int64_t m_ = 1, k_ = 1, n_ = 1, matrices_ = 1, out_elems_ = 0;
  std::optional<Operand> left_, right_;
  std::optional<StridedCopy> out_;
  size_t row_major_offset_ = 0, result_offset_ = 0;
  Epilogue epilogue_;
};

}  // namespace

std::unique_ptr<Executor> make_elementwise(const Preparation& p, const Op& op) {
  if (std::holds_alternative<program::Lookup>(op.kind)) return std::make_unique<LookupExecutor>(p, op);
  return std::make_unique<ElementwiseExecutor>(p, op);
}

std::unique_ptr<Executor> make_float_op(const Preparation& p, const Op& op) {
  if (const auto* softmax = std::get_if<program::Softmax>(&op.kind)) {
    return std::make_unique<SoftmaxExecutor>(p, op, static_cast<size_t>(softmax->axis));
  }
  return std::make_unique<MatMulExecutor>(p, op);
}

}  // namespace bitstrata::runtime
