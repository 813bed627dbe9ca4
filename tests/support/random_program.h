#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/random.h"
#include "tests/support/program_builder.h"

namespace bitstrata::testing {

struct RandomProgramOptions {
  int ops = 12;          ///< ops after the first quantizing one
  bool inexact = false;  ///< also ops outside the exactness promise: float layers, softmax, matmul, functions
};

/// Makes valid random programs of small tensors: every op kind, step, broadcast, grid and bit width turns up
/// over enough seeds.
class RandomProgram {
 public:
  RandomProgram(uint64_t seed, RandomProgramOptions options) : random_(seed, 0x70726f67), options_(options) {}

  program::Program make() {
    const TensorId input = builder_.input(random_image_dims());
    live_.push_back(input);
    elementwise(input);
    for (int attempts = 0; made_ <= options_.ops && attempts < 50 * options_.ops; ++attempts) add_op();
    std::vector<TensorId> outputs = {live_.back()};
    const TensorId other = pick();
    if (other != outputs[0]) outputs.push_back(other);
    return builder_.build(outputs);
  }

 private:
  int below(int n) { return static_cast<int>(random_.below(static_cast<uint64_t>(n))); }
  int between(int low, int high) { return low + below(high - low + 1); }
  bool chance(double p) { return random_.uniform() < p; }
  float real(double low, double high) { return static_cast<float>(low + (high - low) * random_.uniform()); }
  std::vector<float> reals(int64_t count, double low, double high) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = real(low, high);
    return values;
  }
  TensorId pick() { return live_[random_.below(live_.size())]; }
  Dims dims(TensorId id) const { return builder_.at(id).dims; }
  std::optional<quant::CodeType> code(TensorId id) const { return builder_.at(id).code; }

  Dims random_image_dims() {
    return {chance(0.25) ? between(17, 40) : between(1, 9), between(1, 9), between(1, 9)};
  }

  quant::CodeType random_code() {
    quant::CodeType type;
    type.bits = between(1, 8);
    type.zero = chance(0.5) ? 0 : -below(type.levels());
    type.scale = real(0.02, 4.0) / static_cast<float>(type.levels());
    return type;
  }

  std::optional<quant::CodeType> random_store() {
    if (chance(0.3)) return std::nullopt;
    return random_code();
  }

  program::Window random_window(const Dims& in, bool pooling) {
    program::Window w;
    const auto axis = [&](int64_t length, int& kernel, int& stride, int& dilation, int& before, int& after) {
      kernel = between(1, 3);
      stride = between(1, 3);
      dilation = chance(0.2) ? 2 : 1;
      const int extent = dilation * (kernel - 1) + 1;
      before = below(pooling ? kernel : 3);
      after = below(pooling ? kernel : 3);
      if (dilation > length || length + before + after < extent) kernel = dilation = 1, before = after = 0;
    };
    axis(in[1], w.kernel_h, w.stride_h, w.dilation_h, w.pad_top, w.pad_bottom);
    axis(in[2], w.kernel_w, w.stride_w, w.dilation_w, w.pad_left, w.pad_right);
    return w;
  }

  static Dims window_dims(const Dims& in, const program::Window& w, int64_t channels) {
    const auto size = [](int64_t length, int kernel, int stride, int dilation, int pads) {
      return (length + pads - dilation * (kernel - 1) - 1) / stride + 1;
    };
    return {channels, size(in[1], w.kernel_h, w.stride_h, w.dilation_h, w.pad_top + w.pad_bottom),
            size(in[2], w.kernel_w, w.stride_w, w.dilation_w, w.pad_left + w.pad_right)};
  }

  program::Weights random_weights(TensorId input, int64_t count) {
    if (!code(input)) return program::FloatWeights{reals(count, -1, 1)};
    const int bits = between(1, 8), half = 1 << (bits - 1);
    const quant::IntegerGrid grids[] = {{2, 1 - 2 * half}, {1, -half}, {1, 1 - half}};
    std::vector<uint8_t> codes(static_cast<size_t>(count));
    for (uint8_t& u : codes) u = static_cast<uint8_t>(below(1 << bits));
    return code_weights(bits, grids[below(3)], codes);
  }

