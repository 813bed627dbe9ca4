#include <algorithm>

#include "runtime/executor.h"
#include "runtime/layout.h"
#include "runtime/parallel.h"

namespace bitstrata::runtime {
namespace {

using program::Op;

/// One strided copy per part of each image, after an optional fill: concat, slice, pad, transpose, reshape.
class CopyExecutor : public Executor {
 public:
  CopyExecutor(const Preparation& p, const Op& op)
      : output_(op.outputs[0]),
        codes_(p.tensor(output_).code),
        threads_(p.options.threads),
        out_elems_(program::elements(p.tensor(output_).dims)) {}

  void add_part(const Preparation& p, TensorId input, StridedCopy copy) {
    parts_.push_back({input, program::elements(p.tensor(input).dims), std::move(copy)});
  }

  void fill_with(float value) {
    fills_ = true;
    fill_ = value;
    if (codes_) fill_code_ = quant::quantize(value, *codes_);
  }

  void run(const Context& context) const noexcept override {
    if (codes_)
      copy<uint8_t>(context, fill_code_);
    else
      copy<float>(context, fill_);
  }

 private:
  struct Part {
    TensorId input;
    int64_t elems;
    StridedCopy copy;
  };

  template <typename T>
  void copy(const Context& context, T fill) const noexcept {
    parallel_for(threads_, context.n, [&](int64_t image, int) {
      T* target = context.data<T>(output_) + image * out_elems_;
      if (fills_) std::fill_n(target, out_elems_, fill);
      for (const Part& part : parts_) part.copy.run(context.data<T>(part.input) + image * part.elems, target);
    });
  }

  TensorId output_;
  std::optional<quant::CodeType> codes_;
  int threads_;
  int64_t out_elems_;
  bool fills_ = false;
  float fill_ = 0;
  uint8_t fill_code_ = 0;
  std::vector<Part> parts_;
};

/// Runs of `inner` elements taken by index.
class GatherExecutor final : public Executor {
 public:
  GatherExecutor(const Preparation& p, const Op& op, const program::Gather& gather)
      : input_(op.inputs[0]),
        output_(op.outputs[0]),
        codes_(p.tensor(output_).code),
        threads_(p.options.threads),
        indices_(gather.indices) {
    const Dims& in = p.tensor(input_).dims;
    length_ = in[static_cast<size_t>(gather.axis)];
    inner_ = physical_strides(in)[static_cast<size_t>(gather.axis)];
    // The other axes keep their sizes, so both counts serve input and output.
    outer_ = program::elements(in) / (length_ * inner_);
  }

  void run(const Context& context) const noexcept override {
    if (codes_)
      take<uint8_t>(context);
    else
      take<float>(context);
  }

 private:
  template <typename T>
  void take(const Context& context) const noexcept {
    const auto count = static_cast<int64_t>(indices_.size());
    parallel_for(threads_, context.n * outer_, [&](int64_t row, int) {
      const T* source = context.data<T>(input_) + row * length_ * inner_;
      T* target = context.data<T>(output_) + row * count * inner_;
      if (inner_ == 1) {
        for (int64_t i = 0; i < count; ++i) target[i] = source[indices_[static_cast<size_t>(i)]];
        return;
      }
      for (int64_t i = 0; i < count; ++i) {
        std::copy_n(source + indices_[static_cast<size_t>(i)] * inner_, inner_, target + i * inner_);
      }
    });
  }

  TensorId input_, output_;
  bool codes_;
  int threads_;
  std::vector<int64_t> indices_;
  int64_t length_ = 1, inner_ = 1, outer_ = 1;
};

/// A Reshape between two channels-last tensors of different channels, by way of row-major order.
class ReshapeExecutor final : public Executor {
 public:
  ReshapeExecutor(const Preparation& p, const Op& op)
      : input_(op.inputs[0]),
        output_(op.outputs[0]),
        codes_(p.tensor(output_).code),
        threads_(p.options.threads),
        elems_(program::elements(p.tensor(output_).dims)),
        to_rows_(to_rows(p.tensor(input_).dims)),
        from_rows_(from_rows(p.tensor(output_).dims)) {
    rows_offset_ = scratch_.reserve(static_cast<size_t>(p.options.max_batch * elems_) *
                                    (codes_ ? sizeof(uint8_t) : sizeof(float)));
  }

