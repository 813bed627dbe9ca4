#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "core/error.h"
#include "program/validate.h"
#include "quant/packing.h"

namespace bitstrata::program::detail {
namespace {

/// Call operators: check one kind of op and return the dims that its outputs must have.
class OpChecker {
 public:
  OpChecker(const Program& program, const Op& op) : program_(program), op_(op) {}

  void run() const {
    const Dims dims = std::visit(*this, op_.kind);
    for (TensorId id : op_.outputs) expect_dims(tensor(id).dims, dims, "output");
    if (is_arithmetic(op_.kind)) {
      for (size_t i = 0; i < op_.steps.size(); ++i) check_step(op_.steps[i], i, dims);
      return;
    }
    if (!op_.steps.empty()) reject("found {} steps, expected none", op_.steps.size());
    if (op_.outputs.size() != 1) reject("found {} outputs, expected 1", op_.outputs.size());
    for (TensorId id : op_.inputs) {
      if (tensor(id).code != output().code)
        reject("code types of input and output differ, expected the same");
    }
  }

  Dims operator()(const Conv& conv) const {
    expect_inputs(1);
    expect_rank(3);
    const Dims& in = input().dims;
    if (conv.oc < 1 || conv.groups < 1 || in[0] % conv.groups != 0 || conv.oc % conv.groups != 0) {
      reject("found {} groups for {} input and {} output channels, expected a divisor of both", conv.groups,
             in[0], conv.oc);
    }
    const Dims out = windowed(conv.window, conv.oc);
    const int64_t per_channel =
        product(product(in[0] / conv.groups, conv.window.kernel_h), conv.window.kernel_w);
    check_layer(conv.weights, conv.mul, conv.add, conv.oc, per_channel);
    return out;
  }

  Dims operator()(const Linear& linear) const {
    expect_inputs(1);
    if (linear.out < 1) reject("found {} output features, expected 1 or more", linear.out);
    Dims out = input().dims;
    check_layer(linear.weights, linear.mul, linear.add, linear.out, out.back());
    out.back() = linear.out;
    return out;
  }

  Dims operator()(const AveragePool& pool) const { return pooled(pool.window); }
  Dims operator()(const MaxPool& pool) const { return pooled(pool.window); }

  Dims operator()(const ReduceMean& mean) const {
    expect_inputs(1);
    const Dims& in = input().dims;
    if (mean.axes.empty()) reject("found no axes, expected one or more");
    int last = -1;
    for (int axis : mean.axes) {
      check_axis(axis);
      if (axis <= last) reject("found axis {} after axis {}, expected rising axes", axis, last);
      last = axis;
    }
    Dims out;
    for (size_t i = 0; i < in.size(); ++i) {
      const bool reduced = std::count(mean.axes.begin(), mean.axes.end(), static_cast<int>(i)) > 0;
      if (!reduced)
        out.push_back(in[i]);
      else if (mean.keep_dims)
        out.push_back(1);
    }
    if (out.empty()) out.push_back(1);
    return out;
  }

  Dims operator()(const Elementwise&) const {
    expect_inputs(1);
    Dims dims = input().dims;
    for (const Step& step : op_.steps) {
      if (step.operand != -1) dims = broadcast(dims, tensor(step.operand).dims);
    }
    return dims;
  }

  Dims operator()(const Lookup& lookup) const {
    expect_inputs(1);
    if (!input().code) reject("found a float32 input, expected codes");
    // Any values: a logarithm or square root has none that is finite at some codes.
    const auto levels = static_cast<size_t>(input().code->levels());
    if (lookup.table.size() != levels)
      reject("found {} values of table, expected {}", lookup.table.size(), levels);
    return input().dims;
  }

  Dims operator()(const Softmax& softmax) const {
    expect_inputs(1);
    expect_float_inputs();
    check_axis(softmax.axis);
    for (TensorId id : op_.outputs) {
      if (tensor(id).code) reject("found an output of codes, expected float32");
    }
    return input().dims;
  }

  Dims operator()(const MatMul&) const {
    expect_inputs(2);
    expect_float_inputs();
    const Dims &a = tensor(op_.inputs[0]).dims, &b = tensor(op_.inputs[1]).dims;
    const size_t rank = a.size();
    if (rank < 2 || b.size() != rank || a[rank - 1] != b[rank - 2] ||
        !std::equal(a.begin(), a.end() - 2, b.begin())) {
      reject("found inputs {} and {}, expected [..., m, k] and [..., k, n] with equal leading dims", text(a),
             text(b));
    }
    Dims out = a;
    out.back() = b.back();
    return out;
  }