  /// Multipliers that bring accumulators of `reduction` terms to about 1.
  std::vector<float> random_mul(const program::Weights& weights, TensorId input, int64_t channels,
                                int64_t reduction) {
    const auto* codes = std::get_if<program::CodeWeights>(&weights);
    if (codes == nullptr) return {};
    const double weight = std::max(std::abs(codes->grid.at(0)), 1), value = code(input)->max_code();
    return reals(channels, -0.2, 4.0 / (weight * value * std::sqrt(static_cast<double>(reduction))));
  }

  /// A tensor whose dims broadcast to `out`: a live one when there is, otherwise a constant of random shape.
  TensorId operand(const Dims& out) {
    if (chance(0.6)) {
      for (int tries = 0; tries < 8; ++tries) {
        const TensorId id = pick();
        if (broadcasts(dims(id), out)) return id;
      }
    }
    Dims shape(out.end() - below(static_cast<int>(out.size()) + 1), out.end());
    if (shape.empty()) shape.push_back(1);
    for (int64_t& dim : shape) dim = chance(0.4) ? 1 : dim;
    return builder_.constant(shape, reals(program::elements(shape), -2, 2));
  }

  static bool broadcasts(const Dims& from, const Dims& to) {
    if (from.size() > to.size()) return false;
    for (size_t i = 0; i < from.size(); ++i) {
      if (from[i] != 1 && from[i] != to[to.size() - from.size() + i]) return false;
    }
    return true;
  }

  std::vector<program::Step> random_steps(const Dims& out) {
    std::vector<program::Step> steps;
    for (int i = below(4); i > 0; --i) {
      program::Step step;
      step.kind = static_cast<program::StepKind>(below(options_.inexact ? 12 : 11));
      if (step.kind <= program::StepKind::kDivide) step.operand = operand(out);
      const auto per_channel = [&] { return reals(chance(0.5) ? out[0] : 1, -1.5, 1.5); };
      switch (step.kind) {
        case program::StepKind::kAffine:
          step.mul = per_channel();
          step.add = per_channel();
          break;
        case program::StepKind::kPRelu:
          step.mul = per_channel();
          break;
        case program::StepKind::kClip:
          step.a = chance(0.5) ? 0.0f : -1.0f;
          step.b = chance(0.5) ? std::numeric_limits<float>::infinity() : 1.5f;
          break;
        case program::StepKind::kFunction:
          step.function = static_cast<program::Function>(between(1, 14));
          [[fallthrough]];
        default:
          step.a = real(-0.5, 0.5), step.b = real(0, 1);
      }
      steps.push_back(step);
    }
    return steps;
  }

  /// Adds an arithmetic op with random steps and one or two stores.
  void arithmetic(program::Kind kind, std::vector<TensorId> inputs, const Dims& out) {
    std::vector<program::Step> steps = random_steps(out);
    std::vector<TensorId> outputs;
    const bool codes_allowed = !std::holds_alternative<program::Softmax>(kind);
    for (int i = chance(0.3) ? 2 : 1; i > 0; --i)
      outputs.push_back(builder_.tensor(out, codes_allowed ? random_store() : std::nullopt));
    builder_.op(std::move(kind), std::move(inputs), outputs, std::move(steps));
    for (TensorId id : outputs) live_.push_back(id);
    ++made_;
  }

  void movement(program::Kind kind, std::vector<TensorId> inputs, Dims out) {
    const auto type = code(inputs[0]);
    live_.push_back(builder_.add(std::move(kind), std::move(inputs), std::move(out), type));
    ++made_;
  }

  void elementwise(TensorId x) { arithmetic(program::Elementwise{}, {x}, dims(x)); }

