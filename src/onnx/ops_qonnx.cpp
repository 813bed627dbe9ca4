#include <algorithm>
#include <cctype>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

#include "onnx/ops.h"
#include "onnx/quantize.h"
#include "onnx/rewrite.h"

namespace bitstrata::onnx {

namespace {

constexpr std::string_view kQonnxDomains[] = {"qonnx.custom_op.general", "finn.custom_op.general",
                                              "onnx.brevitas"};

/// A parameter of a quantizer, broadcast to the dims of what it quantizes.
class Parameter {
 public:
  Parameter(Builder& b, const NodeView& n, size_t input, const char* what) : what_(what) {
    const Tensor& tensor = b.constant(n, input);
    b.budget.take(tensor.elems(), n.where());
    dims_ = tensor.dims;
    if (tensor.is_float) {
      values_.assign(tensor.floats.begin(), tensor.floats.end());
    } else {
      values_.assign(tensor.ints.begin(), tensor.ints.end());
    }
    if (values_.empty()) n.bad("{} without a value, expected one or more", what);
  }

  const std::vector<double>& values() const noexcept { return values_; }

  /// The value of all elements; kUnsupported when they differ.
  double only(const NodeView& n) const {
    if (std::ranges::adjacent_find(values_, std::not_equal_to<>()) != values_.end()) {
      n.unsupported("{} differs between the elements (dims [{}]), supported is one value", what_,
                    fmt::join(dims_, ", "));
    }
    return values_[0];
  }

  /// Prepares at() for elements of `dims`, to which the parameter must broadcast.
  void broadcast_to(const NodeView& n, const std::vector<int64_t>& dims) {
    std::vector<int64_t> own = dims_;
    while (own.size() > dims.size() && own.front() == 1) own.erase(own.begin());
    bool fits = own.size() <= dims.size();
    strides_.assign(dims.size(), 0);
    int64_t stride = 1;
    for (size_t i = 0; fits && i < own.size(); ++i) {
      const int64_t extent = own[own.size() - 1 - i];
      const size_t axis = dims.size() - 1 - i;
      fits = extent == 1 || extent == dims[axis];
      if (extent != 1) strides_[axis] = stride;
      stride *= extent;
    }
    if (!fits) {
      n.bad("{} of dims [{}] for a tensor of dims [{}], which do not broadcast", what_,
            fmt::join(dims_, ", "), fmt::join(dims, ", "));
    }
    target_ = dims;
  }

  double at(size_t element) const {
    auto rest = static_cast<int64_t>(element);
    int64_t offset = 0;
    for (size_t axis = target_.size(); axis-- > 0; rest /= target_[axis])
      offset += rest % target_[axis] * strides_[axis];
    return values_[static_cast<size_t>(offset)];
  }