  Dims operator()(const Concat& concat) const {
    if (op_.inputs.empty()) reject("found no inputs, expected one or more");
    check_axis(concat.axis);
    const auto axis = static_cast<size_t>(concat.axis);
    Dims out = input().dims;
    out[axis] = 0;
    for (TensorId id : op_.inputs) {
      Dims dims = tensor(id).dims;
      const int64_t length = dims.size() == out.size() ? dims[axis] : 0;
      if (length > 0) dims[axis] = out[axis];
      expect_dims(dims, out, "input (without the joined axis)");
      out[axis] += length;
    }
    return out;
  }

  Dims operator()(const Slice& slice) const {
    expect_inputs(1);
    check_axis(slice.axis);
    const auto axis = static_cast<size_t>(slice.axis);
    Dims dims = input().dims;
    const int64_t length = dims[axis];
    if (output().dims.size() != dims.size())
      reject("found output {}, expected rank {}", text(output().dims), dims.size());
    const int64_t count = output().dims[axis];
    if (slice.step == 0 || slice.step > kMaxElements || slice.step < -kMaxElements) {
      reject("found step {}, expected one other than 0 within +-{}", slice.step, kMaxElements);
    }
    // Both factors are below 2^31.
    const int64_t span = (count - 1) * slice.step;
    if (slice.start < 0 || slice.start >= length || slice.start + span < 0 || slice.start + span >= length) {
      reject("found elements {} + i * {} for i below {}, expected them in 0 to {}", slice.start, slice.step,
             count, length - 1);
    }
    dims[axis] = count;
    return dims;
  }

  Dims operator()(const Pad& pad) const {
    expect_inputs(1);
    Dims dims = input().dims;
    if (pad.before.size() != dims.size() || pad.after.size() != dims.size()) {
      reject("found padding of {} and {} axes, expected {}", pad.before.size(), pad.after.size(),
             dims.size());
    }
    if (std::isnan(pad.value)) reject("found the value NaN, expected a number");
    for (size_t i = 0; i < dims.size(); ++i) {
      for (int64_t amount : {pad.before[i], pad.after[i]}) {
        if (amount < 0 || amount > kMaxElements)
          reject("found padding {} of axis {}, expected 0 to {}", amount, i, kMaxElements);
        dims[i] += amount;
      }
    }
    return dims;
  }

  Dims operator()(const Transpose& transpose) const {
    expect_inputs(1);
    const Dims& in = input().dims;
    std::vector<char> seen(in.size(), 0);
    Dims out;
    for (int axis : transpose.perm) {
      check_axis(axis);
      if (seen[static_cast<size_t>(axis)]++) reject("found axis {} twice, expected a permutation", axis);
      out.push_back(in[static_cast<size_t>(axis)]);
    }
    if (out.size() != in.size()) reject("found a permutation of {} axes, expected {}", out.size(), in.size());
    return out;
  }

  Dims operator()(const Reshape&) const {
    expect_inputs(1);
    if (elements(input().dims) != elements(output().dims)) {
      reject("found input {} and output {}, expected as many elements", text(input().dims),
             text(output().dims));
    }
    return output().dims;
  }

  Dims operator()(const Gather& gather) const {
    expect_inputs(1);
    check_axis(gather.axis);
    Dims dims = input().dims;
    int64_t& length = dims[static_cast<size_t>(gather.axis)];
    for (int64_t index : gather.indices) {
      if (index < 0 || index >= length) reject("found index {}, expected 0 to {}", index, length - 1);
    }
    length = static_cast<int64_t>(gather.indices.size());
    return dims;
  }

 private:
  template <typename... Args>
  [[noreturn]] void reject(fmt::format_string<Args...> pattern, Args&&... args) const {
    fail(ErrorCode::kCorruptFile, "op '{}' ({}): {}", printable(op_.name), to_string(op_.kind),
         fmt::format(pattern, std::forward<Args>(args)...));
  }

  const Tensor& tensor(TensorId id) const { return program_.tensors[static_cast<size_t>(id)]; }
  const Tensor& input() const { return tensor(op_.inputs[0]); }
  const Tensor& output() const { return tensor(op_.outputs[0]); }

  void expect_inputs(size_t count) const {
    if (op_.inputs.size() != count) reject("found {} inputs, expected {}", op_.inputs.size(), count);
  }

  void expect_rank(size_t rank) const {
    if (input().dims.size() != rank) reject("found input {}, expected rank {}", text(input().dims), rank);
  }

  void expect_float_inputs() const {
    for (TensorId id : op_.inputs) {
      if (tensor(id).code) reject("found an input of codes, expected float32");
    }
  }