  void conv(TensorId x) {
    const Dims in = dims(x);
    program::Conv conv;
    conv.window = random_window(in, false);
    std::vector<int> divisors;
    for (int g = 1; g <= in[0]; ++g) {
      if (in[0] % g == 0) divisors.push_back(g);
    }
    conv.groups = chance(0.6) ? 1 : divisors[random_.below(divisors.size())];
    conv.oc = conv.groups * between(1, std::max(1, 20 / conv.groups));
    const int64_t reduction = in[0] / conv.groups * conv.window.kernel_h * conv.window.kernel_w;
    conv.weights = random_weights(x, conv.oc * reduction);
    conv.mul = random_mul(conv.weights, x, conv.oc, reduction);
    conv.add = reals(conv.oc, -0.5, 0.5);
    const Dims out = window_dims(in, conv.window, conv.oc);
    arithmetic(std::move(conv), {x}, out);
  }

  void linear(TensorId x) {
    Dims out = dims(x);
    const int64_t in = out.back();
    program::Linear linear;
    linear.out = between(1, 20);
    linear.weights = random_weights(x, linear.out * in);
    linear.mul = random_mul(linear.weights, x, linear.out, in);
    linear.add = reals(linear.out, -0.5, 0.5);
    out.back() = linear.out;
    arithmetic(std::move(linear), {x}, out);
  }

  void reduce_mean(TensorId x) {
    program::ReduceMean mean;
    mean.keep_dims = chance(0.5);
    Dims out;
    const int rank = static_cast<int>(dims(x).size()), always = below(rank);
    for (int axis = 0; axis < rank; ++axis) {
      const bool reduced = axis == always || chance(0.4);
      if (reduced) mean.axes.push_back(axis);
      if (!reduced || mean.keep_dims) out.push_back(reduced ? 1 : dims(x)[static_cast<size_t>(axis)]);
    }
    if (out.empty()) out.push_back(1);
    arithmetic(mean, {x}, out);
  }

  void concat(TensorId x) {
    program::Concat concat;
    concat.axis = below(static_cast<int>(dims(x).size()));
    const auto axis = static_cast<size_t>(concat.axis);
    std::vector<TensorId> inputs = {x};
    Dims out = dims(x);
    for (int tries = 0; tries < 6 && inputs.size() < 3; ++tries) {
      const TensorId id = tries < 5 ? pick() : x;
      Dims rest = dims(id);
      if (code(id) != code(x) || rest.size() != out.size()) continue;
      const int64_t length = rest[axis];
      rest[axis] = out[axis];
      if (rest != out) continue;
      inputs.push_back(id);
      out[axis] += length;
    }
    movement(concat, inputs, out);
  }

  void slice(TensorId x) {
    program::Slice slice;
    Dims out = dims(x);
    slice.axis = below(static_cast<int>(out.size()));
    int64_t& length = out[static_cast<size_t>(slice.axis)];
    const int step = between(1, 3);
    slice.start = below(static_cast<int>(length));
    slice.step = chance(0.25) ? -step : step;
    const int64_t room = slice.step > 0 ? length - 1 - slice.start : slice.start;
    length = 1 + below(static_cast<int>(room / step) + 1);
    movement(slice, {x}, out);
  }

  void pad(TensorId x) {
    program::Pad pad;
    Dims out = dims(x);
    for (int64_t& dim : out) {
      pad.before.push_back(below(3));
      pad.after.push_back(below(3));
      dim += pad.before.back() + pad.after.back();
    }
    pad.value = chance(0.5) ? 0.0f : real(-2, 2);
    movement(pad, {x}, out);
  }

  void transpose(TensorId x) {
    const Dims& in = dims(x);
    program::Transpose transpose;
    transpose.perm.resize(in.size());
    std::iota(transpose.perm.begin(), transpose.perm.end(), 0);
    for (size_t i = in.size(); i > 1; --i) std::swap(transpose.perm[i - 1], transpose.perm[random_.below(i)]);
    Dims out;
    for (int axis : transpose.perm) out.push_back(in[static_cast<size_t>(axis)]);
    movement(transpose, {x}, out);
  }

