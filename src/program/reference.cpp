#include "program/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "program/function.h"
#include "quant/packing.h"

namespace bitstrata::program {
namespace {

/// Index of a logical position in a row-major tensor.
int64_t flat(const Dims& dims, const Dims& position) {
  int64_t index = 0;
  for (size_t i = 0; i < dims.size(); ++i) index = index * dims[i] + position[i];
  return index;
}

/// Calls body(position, flat index) for every position of `dims` in row-major order.
template <typename Body>
void for_each(const Dims& dims, const Body& body) {
  Dims position(dims.size(), 0);
  const int64_t count = elements(dims);
  for (int64_t i = 0; i < count; ++i) {
    body(position, i);
    for (size_t axis = dims.size(); axis-- > 0;) {
      if (++position[axis] < dims[axis]) break;
      position[axis] = 0;
    }
  }
}

/// Index of the element of a tensor of `dims` that broadcasting from the right puts at `position` of the
/// output.
int64_t broadcast_index(const Dims& dims, const Dims& position) {
  const size_t missing = position.size() - dims.size();
  int64_t index = 0;
  for (size_t i = 0; i < dims.size(); ++i)
    index = index * dims[i] + (dims[i] == 1 ? 0 : position[missing + i]);
  return index;
}

float clip(float y, float a, float b) {
  return y > a ? (y < b ? y : b) : a;
}

/// The entry of a parameter with one value, or one per index of the first dim.
float entry(const std::vector<float>& values, int64_t channel) {
  return values.size() == 1 ? values[0] : values[static_cast<size_t>(channel)];
}

/// Runs the ops of one image. Call operators of arithmetic kinds return y, those of data movement write the
/// output.
class Interpreter {
 public:
  Interpreter(const Program& program, std::span<const float> input) : program_(program) {
    tensors_.codes.resize(program.tensors.size());
    tensors_.floats.resize(program.tensors.size());
    tensors_.floats[static_cast<size_t>(program.input)].assign(input.begin(), input.end());
    for (const Constant& constant : program.constants)
      tensors_.floats[static_cast<size_t>(constant.tensor)] = constant.values;
  }

  ReferenceTensors run() {
    for (const Op& op : program_.ops) {
      op_ = &op;
      std::vector<float> y = std::visit(*this, op.kind);
      if (!is_arithmetic(op.kind)) continue;
      for (const Step& step : op.steps) apply(step, y);
      for (TensorId id : op.outputs) store(id, y);
    }
    return std::move(tensors_);
  }

  // ---- Arithmetic.

  std::vector<float> operator()(const Conv& conv) const {
    const Dims &in = input().dims, &out = output().dims;
    const Window& w = conv.window;
    const int64_t group_ic = in[0] / conv.groups, group_oc = conv.oc / conv.groups;
    const Dims weight_dims = {conv.oc, group_ic, w.kernel_h, w.kernel_w};
    // sum(o, y, x, term) adds term(weight index, input index) over the window; positions in the padding count
    // as 0.
    const auto sum = [&](int64_t o, int64_t y, int64_t x, const auto& add_term) {
      for (int64_t i = 0; i < group_ic; ++i) {
        for (int64_t ky = 0; ky < w.kernel_h; ++ky) {
          for (int64_t kx = 0; kx < w.kernel_w; ++kx) {
            const int64_t iy = y * w.stride_h - w.pad_top + ky * w.dilation_h;
            const int64_t ix = x * w.stride_w - w.pad_left + kx * w.dilation_w;
            if (iy < 0 || iy >= in[1] || ix < 0 || ix >= in[2]) continue;
            add_term(flat(weight_dims, {o, i, ky, kx}), flat(in, {o / group_oc * group_ic + i, iy, ix}));
          }
        }
      }
    };
    return layer(conv.weights, conv.mul, conv.add, elements(weight_dims), [&](const auto& accumulate) {
      std::vector<float> y(static_cast<size_t>(elements(out)));
      for_each(out, [&](const Dims& at, int64_t index) {
        y[static_cast<size_t>(index)] =
            accumulate(at[0], [&](const auto& add_term) { sum(at[0], at[1], at[2], add_term); });
      });
      return y;
    });
  }

  std::vector<float> operator()(const Linear& linear) const {
    const int64_t in = input().dims.back();
    return layer(linear.weights, linear.mul, linear.add, in * linear.out, [&](const auto& accumulate) {
      const int64_t rows = elements(input().dims) / in;
      std::vector<float> y;
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t o = 0; o < linear.out; ++o) {
          y.push_back(accumulate(o, [&](const auto& add_term) {
            for (int64_t i = 0; i < in; ++i) add_term(o * in + i, row * in + i);
          }));
        }
      }
      return y;
    });
  }