  void expect_dims(const Dims& found, const Dims& expected, const char* what) const {
    if (found != expected) reject("found {} {}, expected {}", what, text(found), text(expected));
  }

  void expect_size(const std::vector<float>& values, size_t size, const char* what) const {
    if (values.size() != size) reject("found {} values of {}, expected {}", values.size(), what, size);
    expect_finite(values, what);
  }

  void expect_finite(const std::vector<float>& values, const char* what) const {
    for (float value : values) {
      if (!std::isfinite(value)) reject("found {} in {}, expected finite values", value, what);
    }
  }

  void check_axis(int axis) const {
    if (axis < 0 || static_cast<size_t>(axis) >= input().dims.size()) {
      reject("found axis {}, expected 0 to {}", axis, input().dims.size() - 1);
    }
  }

  /// Product of two positive numbers, at most kMaxElements.
  int64_t product(int64_t a, int64_t b) const {
    if (a > kMaxElements / b) reject("found {} x {} weights, expected at most {}", a, b, kMaxElements);
    return a * b;
  }

  Dims windowed(const Window& window, int64_t channels) const {
    for (int value : {window.kernel_h, window.kernel_w, window.stride_h, window.stride_w, window.dilation_h,
                      window.dilation_w}) {
      if (value < 1 || value > kMaxWindow)
        reject("found kernel, stride or dilation {}, expected 1 to {}", value, kMaxWindow);
    }
    for (int value : {window.pad_top, window.pad_left, window.pad_bottom, window.pad_right}) {
      if (value < 0 || value > kMaxWindow) reject("found padding {}, expected 0 to {}", value, kMaxWindow);
    }
    const Dims& in = input().dims;
    return {channels,
            windows(in[1], window.kernel_h, window.stride_h, window.dilation_h, window.pad_top,
                    window.pad_bottom),
            windows(in[2], window.kernel_w, window.stride_w, window.dilation_w, window.pad_left,
                    window.pad_right)};
  }

  /// Number of windows along one axis.
  int64_t windows(int64_t in, int64_t kernel, int64_t stride, int64_t dilation, int64_t before,
                  int64_t after) const {
    const int64_t extent = dilation * (kernel - 1) + 1, padded = in + before + after;
    // Kernels keep positions in int.
    if (padded > kMaxElements) reject("found {} padded positions, expected at most {}", padded, kMaxElements);
    if (extent > padded)
      reject("found a kernel that spans {} positions, expected at most the {} padded ones", extent, padded);
    return (padded - extent) / stride + 1;
  }

  Dims pooled(const Window& window) const {
    expect_inputs(1);
    expect_rank(3);
    const Dims& in = input().dims;
    Dims out = windowed(window, in[0]);
    expect_no_empty_window(in[1], window.kernel_h, window.stride_h, window.dilation_h, window.pad_top,
                           window.pad_bottom);
    expect_no_empty_window(in[2], window.kernel_w, window.stride_w, window.dilation_w, window.pad_left,
                           window.pad_right);
    return out;
  }

  void expect_no_empty_window(int64_t in, int64_t kernel, int64_t stride, int64_t dilation, int64_t before,
                              int64_t after) const {
    const int64_t extent = dilation * (kernel - 1) + 1;
    if (before >= extent || after >= extent) {
      reject("found padding {} and {}, expected less than the {} positions of the kernel", before, after,
             extent);
    }
    if (dilation <= in) return;
    // A wide dilation can step over a small image.
    const int64_t last = in + before + after - extent - before;
    for (int64_t start = -before; start < 0 && start <= last; start += stride) {
      const int64_t first_inside = start + (-start + dilation - 1) / dilation * dilation;
      if (first_inside >= in)
        reject("found a window without a position inside the image at {}, expected none", start);
    }
  }

  void check_layer(const Weights& weights, const std::vector<float>& mul, const std::vector<float>& add,
                   int64_t channels, int64_t per_channel) const {
    const int64_t count = product(channels, per_channel);
    expect_size(add, static_cast<size_t>(channels), "add");
    if (const auto* values = std::get_if<FloatWeights>(&weights)) {
      if (input().code) reject("found float weights on an input of codes, expected a float32 input");
      expect_size(mul, 0, "mul");
      expect_size(values->values, static_cast<size_t>(count), "weights");
      return;
    }
    expect_size(mul, static_cast<size_t>(channels), "mul");
    const auto& codes = std::get<CodeWeights>(weights);
    if (!input().code) reject("found weight codes on a float32 input, expected an input of codes");
    check_codes(codes, count);
    const int max_code = (1 << codes.bits) - 1;
    const int64_t max_weight = std::max(std::abs(codes.grid.at(0)), std::abs(codes.grid.at(max_code)));
    const quant::CodeType& type = *input().code;
    const int64_t max_value = std::max(-type.zero, type.zero + type.max_code());
    if (max_weight * max_value * per_channel >= int64_t{1} << 31) {
      reject(
          "found a reduction of {} with weights up to {} and activations up to {}, expected accumulators "
          "below 2^31",
          per_channel, max_weight, max_value);
    }
  }