  static StridedCopy to_rows(const Dims& in) { return {in, physical_strides(in), row_major_strides(in)}; }
  static StridedCopy from_rows(const Dims& out) {
    return {out, row_major_strides(out), physical_strides(out)};
  }

  void run(const Context& context) const noexcept override {
    if (codes_)
      reshape<uint8_t>(context);
    else
      reshape<float>(context);
  }

 private:
  template <typename T>
  void reshape(const Context& context) const noexcept {
    parallel_for(threads_, context.n, [&](int64_t image, int) {
      T* rows = reinterpret_cast<T*>(context.scratch + rows_offset_) + image * elems_;
      to_rows_.run(context.data<T>(input_) + image * elems_, rows);
      from_rows_.run(rows, context.data<T>(output_) + image * elems_);
    });
  }

  TensorId input_, output_;
  bool codes_;
  int threads_;
  int64_t elems_;
  StridedCopy to_rows_, from_rows_;
  size_t rows_offset_ = 0;
};

bool is_row_major(const Dims& dims) {
  return same_order(dims, {program::elements(dims)});
}

/// Adds the parts of one op to `copies`.
struct PartMaker {
  const Preparation& p;
  const Op& op;
  CopyExecutor& copies;
  const Dims &in, &out;
  std::vector<int64_t> from, to;  ///< physical strides of in and out

  void operator()(const program::Concat& concat) const {
    const auto axis = static_cast<size_t>(concat.axis);
    int64_t offset = 0;
    for (TensorId id : op.inputs) {
      const Dims& dims = p.tensor(id).dims;
      copies.add_part(p, id, StridedCopy(dims, physical_strides(dims), to, 0, offset * to[axis]));
      offset += dims[axis];
    }
  }

  void operator()(const program::Slice& slice) const {
    const auto axis = static_cast<size_t>(slice.axis);
    std::vector<int64_t> strides = from;
    strides[axis] *= slice.step;
    copies.add_part(p, op.inputs[0], StridedCopy(out, strides, to, slice.start * from[axis]));
  }

  void operator()(const program::Pad& pad) const {
    int64_t offset = 0;
    for (size_t i = 0; i < in.size(); ++i) offset += pad.before[i] * to[i];
    if (in != out) copies.fill_with(pad.value);
    copies.add_part(p, op.inputs[0], StridedCopy(in, from, to, 0, offset));
  }

  void operator()(const program::Transpose& transpose) const {
    std::vector<int64_t> strides;
    for (int axis : transpose.perm) strides.push_back(from[static_cast<size_t>(axis)]);
    copies.add_part(p, op.inputs[0], StridedCopy(out, strides, to));
  }

  void operator()(const program::Reshape&) const {
    if (same_order(in, out))
      copies.add_part(p, op.inputs[0], StridedCopy({program::elements(in)}, {1}, {1}));
    else if (is_row_major(out))
      copies.add_part(p, op.inputs[0], ReshapeExecutor::to_rows(in));
    else
      copies.add_part(p, op.inputs[0], ReshapeExecutor::from_rows(out));
  }

  template <typename Other>
  void operator()(const Other&) const {}
};

}  // namespace

bool is_alias(const program::Program& program, const Op& op) {
  const auto dims = [&](TensorId id) -> const Dims& { return program.tensors[static_cast<size_t>(id)].dims; };
  return std::holds_alternative<program::Reshape>(op.kind) &&
         same_order(dims(op.inputs[0]), dims(op.outputs[0]));
}

std::unique_ptr<Executor> make_movement(const Preparation& p, const Op& op) {
  const Dims &in = p.tensor(op.inputs[0]).dims, &out = p.tensor(op.outputs[0]).dims;
  if (const auto* gather = std::get_if<program::Gather>(&op.kind))
    return std::make_unique<GatherExecutor>(p, op, *gather);
  if (std::holds_alternative<program::Reshape>(op.kind) && !same_order(in, out) && !is_row_major(in) &&
      !is_row_major(out)) {
    return std::make_unique<ReshapeExecutor>(p, op);
  }
  auto copies = std::make_unique<CopyExecutor>(p, op);
  std::visit(PartMaker{p, op, *copies, in, out, physical_strides(in), physical_strides(out)}, op.kind);
  return copies;
}

}  // namespace bitstrata::runtime