  std::vector<float> operator()(const AveragePool& pool) const {
    const Dims &in = input().dims, &out = output().dims;
    const Window& w = pool.window;
    std::vector<float> y(static_cast<size_t>(elements(out)));
    for_each(out, [&](const Dims& at, int64_t index) {
      std::vector<int64_t> positions = window_positions(in, w, at);
      const auto count =
          pool.count_include_pad ? int64_t{w.kernel_h} * w.kernel_w : static_cast<int64_t>(positions.size());
      y[static_cast<size_t>(index)] = mean(positions, count);
    });
    return y;
  }

  std::vector<float> operator()(const ReduceMean& op) const {
    const Dims& in = input().dims;
    Dims kept = in;
    for (int axis : op.axes) kept[static_cast<size_t>(axis)] = 1;
    std::vector<std::vector<int64_t>> positions(static_cast<size_t>(elements(kept)));
    for_each(in, [&](const Dims& at, int64_t index) {
      positions[static_cast<size_t>(broadcast_index(kept, at))].push_back(index);
    });
    std::vector<float> y;
    for (const auto& group : positions) y.push_back(mean(group, static_cast<int64_t>(group.size())));
    return y;
  }

  std::vector<float> operator()(const Elementwise&) const {
    std::vector<float> y(static_cast<size_t>(elements(output().dims)));
    for_each(output().dims, [&](const Dims& at, int64_t index) {
      y[static_cast<size_t>(index)] = load(op_->inputs[0], broadcast_index(input().dims, at));
    });
    return y;
  }

  std::vector<float> operator()(const Lookup& lookup) const {
    std::vector<float> y;
    for (uint8_t v : codes(op_->inputs[0])) y.push_back(lookup.table[v]);
    return y;
  }

  std::vector<float> operator()(const Softmax& softmax) const {
    const Dims& dims = input().dims;
    Dims kept = dims;
    kept[static_cast<size_t>(softmax.axis)] = 1;
    const auto count = static_cast<size_t>(elements(kept));
    std::vector<float> largest(count, -std::numeric_limits<float>::infinity());
    std::vector<double> sum(count, 0);
    std::vector<float> y = floats(op_->inputs[0]);
    const auto each = [&](const auto& body) {
      for_each(dims, [&](const Dims& at, int64_t i) {
        body(y[static_cast<size_t>(i)], static_cast<size_t>(broadcast_index(kept, at)));
      });
    };
    each([&](float& value, size_t group) { largest[group] = std::max(largest[group], value); });
    each([&](float& value, size_t group) { value = std::exp(value - largest[group]); });
    each([&](float& value, size_t group) { sum[group] += value; });
    each([&](float& value, size_t group) { value = static_cast<float>(value / sum[group]); });
    return y;
  }

  std::vector<float> operator()(const MatMul&) const {
    const Dims& out = output().dims;
    const int64_t m = out[out.size() - 2], n = out.back(), k = input().dims.back();
    const std::vector<float>&a = floats(op_->inputs[0]), &b = floats(op_->inputs[1]);
    std::vector<float> y(static_cast<size_t>(elements(out)));
    for (int64_t index = 0; index < elements(out); ++index) {
      const int64_t matrix = index / (m * n), row = index / n % m, column = index % n;
      double sum = 0;
      for (int64_t i = 0; i < k; ++i) {
        sum += double{a[static_cast<size_t>((matrix * m + row) * k + i)]} *
               b[static_cast<size_t>((matrix * k + i) * n + column)];
      }
      y[static_cast<size_t>(index)] = static_cast<float>(sum);
    }
    return y;
  }

  // ---- Data movement.

  std::vector<float> operator()(const MaxPool& pool) {
    const Dims &in = input().dims, &out = output().dims;
    move(op_->inputs[0], [&](const auto& source, auto& target) {
      for_each(out, [&](const Dims& at, int64_t index) {
        const std::vector<int64_t> positions = window_positions(in, pool.window, at);
        auto largest = source[static_cast<size_t>(positions[0])];
        for (int64_t position : positions) {
          const auto value = source[static_cast<size_t>(position)];
          largest = value > largest ? value : largest;
        }
        target[static_cast<size_t>(index)] = largest;
      });
    });
    return {};
  }

