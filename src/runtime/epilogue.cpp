#include "runtime/epilogue.h"

#include "program/function.h"

namespace bitstrata::runtime {
namespace {

using program::Step;
using program::StepKind;

bool is_binary(StepKind kind) {
  return kind <= StepKind::kDivide;
}

/// Strides of a tensor of dims `from` along the logical axes of `to` that it is broadcast to from the right.
std::vector<int64_t> broadcast_strides(const Dims& from, const Dims& to,
                                       const std::vector<int64_t>& strides) {
  std::vector<int64_t> result(to.size(), 0);
  const size_t missing = to.size() - from.size();
  for (size_t i = 0; i < from.size(); ++i) {
    if (from[i] > 1) result[missing + i] = strides[i];
  }
  return result;
}

}  // namespace

Tiling::Tiling(const Dims& dims) {
  inner_ = dims[static_cast<size_t>(physical_axes(dims.size()).back())];
  rows_ = program::elements(dims) / inner_;
  if (inner_ <= 2 * kTargetElems) {
    const int64_t rows_per_tile = std::clamp<int64_t>(kTargetElems / inner_, 1, rows_);
    tile_elems_ = rows_per_tile * inner_;
    tiles_ = (rows_ + rows_per_tile - 1) / rows_per_tile;
  } else {
    tile_elems_ = kTargetElems;
    tiles_per_row_ = (inner_ + kTargetElems - 1) / kTargetElems;
    tiles_ = rows_ * tiles_per_row_;
  }
}

Tiling::Tile Tiling::tile(int64_t index) const noexcept {
  if (tiles_per_row_ == 0) {
    const int64_t begin = index * tile_elems_;
    return {begin, std::min(tile_elems_, rows_ * inner_ - begin)};
  }
  const int64_t start = index % tiles_per_row_ * tile_elems_;
  return {index / tiles_per_row_ * inner_ + start, std::min(tile_elems_, inner_ - start)};
}

Tiling::Tile Tiling::within(int64_t begin, int64_t end) const noexcept {
  const int64_t limit = tiles_per_row_ == 0 ? end : std::min(end, (begin / inner_ + 1) * inner_);
  return {begin, std::min(tile_elems_, limit - begin)};
}

Source::Source(const Preparation& preparation, TensorId id, const Dims& dims, const Tiling& tiling)
    : ops_(&preparation.ops), inner_(tiling.inner()) {
  const program::Tensor& tensor = preparation.tensor(id);
  if (const std::vector<float>* values = preparation.constants[static_cast<size_t>(id)]) {
    set_constant(*values, broadcast_strides(tensor.dims, dims, row_major_strides(tensor.dims)), dims, tiling);
    return;
  }
  tensor_ = id;
  code_ = tensor.code;
  image_elems_ = program::elements(tensor.dims);
  const std::vector<int64_t> strides = broadcast_strides(tensor.dims, dims, physical_strides(tensor.dims));
  const std::vector<int64_t> own = physical_strides(dims);
  bool dense = true;
  for (size_t i = 0; i < dims.size(); ++i) dense = dense && (dims[i] == 1 || strides[i] == own[i]);
  if (dense)
    mode_ = Mode::kDense;
  else
    set_axes(strides, dims);
}

Source::Source(const Preparation& preparation, const std::vector<float>& values, size_t axis,
               const Dims& dims, const Tiling& tiling)
    : ops_(&preparation.ops), inner_(tiling.inner()) {
  std::vector<int64_t> strides(dims.size(), 0);
  if (values.size() > 1) strides[axis] = 1;
  set_constant(values, strides, dims, tiling);
}

void Source::set_constant(const std::vector<float>& values, const std::vector<int64_t>& strides,
                          const Dims& dims, const Tiling& tiling) {
  if (values.size() == 1) {
    mode_ = Mode::kScalar;
    scalar_ = values[0];
    return;
  }
  own_ = values;
  set_axes(strides, dims);
  for (int i = 0; i < outer_axes_; ++i) {
    if (outer_strides_[static_cast<size_t>(i)] != 0) return;
  }
  // The same in every row: as many rows as a tile has, so that a tile is one run.
  const int64_t period = std::max(inner_, tiling.max_tile_elems());
  own_.resize(static_cast<size_t>(period));
  for (int64_t i = 0; i < period; ++i)
    own_[static_cast<size_t>(i)] = values[static_cast<size_t>(i % inner_ * inner_stride_)];
  mode_ = Mode::kPeriodic;
}

void Source::set_axes(const std::vector<int64_t>& strides, const Dims& dims) {
  const std::vector<int> axes = physical_axes(dims.size());
  inner_stride_ = strides[static_cast<size_t>(axes.back())];
  outer_axes_ = static_cast<int>(axes.size()) - 1;
  for (size_t i = 0; i + 1 < axes.size(); ++i) {
    outer_sizes_[i] = dims[static_cast<size_t>(axes[i])];
    outer_strides_[i] = strides[static_cast<size_t>(axes[i])];
  }
}

const uint8_t* Source::dense_codes(const Context& context, int64_t image, Tiling::Tile tile) const noexcept {
  if (mode_ != Mode::kDense || !code_) return nullptr;
  return context.data<uint8_t>(tensor_) + image * image_elems_ + tile.begin;
}

const float* Source::values(const Context& context, int64_t image, Tiling::Tile tile,
                            float* buffer) const noexcept {
  if (mode_ == Mode::kPeriodic) return own_.data() + tile.begin % inner_;
  if (mode_ == Mode::kDense && !code_)
    return context.data<float>(tensor_) + image * image_elems_ + tile.begin;
  fill(context, image, tile, buffer);
  return buffer;
}

void Source::fill(const Context& context, int64_t image, Tiling::Tile tile, float* target) const noexcept {
  const auto count = static_cast<size_t>(tile.count);
  if (mode_ == Mode::kScalar) {
    std::fill_n(target, count, scalar_);
  } else if (mode_ == Mode::kGather) {
    gather(context, image, tile, target);
  } else if (const uint8_t* codes = dense_codes(context, image, tile)) {
    ops_->load(codes, code_->zero, code_->scale, target, count);
  } else {
    std::copy_n(values(context, image, tile, nullptr), count, target);
  }
}

void Source::gather(const Context& context, int64_t image, Tiling::Tile tile, float* target) const noexcept {
  const void* base = own_.data();
  if (tensor_ >= 0) {
    base = code_ ? static_cast<const void*>(context.data<uint8_t>(tensor_) + image * image_elems_)
                 : static_cast<const void*>(context.data<float>(tensor_) + image * image_elems_);
  }
  int64_t row = tile.begin / inner_, column = tile.begin % inner_;
  for (int64_t done = 0; done < tile.count; ++row, column = 0) {
    int64_t first = column * inner_stride_, rest = row;
    for (int axis = outer_axes_ - 1; axis >= 0; --axis) {
      const auto i = static_cast<size_t>(axis);
      first += rest % outer_sizes_[i] * outer_strides_[i];
      rest /= outer_sizes_[i];
    }
    const int64_t count = std::min(inner_ - column, tile.count - done);
    gather_row(base, first, count, target + done);
    done += count;
  }
}

void Source::gather_row(const void* base, int64_t first, int64_t count, float* target) const noexcept {
  if (code_) {
    const uint8_t* codes = static_cast<const uint8_t*>(base) + first;
    if (inner_stride_ == 1) {
      ops_->load(codes, code_->zero, code_->scale, target, static_cast<size_t>(count));
    } else {
      for (int64_t i = 0; i < count; ++i) target[i] = quant::dequantize(codes[i * inner_stride_], *code_);
    }
    return;
  }
  const float* values = static_cast<const float*>(base) + first;
  for (int64_t i = 0; i < count; ++i) target[i] = values[i * inner_stride_];
}

Epilogue::Epilogue(const Preparation& preparation, const program::Op& op, ScratchLayout& scratch)
    : ops_(&preparation.ops),
      threads_(preparation.options.threads),
      elems_(program::elements(preparation.tensor(op.outputs[0]).dims)),
      tiling_(preparation.tensor(op.outputs[0]).dims) {
  const Dims& dims = preparation.tensor(op.outputs[0]).dims;
  for (const Step& step : op.steps) {
    if (step.kind == StepKind::kAffine) {
      steps_.push_back({StepKind::kMultiply, Source(preparation, step.mul, 0, dims, tiling_)});
      steps_.push_back({StepKind::kAdd, Source(preparation, step.add, 0, dims, tiling_)});
      continue;
    }
    PreparedStep prepared{step.kind, std::nullopt, step.a, step.b, step.function};
    if (is_binary(step.kind)) prepared.source.emplace(preparation, step.operand, dims, tiling_);
    if (step.kind == StepKind::kPRelu) prepared.source.emplace(preparation, step.mul, 0, dims, tiling_);
    steps_.push_back(std::move(prepared));
  }
  for (TensorId id : op.outputs) stores_.push_back({id, preparation.tensor(id).code});
  buffer_bytes_ = aligned(static_cast<size_t>(tiling_.max_tile_elems()) * sizeof(float));
  thread_bytes_ = 4 * buffer_bytes_;  // y, t, and sums of twice the size
  scratch_offset_ = scratch.reserve(static_cast<size_t>(threads_) * thread_bytes_);
}

void Epilogue::prepend(StepKind kind, Source source) {
  steps_.insert(steps_.begin(), PreparedStep{kind, std::move(source)});
}

bool Epilogue::requantize(const Context& context, int64_t image, Tiling::Tile tile, const int32_t* acc,
                          const float* scale, const float* shift) const noexcept {
  constexpr size_t kMaxStores = 2;
  if (stores_.size() > kMaxStores || steps_.size() > 1) return false;
  Codes residual;
  if (!steps_.empty()) {
    if (steps_[0].kind != StepKind::kAdd) return false;
    residual.v = steps_[0].source->dense_codes(context, image, tile);
    if (residual.v == nullptr) return false;
    residual.zero = steps_[0].source->code()->zero;
    residual.scale = steps_[0].source->code()->scale;
  }
  CodeStore targets[kMaxStores];
  for (size_t i = 0; i < stores_.size(); ++i) {
    if (!stores_[i].code) return false;
    const quant::CodeType& code = *stores_[i].code;
    uint8_t* codes = context.data<uint8_t>(stores_[i].tensor) + image * elems_ + tile.begin;
    targets[i] = {code.inverse_scale(), code.zero, code.max_code(), codes};
  }
  ops_->requantize(acc, scale, shift, residual, targets, static_cast<int>(stores_.size()),
                   static_cast<size_t>(tile.count));
  return true;
}

void Epilogue::run_scaled(const Context& context, int64_t image, int64_t begin, int64_t count,
                          const int32_t* acc, const Source& scale, const Source& shift,
                          int thread) const noexcept {
  std::byte* own = context.scratch + scratch_offset_ + static_cast<size_t>(thread) * thread_bytes_;
  auto* y = reinterpret_cast<float*>(own);
  auto* t = reinterpret_cast<float*>(own + buffer_bytes_);
  for (int64_t done = 0; done < count;) {
    const Tiling::Tile tile = tiling_.within(begin + done, begin + count);
    const float* mul = scale.values(context, image, tile, nullptr);
    const float* add = shift.values(context, image, tile, nullptr);
    if (!requantize(context, image, tile, acc + done, mul, add)) {
      ops_->scale(acc + done, mul, add, y, static_cast<size_t>(tile.count));
      finish(context, image, tile, y, t);
    }
    done += tile.count;
  }
}

void Epilogue::finish(const Context& context, int64_t image, Tiling::Tile tile, float* y,
                      float* t) const noexcept {
  for (const PreparedStep& step : steps_) apply(step, context, image, tile, y, t);
  const auto count = static_cast<size_t>(tile.count);
  for (const Store& store : stores_) {
    const int64_t at = image * elems_ + tile.begin;
    if (store.code) {
      const quant::CodeType& code = *store.code;
      ops_->store(y, code.inverse_scale(), code.zero, code.max_code(),
                  context.data<uint8_t>(store.tensor) + at, count);
    } else {
      std::copy_n(y, count, context.data<float>(store.tensor) + at);
    }
  }
}

void Epilogue::apply(const PreparedStep& step, const Context& context, int64_t image, Tiling::Tile tile,
                     float* y, float* t) const noexcept {
  const auto count = static_cast<size_t>(tile.count);
  if (is_binary(step.kind)) {
    const auto op = static_cast<size_t>(step.kind);
    if (step.source->is_scalar()) {
      ops_->scalar[op](y, step.source->scalar(), count);
    } else if (const uint8_t* codes = step.source->dense_codes(context, image, tile)) {
      ops_->codes[op](y, codes, step.source->code()->zero, step.source->code()->scale, count);
    } else {
      ops_->vector[op](y, step.source->values(context, image, tile, t), count);
    }
    return;
  }
  switch (step.kind) {
    case StepKind::kClip:
      ops_->clip(y, step.a, step.b, count);
      break;
    case StepKind::kLeakyRelu:
      ops_->leaky_relu(y, step.a, count);
      break;
    case StepKind::kPRelu:
      ops_->prelu(y, step.source->values(context, image, tile, t), count);
      break;
    case StepKind::kHardSigmoid:
      ops_->hard_sigmoid(y, step.a, step.b, count);
      break;
    case StepKind::kHardSwish:
      ops_->hard_swish(y, count);
      break;
    default:
      for (size_t i = 0; i < count; ++i)
        y[i] = static_cast<float>(program::apply(step.function, y[i], step.a));
  }
}

}  // namespace bitstrata::runtime
