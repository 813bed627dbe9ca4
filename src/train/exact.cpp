#include "train/exact.h"

#include "core/error.h"
#include "program/function.h"
#include "quant/packing.h"
#include "train/operations.h"

namespace bitstrata::train {
namespace {

using program::Op;
using program::Step;
using program::StepKind;
using program::TensorId;
using torch::Tensor;

constexpr int64_t kExactInFloat = int64_t{1} << 24;

/// y > low ? (y < high ? y : high) : low, which also decides what becomes of NaN and -0.
Tensor clip(const Tensor& y, double low, double high) {
  const Tensor below_high = torch::where(y < high, y, torch::full({}, high, y.options()));
  return torch::where(y > low, below_high, torch::full({}, low, y.options()));
}

/// docs/arithmetic.md "store".
Tensor store(const Tensor& y, const quant::CodeType& code) {
  const Tensor r = torch::nan_to_num(y * code.inverse_scale(), code.zero);
  return torch::clamp(torch::round(r), code.zero, code.zero + code.max_code()) - static_cast<double>(code.zero);
}

/// Parameters of Conv and Linear alike.
struct LayerView {
  const program::Weights* weights = nullptr;
  const std::vector<float>*mul = nullptr, *add = nullptr;
  int out = 0;
  const program::Conv* conv = nullptr;
};

std::optional<LayerView> layer_view(const program::Kind& kind) {
  if (const auto* conv = std::get_if<program::Conv>(&kind)) return LayerView{&conv->weights, &conv->mul, &conv->add, conv->oc, conv};
  if (const auto* linear = std::get_if<program::Linear>(&kind)) return LayerView{&linear->weights, &linear->mul, &linear->add, linear->out, nullptr};
  return std::nullopt;
}

}  // namespace

Tensor ExactEvaluator::vector(const std::vector<float>& values) const {
  return torch::from_blob(const_cast<float*>(values.data()), {static_cast<int64_t>(values.size())}, torch::kFloat).clone().to(device_);
}

ExactEvaluator::ExactEvaluator(program::Program program, torch::Device device)
    : program_(std::move(program)), device_(device), layers_(program_.ops.size()), last_use_(program_.tensors.size(), 0) {
  program::validate(program_);
  for (size_t i = 0; i < program_.ops.size(); ++i) {
    const Op& op = program_.ops[i];
    for (TensorId id : op.inputs) last_use_[static_cast<size_t>(id)] = i;
    for (const Step& step : op.steps) {
      if (step.operand >= 0) last_use_[static_cast<size_t>(step.operand)] = i;
    }
    const auto view = layer_view(op.kind);
    if (!view) continue;
    Layer& layer = layers_[i];
    const program::Dims& in = program_.tensors[static_cast<size_t>(op.inputs[0])].dims;
    std::vector<int64_t> dims{view->out};
    if (view->conv) {
      const auto& window = view->conv->window;
      dims.insert(dims.end(), {in[0] / view->conv->groups, window.kernel_h, window.kernel_w});
    } else {
      dims.push_back(in.back());
    }
    int64_t elems = 1;
    for (int64_t d : dims) elems *= d;
    if (const auto* codes = std::get_if<program::CodeWeights>(view->weights)) {
      const auto unpacked = quant::unpack_codes(codes->packed, static_cast<size_t>(elems), codes->bits);
      layer.wide = program::accumulator_bound(program_, op) >= kExactInFloat;
      const Tensor u = torch::from_blob(const_cast<uint8_t*>(unpacked.data()), dims, torch::kByte).to(device_, layer.wide ? torch::kDouble : torch::kFloat);
      layer.weights = u * codes->grid.mul + codes->grid.offset;
      layer.mul = vector(*view->mul);
    } else {
      layer.weights = vector(std::get<program::FloatWeights>(*view->weights).values).reshape(dims);
    }
    layer.add = vector(*view->add);
  }
  for (TensorId id : program_.outputs) last_use_[static_cast<size_t>(id)] = program_.ops.size();
}

Tensor ExactEvaluator::integers(TensorId id) const {
  const auto& code = *program_.tensors[static_cast<size_t>(id)].code;
  return tensors_[static_cast<size_t>(id)] + static_cast<double>(code.zero);
}

/// docs/arithmetic.md "load".
Tensor ExactEvaluator::load(TensorId id) const {
  const auto& code = program_.tensors[static_cast<size_t>(id)].code;
  if (!code) return tensors_[static_cast<size_t>(id)];
  return integers(id) * code->scale;
}

Tensor ExactEvaluator::compute_layer(size_t op_index, Tensor x) {
  const Op& op = program_.ops[op_index];
  const Layer& layer = layers_[op_index];
  const LayerView view = *layer_view(op.kind);
  if (layer.wide) x = x.to(torch::kDouble);
  Tensor y = view.conv ? convolve(x, layer.weights, {}, view.conv->window, view.conv->groups) : torch::linear(x, layer.weights);
  const auto shaped = [&](const Tensor& v) { return view.conv ? per_channel(v, y.dim()) : v; };
  if (layer.mul.defined()) {
    y = torch::round(y).to(torch::kFloat);
    y = y * shaped(layer.mul);
  }
  return y + shaped(layer.add);
}

Tensor ExactEvaluator::compute(size_t op_index) {
  const Op& op = program_.ops[op_index];
  const TensorId first = op.inputs[0];
  const auto& code = program_.tensors[static_cast<size_t>(first)].code;
  if (layer_view(op.kind)) return compute_layer(op_index, code ? integers(first) : load(first));
  // Sums of codes are exact integers in float64.
  const auto average = [&](const auto& sum_of, const Tensor& count) {
    if (!code) return sum_of(load(first).to(torch::kDouble)).to(torch::kFloat) / count;
    return sum_of(integers(first).to(torch::kDouble)).to(torch::kFloat) * code->scale / count;
  };
  if (const auto* pool = std::get_if<program::AveragePool>(&op.kind)) {
    return average([&](const Tensor& x) { return window_sums(x, pool->window); }, window_counts(tensors_[static_cast<size_t>(first)], *pool));
  }
  if (const auto* mean = std::get_if<program::ReduceMean>(&op.kind)) {
    const program::Dims& dims = program_.tensors[static_cast<size_t>(first)].dims;
    int64_t count = 1;
    for (int axis : mean->axes) count *= dims[static_cast<size_t>(axis)];
    Tensor y = average([&](const Tensor& x) { return x.sum(batch_axes(mean->axes), mean->keep_dims); },
                       torch::full({}, static_cast<double>(count), torch::TensorOptions(torch::kFloat).device(device_)));
    return y.dim() == 1 ? y.unsqueeze(1) : y;
  }
  if (std::holds_alternative<program::Elementwise>(op.kind)) {
    const program::Dims& dims = program_.tensors[static_cast<size_t>(op.outputs[0])].dims;
    std::vector<int64_t> batched{tensors_[static_cast<size_t>(first)].size(0)};
    batched.insert(batched.end(), dims.begin(), dims.end());
    return broadcastable(load(first), dims.size()).expand(batched);
  }
  if (const auto* lookup = std::get_if<program::Lookup>(&op.kind)) {
    const Tensor v = tensors_[static_cast<size_t>(first)];
    return vector(lookup->table).index_select(0, v.to(torch::kLong).reshape({-1})).reshape(v.sizes());
  }
  if (const auto* softmax = std::get_if<program::Softmax>(&op.kind)) return torch::softmax(load(first), softmax->axis + 1);
  if (std::holds_alternative<program::MatMul>(op.kind)) return torch::matmul(load(first), load(op.inputs[1]));
  fail(ErrorCode::kInternal, "exact evaluation: op '{}' of kind {} is not arithmetic", printable(op.name), program::to_string(op.kind));
}

Tensor ExactEvaluator::apply(const Step& step, Tensor y) const {
  const Tensor t = step.operand >= 0 ? broadcastable(load(step.operand), static_cast<size_t>(y.dim() - 1)) : Tensor();
  switch (step.kind) {
    case StepKind::kAdd: return y + t;
    case StepKind::kSubtract: return y - t;
    case StepKind::kReverseSubtract: return t - y;
    case StepKind::kMultiply: return y * t;
    case StepKind::kDivide: return y / t;
    case StepKind::kAffine: y = y * per_channel(vector(step.mul), y.dim()); return y + per_channel(vector(step.add), y.dim());
    case StepKind::kClip: return clip(y, step.a, step.b);
    case StepKind::kLeakyRelu: return torch::where(y >= 0, y, y * step.a);
    case StepKind::kPRelu: return torch::where(y >= 0, y, y * per_channel(vector(step.mul), y.dim()));
    case StepKind::kHardSigmoid: y = y * step.a; y = y + step.b; return clip(y, 0, 1);
    case StepKind::kHardSwish: {
      Tensor h = y * static_cast<double>(1.0f / 6.0f);
      h = h + 0.5;
      return y * clip(h, 0, 1);
    }
    case StepKind::kFunction: return apply_function(step.function, y, step.a);
  }
  return y;
}

Tensor ExactEvaluator::move(const Op& op) const {
  std::vector<Tensor> inputs;
  for (TensorId id : op.inputs) inputs.push_back(tensors_[static_cast<size_t>(id)]);
  const auto& output = program_.tensors[static_cast<size_t>(op.outputs[0])];
  double pad_value = 0;
  if (const auto* pad = std::get_if<program::Pad>(&op.kind)) pad_value = output.code ? quant::quantize(pad->value, *output.code) : pad->value;
  return move_data(op.kind, inputs, output.dims, pad_value);
}

Tensor ExactEvaluator::run(const Tensor& x, const Visitor& visit) {
  const torch::NoGradGuard no_grad;
  tensors_.assign(program_.tensors.size(), Tensor());
  tensors_[static_cast<size_t>(program_.input)] = x.to(device_);
  for (const auto& constant : program_.constants) {
    const auto& dims = program_.tensors[static_cast<size_t>(constant.tensor)].dims;
    std::vector<int64_t> batched{x.size(0)};
    batched.insert(batched.end(), dims.begin(), dims.end());
    tensors_[static_cast<size_t>(constant.tensor)] = vector(constant.values).reshape(dims).unsqueeze(0).expand(batched);
  }
  for (size_t i = 0; i < program_.ops.size(); ++i) {
    const Op& op = program_.ops[i];
    if (program::is_arithmetic(op.kind)) {
      Tensor y = compute(i);
      for (const Step& step : op.steps) y = apply(step, y);
      for (TensorId id : op.outputs) {
        const auto& code = program_.tensors[static_cast<size_t>(id)].code;
        tensors_[static_cast<size_t>(id)] = code ? store(y, *code) : y;
      }
    } else {
      tensors_[static_cast<size_t>(op.outputs[0])] = move(op);
    }
    if (visit) {
      for (TensorId id : op.outputs) visit(i, id, tensors_[static_cast<size_t>(id)]);
    }
    const auto release = [&](TensorId id) {
      if (last_use_[static_cast<size_t>(id)] == i) tensors_[static_cast<size_t>(id)] = Tensor();
    };
    for (TensorId id : op.inputs) release(id);
    for (const Step& step : op.steps) {
      if (step.operand >= 0) release(step.operand);
    }
  }
  Tensor result = tensors_[static_cast<size_t>(program_.outputs.at(0))];
  tensors_.clear();
  return result;
}

}  // namespace bitstrata::train