  std::vector<float> operator()(const Concat& concat) {
    const auto axis = static_cast<size_t>(concat.axis);
    int64_t offset = 0;
    for (TensorId id : op_->inputs) {
      const Dims& in = tensor(id).dims;
      move(id, [&](const auto& source, auto& target) {
        for_each(in, [&](Dims at, int64_t index) {
          at[axis] += offset;
          target[static_cast<size_t>(flat(output().dims, at))] = source[static_cast<size_t>(index)];
        });
      });
      offset += in[axis];
    }
    return {};
  }

  std::vector<float> operator()(const Slice& slice) {
    const auto axis = static_cast<size_t>(slice.axis);
    return take([&](Dims at) {
      at[axis] = slice.start + at[axis] * slice.step;
      return at;
    });
  }

  std::vector<float> operator()(const Gather& gather) {
    const auto axis = static_cast<size_t>(gather.axis);
    return take([&](Dims at) {
      at[axis] = gather.indices[static_cast<size_t>(at[axis])];
      return at;
    });
  }

  std::vector<float> operator()(const Transpose& transpose) {
    return take([&](const Dims& at) {
      Dims from(at.size());
      for (size_t i = 0; i < at.size(); ++i) from[static_cast<size_t>(transpose.perm[i])] = at[i];
      return from;
    });
  }

  std::vector<float> operator()(const Pad& pad) {
    move(op_->inputs[0], [&](const auto& source, auto& target) {
      using Element = typename std::decay_t<decltype(target)>::value_type;
      Element fill;
      if constexpr (std::is_same_v<Element, uint8_t>)
        fill = quant::quantize(pad.value, *input().code);
      else
        fill = pad.value;
      std::fill(target.begin(), target.end(), fill);
      for_each(input().dims, [&](Dims at, int64_t index) {
        for (size_t i = 0; i < at.size(); ++i) at[i] += pad.before[i];
        target[static_cast<size_t>(flat(output().dims, at))] = source[static_cast<size_t>(index)];
      });
    });
    return {};
  }

  std::vector<float> operator()(const Reshape&) {
    move(op_->inputs[0], [](const auto& source, auto& target) { target = source; });
    return {};
  }

 private:
  const Tensor& tensor(TensorId id) const { return program_.tensors[static_cast<size_t>(id)]; }
  const Tensor& input() const { return tensor(op_->inputs[0]); }
  const Tensor& output() const { return tensor(op_->outputs[0]); }
  const std::vector<uint8_t>& codes(TensorId id) const { return tensors_.codes[static_cast<size_t>(id)]; }
  const std::vector<float>& floats(TensorId id) const { return tensors_.floats[static_cast<size_t>(id)]; }

  /// load: t = float32(v + zero) * scale, or the float itself.
  float load(TensorId id, int64_t index) const {
    const auto i = static_cast<size_t>(index);
    return tensor(id).code ? quant::dequantize(codes(id)[i], *tensor(id).code) : floats(id)[i];
  }

  /// Convolution or linear layer. body(accumulate) calls accumulate(o, sum) per output element, where
  /// sum(add_term) calls add_term(weight index, input index) per term, and returns y.
  template <typename Body>
  std::vector<float> layer(const Weights& weights, const std::vector<float>& mul,
                           const std::vector<float>& add, int64_t count, const Body& body) const {
    if (const auto* values = std::get_if<FloatWeights>(&weights)) {
      const std::vector<float>& x = floats(op_->inputs[0]);
      return body([&](int64_t o, const auto& sum) {
        double dot = 0;
        sum([&](int64_t w, int64_t i) {
          dot += double{values->values[static_cast<size_t>(w)]} * x[static_cast<size_t>(i)];
        });
        return static_cast<float>(dot) + add[static_cast<size_t>(o)];
      });
    }
    const auto& packed = std::get<CodeWeights>(weights);
    const std::vector<uint8_t> u =
        quant::unpack_codes(packed.packed, static_cast<size_t>(count), packed.bits);
    const std::vector<uint8_t>& v = codes(op_->inputs[0]);
    const int zero = input().code->zero;
    return body([&](int64_t o, const auto& sum) {
      int32_t acc = 0;
      sum([&](int64_t w, int64_t i) {
        acc += packed.grid.at(u[static_cast<size_t>(w)]) * (v[static_cast<size_t>(i)] + zero);
      });
      float y = static_cast<float>(acc) * mul[static_cast<size_t>(o)];
      y = y + add[static_cast<size_t>(o)];
      return y;
    });
  }