  void check_codes(const CodeWeights& codes, int64_t count) const {
    if (codes.bits < 1 || codes.bits > 8) reject("found weights of {} bits, expected 1 to 8", codes.bits);
    const int half = 1 << (codes.bits - 1);
    const quant::IntegerGrid grids[] = {{2, 1 - 2 * half}, {1, -half}, {1, 1 - half}};
    if (std::find(std::begin(grids), std::end(grids), codes.grid) == std::end(grids)) {
      reject("found the weight grid {} * u + {} at {} bits, expected one of docs/arithmetic.md",
             codes.grid.mul, codes.grid.offset, codes.bits);
    }
    const size_t bytes = quant::packed_bytes(static_cast<size_t>(count), codes.bits);
    if (codes.packed.size() != bytes)
      reject("found {} bytes of weights, expected {}", codes.packed.size(), bytes);
    const int used_bits = static_cast<int>(count % 8 * codes.bits % 8);
    if (used_bits != 0 && (codes.packed.back() >> used_bits) != 0) {
      reject("found bits set behind the last weight, expected zeros");
    }
  }

  /// Dims of two tensors broadcast together from the right.
  Dims broadcast(const Dims& a, const Dims& b) const {
    Dims out(std::max(a.size(), b.size()), 1);
    for (const Dims* dims : {&a, &b}) {
      const size_t missing = out.size() - dims->size();
      for (size_t i = 0; i < dims->size(); ++i) {
        int64_t& dim = out[missing + i];
        if (dim != 1 && (*dims)[i] != 1 && dim != (*dims)[i]) {
          reject("found operands {} and {}, expected dims that are equal or 1", text(a), text(b));
        }
        dim = std::max(dim, (*dims)[i]);
      }
    }
    return out;
  }

  void check_step(const Step& step, size_t index, const Dims& dims) const {
    if (step.kind > StepKind::kFunction)
      reject("step {}: found kind {}, expected a known one", index, static_cast<int>(step.kind));
    const bool binary = step.kind <= StepKind::kDivide;
    if (binary != (step.operand != -1)) {
      reject("step {} ({}): found {}, expected {}", index, to_string(step.kind),
             binary ? "no operand" : "an operand", binary ? "one" : "none");
    }
    if (binary && broadcast(dims, tensor(step.operand).dims) != dims) {
      reject("step {} ({}): found operand {}, expected dims that broadcast to {}", index,
             to_string(step.kind), text(tensor(step.operand).dims), text(dims));
    }
    const bool affine = step.kind == StepKind::kAffine;
    check_per_channel(step.mul, affine || step.kind == StepKind::kPRelu, index, step.kind, dims[0]);
    check_per_channel(step.add, affine, index, step.kind, dims[0]);
    const bool function = step.kind == StepKind::kFunction;
    if (function != (step.function != Function::kNone) || step.function > Function::kPower) {
      reject("step {} ({}): found function {}, expected {}", index, to_string(step.kind),
             static_cast<int>(step.function), function ? "a known one" : "none");
    }
    check_bounds(step, index);
  }

  void check_bounds(const Step& step, size_t index) const {
    if (step.kind == StepKind::kClip) {
      if (!(step.a <= step.b))
        reject("step {} (clip): found bounds {} and {}, expected a <= b", index, step.a, step.b);
      return;
    }
    if (!std::isfinite(step.a) || !std::isfinite(step.b)) {
      reject("step {} ({}): found parameters {} and {}, expected finite ones", index, to_string(step.kind),
             step.a, step.b);
    }
  }

  void check_per_channel(const std::vector<float>& values, bool used, size_t index, StepKind kind,
                         int64_t channels) const {
    const auto size = static_cast<int64_t>(values.size());
    if (used ? size != 1 && size != channels : size != 0) {
      reject("step {} ({}): found {} parameters, expected {}", index, to_string(kind), size,
             used ? fmt::format("1 or {}", channels) : "none");
    }
    expect_finite(values, "a step");
  }

  const Program& program_;
  const Op& op_;
};

}  // namespace

void validate_op(const Program& program, const Op& op) {
  OpChecker(program, op).run();
}

std::string text(const Dims& dims) {
  return fmt::format("[{}]", fmt::join(dims, ", "));
}

}  // namespace bitstrata::program::detail