  void reshape(TensorId x) {
    int64_t rest = program::elements(dims(x));
    Dims out;
    for (int rank = between(1, 5); rank > 1; --rank) {
      std::vector<int64_t> divisors;
      for (int64_t d = 1; d <= rest; ++d) {
        if (rest % d == 0) divisors.push_back(d);
      }
      out.push_back(divisors[random_.below(divisors.size())]);
      rest /= out.back();
    }
    out.push_back(rest);
    movement(program::Reshape{}, {x}, out);
  }

  void gather(TensorId x) {
    program::Gather gather;
    Dims out = dims(x);
    gather.axis = below(static_cast<int>(out.size()));
    int64_t& length = out[static_cast<size_t>(gather.axis)];
    for (int i = between(1, 6); i > 0; --i) gather.indices.push_back(below(static_cast<int>(length)));
    length = static_cast<int64_t>(gather.indices.size());
    movement(gather, {x}, out);
  }

  void lookup(TensorId x) { arithmetic(program::Lookup{reals(code(x)->levels(), -2, 2)}, {x}, dims(x)); }

  void pool(TensorId x, bool average) {
    const program::Window window = random_window(dims(x), true);
    const Dims out = window_dims(dims(x), window, dims(x)[0]);
    if (average)
      arithmetic(program::AveragePool{window, chance(0.5)}, {x}, out);
    else
      movement(program::MaxPool{window}, {x}, out);
  }

  void matmul(TensorId x) {
    const Dims in = dims(x);
    const size_t rank = in.size();
    Dims other = in, out = in;
    other[rank - 2] = in[rank - 1];
    other[rank - 1] = out[rank - 1] = between(1, 7);
    arithmetic(program::MatMul{}, {x, builder_.constant(other, reals(program::elements(other), -1, 1))}, out);
  }

  void add_op() {
    const TensorId x = pick();
    const bool codes = code(x).has_value(), image = dims(x).size() == 3;
    if (program::elements(dims(x)) > 4000) return;
    switch (below(17)) {
      case 0:
        return elementwise(x);
      case 1:
      case 2:
      case 3:
        return image && (codes || options_.inexact) ? conv(x) : void();
      case 4:
        return codes || options_.inexact ? linear(x) : void();
      case 5:
        return image ? pool(x, true) : void();
      case 6:
        return image ? pool(x, false) : void();
      case 7:
        return reduce_mean(x);
      case 8:
        return codes ? lookup(x) : void();
      case 9:
        return concat(x);
      case 10:
        return slice(x);
      case 11:
        return pad(x);
      case 12:
        return transpose(x);
      case 13:
        return reshape(x);
      case 14:
        return gather(x);
      case 15:
        return !codes && options_.inexact
                   ? arithmetic(program::Softmax{below(static_cast<int>(dims(x).size()))}, {x}, dims(x))
                   : void();
      default:
        return !codes && options_.inexact && dims(x).size() > 1 ? matmul(x) : void();
    }
  }

  Random random_;
  RandomProgramOptions options_;
  ProgramBuilder builder_;
  std::vector<TensorId> live_;
  int made_ = 0;
};

/// A valid program that depends on `seed` only.
inline program::Program random_program(uint64_t seed, RandomProgramOptions options = {}) {
  return RandomProgram(seed, options).make();
}

/// `images` inputs of `program` with values in about [-2, 2], row-major.
inline std::vector<float> random_input(const program::Program& program, int images, uint64_t seed) {
  Random random(seed, 0x696e707574);
  const auto count = program::elements(program.tensors[static_cast<size_t>(program.input)].dims) * images;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(4 * random.uniform() - 2);
  return values;
}

}  // namespace bitstrata::testing