  /// Flat input indices of the positions of one window that lie inside the image, row-major. at: [c, y, x] of
  /// the output.
  static std::vector<int64_t> window_positions(const Dims& in, const Window& w, const Dims& at) {
    std::vector<int64_t> positions;
    for (int64_t ky = 0; ky < w.kernel_h; ++ky) {
      for (int64_t kx = 0; kx < w.kernel_w; ++kx) {
        const int64_t iy = at[1] * w.stride_h - w.pad_top + ky * w.dilation_h;
        const int64_t ix = at[2] * w.stride_w - w.pad_left + kx * w.dilation_w;
        if (iy >= 0 && iy < in[1] && ix >= 0 && ix < in[2]) positions.push_back(flat(in, {at[0], iy, ix}));
      }
    }
    return positions;
  }

  float mean(const std::vector<int64_t>& positions, int64_t count) const {
    float y = 0;
    if (input().code) {
      int64_t sum = 0;
      for (int64_t position : positions)
        sum += codes(op_->inputs[0])[static_cast<size_t>(position)] + input().code->zero;
      y = static_cast<float>(sum) * input().code->scale;
    } else {
      double sum = 0;
      for (int64_t position : positions) sum += floats(op_->inputs[0])[static_cast<size_t>(position)];
      y = static_cast<float>(sum);
    }
    return y / static_cast<float>(count);
  }

  void apply(const Step& step, std::vector<float>& values) const {
    for_each(output().dims, [&](const Dims& at, int64_t index) {
      const float t =
          step.operand < 0 ? 0.0f : load(step.operand, broadcast_index(tensor(step.operand).dims, at));
      float& y = values[static_cast<size_t>(index)];
      switch (step.kind) {
        case StepKind::kAdd:
          y = y + t;
          break;
        case StepKind::kSubtract:
          y = y - t;
          break;
        case StepKind::kReverseSubtract:
          y = t - y;
          break;
        case StepKind::kMultiply:
          y = y * t;
          break;
        case StepKind::kDivide:
          y = y / t;
          break;
        case StepKind::kAffine:
          y = y * entry(step.mul, at[0]);
          y = y + entry(step.add, at[0]);
          break;
        case StepKind::kClip:
          y = clip(y, step.a, step.b);
          break;
        case StepKind::kLeakyRelu:
          y = y >= 0 ? y : y * step.a;
          break;
        case StepKind::kPRelu:
          y = y >= 0 ? y : y * entry(step.mul, at[0]);
          break;
        case StepKind::kHardSigmoid:
          y = y * step.a;
          y = y + step.b;
          y = clip(y, 0, 1);
          break;
        case StepKind::kHardSwish: {
          float h = y * 0.16666667f;
          h = h + 0.5f;
          h = clip(h, 0, 1);
          y = y * h;
          break;
        }
        case StepKind::kFunction:
          y = static_cast<float>(program::apply(step.function, y, step.a));
          break;
      }
    });
  }

  /// store: as codes or as float32.
  void store(TensorId id, const std::vector<float>& y) {
    if (!tensor(id).code) {
      tensors_.floats[static_cast<size_t>(id)] = y;
      return;
    }
    std::vector<uint8_t>& target = tensors_.codes[static_cast<size_t>(id)];
    for (float value : y) target.push_back(quant::quantize(value, *tensor(id).code));
  }

  /// Calls body(source, target) on the codes or floats of input `id` and of the output, the latter at its
  /// full size.
  template <typename Body>
  void move(TensorId id, const Body& body) {
    const auto from = static_cast<size_t>(id), to = static_cast<size_t>(op_->outputs[0]);
    const auto count = static_cast<size_t>(elements(output().dims));
    if (output().code) {
      tensors_.codes[to].resize(count);
      body(tensors_.codes[from], tensors_.codes[to]);
    } else {
      tensors_.floats[to].resize(count);
      body(tensors_.floats[from], tensors_.floats[to]);
    }
  }

  /// output[at] = input[from(at)].
  template <typename From>
  std::vector<float> take(const From& from) {
    move(op_->inputs[0], [&](const auto& source, auto& target) {
      for_each(output().dims, [&](const Dims& at, int64_t index) {
        target[static_cast<size_t>(index)] = source[static_cast<size_t>(flat(input().dims, from(at)))];
      });
    });
    return {};
  }

  const Program& program_;
  ReferenceTensors tensors_;
  const Op* op_ = nullptr;
};

}  // namespace

ReferenceTensors run_reference(const Program& program, std::span<const float> input) {
  return Interpreter(program, input).run();
}

}  // namespace bitstrata::program