 private:
  const char* what_;
  std::vector<int64_t> dims_, strides_, target_;
  std::vector<double> values_;
};

Parameter read_scale(Builder& b, const NodeView& n) {
  Parameter scale(b, n, 1, "scale");
  for (double s : scale.values()) {
    if (!(s > 0) || s > std::numeric_limits<float>::max() || static_cast<float>(s) == 0)
      n.bad("scale {}, expected a finite number above 0", s);
  }
  return scale;
}

double away_from_zero(double magnitude, double x) {
  return std::copysign(magnitude, x);
}

/// One of QONNX's rounding modes, by its name in upper case; empty when there is none such.
using Rounding = double (*)(double);
Rounding rounding_of(const std::string& mode) {
  if (mode == "ROUND" || mode == "HALF_EVEN") return [](double x) { return std::nearbyint(x); };
  if (mode == "CEIL") return [](double x) { return std::ceil(x); };
  if (mode == "FLOOR") return [](double x) { return std::floor(x); };
  if (mode == "UP") return [](double x) { return away_from_zero(std::ceil(std::fabs(x)), x); };
  if (mode == "DOWN") return [](double x) { return std::trunc(x); };
  if (mode == "HALF_UP") return [](double x) { return std::round(x); };
  if (mode == "HALF_DOWN") return [](double x) { return away_from_zero(std::ceil(std::fabs(x) - 0.5), x); };
  return nullptr;
}

IntegerRange read_range(Builder& b, const NodeView& n) {
  constexpr int kMaxBits = 32;
  const double bits = Parameter(b, n, 3, "bit width").only(n);
  if (!(bits >= 1 && bits <= kMaxBits) || bits != std::floor(bits))
    n.bad("bit width {}, expected an integer from 1 to {}", bits, kMaxBits);
  const bool is_signed = n.integer("signed", 1) != 0, is_narrow = n.integer("narrow", 0) != 0;
  const int64_t levels = int64_t{1} << static_cast<int>(bits);
  if (is_signed) return {-levels / 2 + is_narrow, levels / 2 - 1};
  return {0, levels - 1 - is_narrow};
}

void quant(Builder& b, const NodeView& n) {
  const IntegerRange range = read_range(b, n);
  Parameter scale = read_scale(b, n), zero_point(b, n, 2, "zero point");
  for (double z : zero_point.values()) {
    if (z != std::floor(z) || z < static_cast<double>(range.low) || z > static_cast<double>(range.high))
      n.bad("zero point {}, expected an integer from {} to {}", z, range.low, range.high);
  }
  std::string mode = n.text("rounding_mode", "ROUND");
  std::ranges::transform(mode, mode.begin(), [](unsigned char c) { return std::toupper(c); });
  const Rounding rounding = rounding_of(mode);
  if (rounding == nullptr) {
    n.unsupported(
        "rounding_mode '{}', supported are ROUND, HALF_EVEN, and of constants CEIL, FLOOR, UP, DOWN, "
        "HALF_UP and HALF_DOWN",
        printable(mode));
  }
  if (!b.operand(n, 0).is_constant()) {
    if (mode != "ROUND" && mode != "HALF_EVEN")
      n.unsupported("rounding_mode '{}' of an activation, supported are ROUND and HALF_EVEN", mode);
    const auto zero = static_cast<int64_t>(zero_point.only(n));
    const auto step = static_cast<float>(scale.only(n));
    return b.bind(n, 0,
                  quantize_activation(b, n, b.activation(n, 0), step, {range.low - zero, range.high - zero}));
  }
  const Tensor& x = b.constant(n, 0);
  if (!x.is_float) n.bad("input 0 is an integer tensor, expected floating point");
  scale.broadcast_to(n, x.dims);
  zero_point.broadcast_to(n, x.dims);
  b.budget.take(2 * x.elems(), n.where());
  std::vector<int64_t> integers;
  std::vector<float> scales;
  for (size_t i = 0; i < x.floats.size(); ++i) {
    const auto step = static_cast<float>(scale.at(i));
    const double zero = zero_point.at(i);
    const double q = std::clamp(static_cast<double>(x.floats[i] / step) + zero,
                                static_cast<double>(range.low), static_cast<double>(range.high));
    if (std::isnan(q)) n.bad("a constant of NaN, expected numbers");
    integers.push_back(static_cast<int64_t>(rounding(q)) - static_cast<int64_t>(zero));
    scales.push_back(step);
  }
  b.bind(n, 0, dequantized(b, n, x.dims, integers, scales));
}

program::Step hard_sigmoid_step(float slope, float offset) {
  program::Step step;
  step.kind = program::StepKind::kHardSigmoid;
  step.a = slope;
  step.b = offset;
  return step;
}

/// x >= 0 ? scale : -scale. No code type has just these two values; of the 2-bit one around 0 they are two of
/// four. The first step maps 0 to 1/2 and the smallest numbers around it to its neighbours, the second one
/// all below 1/2 to 0 and the rest to 1.
ValueId signs(Builder& b, const NodeView& n, float scale) {
  const float inverse = 1.0f / scale;
  if (!std::isfinite(inverse) || !std::isfinite(2 * scale))
    n.bad("scale {}, expected one whose double and reciprocal are finite", scale);
  ValueId x = b.activation(n, 0);
  x = b.emit(n, graph::Activation{hard_sigmoid_step(0x1p126f, 0.5f)}, {x});
  x = b.emit(n, graph::Activation{hard_sigmoid_step(0x1p24f, 1.0f - 0x1p23f)}, {x});
  x = b.emit(n, graph::Affine{{2 * scale}, {-scale}}, {x});
  return b.emit(n, graph::Quantize{{2, -1, scale}}, {x});
}

void bipolar_quant(Builder& b, const NodeView& n) {
  Parameter scale = read_scale(b, n);
  if (!b.operand(n, 0).is_constant()) return b.bind(n, 0, signs(b, n, static_cast<float>(scale.only(n))));
  const Tensor& x = b.constant(n, 0);
  if (!x.is_float) n.bad("input 0 is an integer tensor, expected floating point");
  scale.broadcast_to(n, x.dims);
  b.budget.take(2 * x.elems(), n.where());
  std::vector<int64_t> integers;
  std::vector<float> scales;
  for (size_t i = 0; i < x.floats.size(); ++i) {
    integers.push_back(x.floats[i] >= 0 ? 1 : -1);
    scales.push_back(static_cast<float>(scale.at(i)));
  }
  b.bind(n, 0, dequantized(b, n, x.dims, integers, scales));
}

void refuse_trunc(Builder&, const NodeView& n) {
  n.unsupported("drops bits of codes without rounding, which no op here does; replace it by an IntQuant");
}

constexpr std::pair<std::string_view, Handler> kOperators[] = {
    {"Quant", quant}, {"IntQuant", quant}, {"BipolarQuant", bipolar_quant}, {"Trunc", refuse_trunc}};

}  // namespace

bool is_known_domain(std::string_view domain, std::string_view op) {
  const bool is_qonnx = std::ranges::any_of(kOperators, [&](const auto& entry) { return entry.first == op; });
  if (is_qonnx) return std::ranges::find(kQonnxDomains, domain) != std::end(kQonnxDomains);
  if (op == kTableOp) return domain == kTableDomain;
  // ONNX Runtime's own domain had these types first.
  const bool is_qdq = op == "QuantizeLinear" || op == "DequantizeLinear";
  return domain.empty() || domain == "ai.onnx" || (is_qdq && domain == "com.microsoft");
}

void add_qonnx_ops(Handlers& handlers) {
  for (const auto& [name, handler] : kOperators) handlers[name] = handler;
}

}  // namespace bitstrata::onnx
