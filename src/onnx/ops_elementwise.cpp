#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

#include "onnx/fold.h"
#include "onnx/ops.h"

namespace bitstrata::onnx {

namespace {

using graph::Binary;
using program::Function;
using program::Step;
using program::StepKind;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

void activate(Builder& b, const NodeView& n, Step step) {
  b.bind(n, 0, b.emit(n, graph::Activation{std::move(step)}, {b.activation(n, 0)}));
}

Step step_of(StepKind kind, float a = 0, float b = 0) {
  Step step;
  step.kind = kind;
  step.a = a;
  step.b = b;
  return step;
}

Step function_step(Function function, float a = 0) {
  Step step = step_of(StepKind::kFunction, a);
  step.function = function;
  return step;
}

template <Function kFunction>
void function(Builder& b, const NodeView& n) {
  activate(b, n, function_step(kFunction));
}

void relu(Builder& b, const NodeView& n) {
  activate(b, n, step_of(StepKind::kClip, 0, kInfinity));
}

void clip(Builder& b, const NodeView& n) {
  if (b.operand(n, 0).integers) return clip_integers(b, n);
  float low = -kInfinity, high = kInfinity;
  if (n.opset() < 11) {
    low = n.real("min", low);
    high = n.real("max", high);
  } else {
    if (b.has(n, 1)) low = b.scalar(n, 1);
    if (b.has(n, 2)) high = b.scalar(n, 2);
  }
  // Writers spell "no bound" as the largest float.
  if (low == std::numeric_limits<float>::lowest()) low = -kInfinity;
  if (high == std::numeric_limits<float>::max()) high = kInfinity;
  if (!(low <= high)) n.bad("bounds {} and {}", low, high);
  activate(b, n, step_of(StepKind::kClip, low, high));
}

void leaky_relu(Builder& b, const NodeView& n) {
  activate(b, n, step_of(StepKind::kLeakyRelu, n.real("alpha", 0.01f)));
}

void hard_sigmoid(Builder& b, const NodeView& n) {
  const float alpha = n.real("alpha", 0.2f);
  activate(b, n, step_of(StepKind::kHardSigmoid, alpha, n.real("beta", 0.5f)));
}

void hard_swish(Builder& b, const NodeView& n) {
  activate(b, n, step_of(StepKind::kHardSwish));
}

void elu(Builder& b, const NodeView& n) {
  activate(b, n, function_step(Function::kElu, n.real("alpha", 1.0f)));
}

void gelu(Builder& b, const NodeView& n) {
  const std::string approximate = n.text("approximate", "none");
  if (approximate != "none") n.unsupported("approximate '{}', supported is 'none'", printable(approximate));
  activate(b, n, function_step(Function::kGelu));
}

/// A constant's dims seen from an image of `rank` dims: right-aligned, padded with ones, without the batch.
Dims image_dims_of(const NodeView& n, const Tensor& constant, size_t rank) {
  Dims dims = constant.dims;
  while (dims.size() > rank && dims.front() == 1) dims.erase(dims.begin());
  if (dims.size() > rank) {
    n.unsupported(
        "constant of dims [{}] spans the batch, supported are constants of at most {} dims behind it",
        fmt::join(constant.dims, ", "), rank);
  }
  dims.insert(dims.begin(), rank - dims.size(), 1);
  return dims;
}

/// True when `dims` holds one value, or one per index of the first dim of `image`.
bool is_per_channel(const Dims& dims, const Dims& image) {
  if (dims[0] != 1 && dims[0] != image[0]) return false;
  return std::all_of(dims.begin() + 1, dims.end(), [](int64_t d) { return d == 1; });
}

void prelu(Builder& b, const NodeView& n) {
  const Dims image = b.dims(b.activation(n, 0));
  if (!is_per_channel(image_dims_of(n, b.constant(n, 1), image.size()), image)) {
    n.unsupported("slopes of dims [{}], supported are one or one per channel",
                  fmt::join(b.constant(n, 1).dims, ", "));
  }
  Step step = step_of(StepKind::kPRelu);
  step.mul = b.float_vector(n, 1);
  activate(b, n, std::move(step));
}

/// `x kind c`, or `c kind x` when `reversed`, for per-channel constants; c / x is no Affine.
graph::Affine to_affine(Binary::Kind kind, bool reversed, std::vector<float> c) {
  switch (kind) {
    case Binary::Kind::kAdd:
      return {{1.0f}, std::move(c)};
    case Binary::Kind::kSubtract:
      if (reversed) return {{-1.0f}, std::move(c)};
      for (float& v : c) v = -v;
      return {{1.0f}, std::move(c)};
    case Binary::Kind::kMultiply:
      return {std::move(c), {0.0f}};
    case Binary::Kind::kDivide:
      break;
  }
  for (float& v : c) v = 1.0f / v;
  return {std::move(c), {0.0f}};
}

void with_constant(Builder& b, const NodeView& n, Binary::Kind kind, size_t constant_input) {
  const ValueId x = b.activation(n, 1 - constant_input);
  const Dims image = b.dims(x);
  const Dims dims = image_dims_of(n, b.constant(n, constant_input), image.size());
  std::vector<float> values = b.float_vector(n, constant_input);
  const bool reversed = constant_input == 0;
  if (is_per_channel(dims, image) && !(reversed && kind == Binary::Kind::kDivide)) {
    b.bind(n, 0, b.emit(n, to_affine(kind, reversed, std::move(values)), {x}));
    return;
  }
  const ValueId c = b.emit_constant(n, std::move(values), dims);
  b.bind(n, 0, b.emit(n, Binary{kind}, reversed ? std::vector<ValueId>{c, x} : std::vector<ValueId>{x, c}));
}

ValueId combine(Builder& b, const NodeView& n, Binary::Kind kind, ValueId x, ValueId y) {
  if (b.dims(x).size() != b.dims(y).size()) {
    n.unsupported(
        "of activations with {} and {} dims would broadcast over the batch, supported are equal ranks",
        b.dims(x).size() + 1, b.dims(y).size() + 1);
  }
  return b.emit(n, Binary{kind}, {x, y});
}

template <Binary::Kind kKind>
void binary(Builder& b, const NodeView& n) {
  if (b.operand(n, 0).is_constant()) return with_constant(b, n, kKind, 0);
  if (b.operand(n, 1).is_constant()) return with_constant(b, n, kKind, 1);
  b.bind(n, 0, combine(b, n, kKind, b.activation(n, 0), b.activation(n, 1)));
}

void sum(Builder& b, const NodeView& n) {
  ValueId total = b.activation(n, 0);
  for (size_t i = 1; i < n.num_inputs(); ++i)
    total = combine(b, n, Binary::Kind::kAdd, total, b.activation(n, i));
  b.bind(n, 0, total);
}

/// Min and Max against one number are clips.
template <bool kIsMax>
void clip_against(Builder& b, const NodeView& n) {
  if (n.num_inputs() != 2)
    n.unsupported("{} inputs, supported are an activation and one number", n.num_inputs());
  const size_t number = b.operand(n, 0).is_constant() ? 0 : 1;
  const float bound = b.scalar(n, number);
  if (std::isnan(bound)) n.bad("bound is not a number");
  const Step step =
      kIsMax ? step_of(StepKind::kClip, bound, kInfinity) : step_of(StepKind::kClip, -kInfinity, bound);
  image_dims_of(n, b.constant(n, number), b.dims(b.activation(n, 1 - number)).size());
  b.bind(n, 0, b.emit(n, graph::Activation{step}, {b.activation(n, 1 - number)}));
}

void pow(Builder& b, const NodeView& n) {
  const ValueId x = b.activation(n, 0);
  const Tensor& exponent = b.constant(n, 1);
  if (exponent.elems() != 1)
    n.unsupported("exponents of dims [{}], supported is one number", fmt::join(exponent.dims, ", "));
  image_dims_of(n, exponent, b.dims(x).size());
  const float e = exponent.is_float ? exponent.floats[0] : static_cast<float>(exponent.ints[0]);
  if (e == 2.0f) return b.bind(n, 0, b.emit(n, Binary{Binary::Kind::kMultiply}, {x, x}));
  if (e == 0.5f) return activate(b, n, function_step(Function::kSqrt));
  activate(b, n, function_step(Function::kPower, e));
}

void softmax(Builder& b, const NodeView& n) {
  const ValueId x = b.activation(n, 0);
  const Dims& image = b.dims(x);
  const int axis = b.image_axis(n, n.integer("axis", n.opset() < 13 ? 1 : -1), image.size() + 1);
  const bool rest_is_one =
      std::all_of(image.begin() + axis + 1, image.end(), [](int64_t d) { return d == 1; });
  if (n.opset() < 13 && !rest_is_one) {
    n.unsupported(
        "axis {} of {} dims flattens the axes behind it before opset 13, supported is the last axis",
        axis + 1, image.size() + 1);
  }
  b.bind(n, 0, b.emit(n, program::Softmax{axis}, {x}));
}

}  // namespace

void add_elementwise_ops(Handlers& handlers) {
  handlers["Relu"] = relu;
  handlers["Clip"] = clip;
  handlers["LeakyRelu"] = leaky_relu;
  handlers["PRelu"] = prelu;
  handlers["HardSigmoid"] = hard_sigmoid;
  handlers["HardSwish"] = hard_swish;
  handlers["Elu"] = elu;
  handlers["Gelu"] = gelu;
  handlers["Sigmoid"] = function<Function::kSigmoid>;
  handlers["Tanh"] = function<Function::kTanh>;
  handlers["Exp"] = function<Function::kExp>;
  handlers["Log"] = function<Function::kLog>;
  handlers["Sqrt"] = function<Function::kSqrt>;
  handlers["Erf"] = function<Function::kErf>;
  handlers["Softplus"] = function<Function::kSoftplus>;
  handlers["Abs"] = function<Function::kAbs>;
  handlers["Neg"] = function<Function::kNegate>;
  handlers["Reciprocal"] = function<Function::kReciprocal>;
  handlers["Pow"] = pow;
  handlers["Add"] = binary<Binary::Kind::kAdd>;
  handlers["Sub"] = binary<Binary::Kind::kSubtract>;
  handlers["Mul"] = binary<Binary::Kind::kMultiply>;
  handlers["Div"] = binary<Binary::Kind::kDivide>;
  handlers["Sum"] = sum;
  handlers["Min"] = clip_against<false>;
  handlers["Max"] = clip_against<true>;
  handlers["Softmax"] = softmax;
}

}  // namespace bitstrata::onnx
