#include <algorithm>
#include <cmath>
#include <utility>

#include "onnx/fold.h"
#include "onnx/ops.h"
#include "onnx/quantize.h"
#include "onnx/rewrite.h"
#include "onnx/shape_arguments.h"

namespace bitstrata::onnx {

namespace {

/// Scale, zero point and type of a QuantizeLinear or DequantizeLinear.
struct Parameters {
  std::vector<float> scale;
  std::vector<int64_t> zero_point;  ///< as many as scale
  int element_type = 0;             ///< of the zero point; 0 without one

  bool is_uniform() const {
    return std::ranges::all_of(scale, [&](float s) { return s == scale[0]; }) &&
           std::ranges::all_of(zero_point, [&](int64_t z) { return z == zero_point[0]; });
  }
};

Parameters read_parameters(Builder& b, const NodeView& n) {
  if (n.integer("block_size", 0) != 0)
    n.unsupported("block_size {}, supported are scales per tensor and per channel",
                  n.integer("block_size", 0));
  Parameters p;
  p.scale = b.float_vector(n, 1);
  if (p.scale.empty() || b.constant(n, 1).dims.size() > 1)
    n.bad("scale of dims [{}], expected one number or a list", fmt::join(b.constant(n, 1).dims, ", "));
  for (float s : p.scale) {
    if (!(s > 0) || !std::isfinite(s)) n.bad("scale {}, expected a finite number above 0", s);
  }
  p.zero_point.assign(p.scale.size(), 0);
  if (!b.has(n, 2)) return p;
  const Tensor& zero_point = b.constant(n, 2);
  p.element_type = zero_point.element_type;
  if (integer_type(p.element_type).bits == 0 || zero_point.is_float)
    n.unsupported("zero point of type {}, supported are integers of 2 to 32 bits",
                  element_type_name(p.element_type));
  if (zero_point.ints.size() != p.scale.size())
    n.bad("{} scales and {} zero points, expected as many", p.scale.size(), zero_point.ints.size());
  p.zero_point = zero_point.ints;
  return p;
}

/// Number of elements that follow one another with the same scale, and then start again with the first.
struct Channels {
  size_t inner = 1, count = 1;
  size_t of(size_t element) const { return element / inner % count; }
};

Channels channels_of(const NodeView& n, const Parameters& p, const std::vector<int64_t>& dims) {
  const int64_t axis = n.integer("axis", 1);
  if (p.scale.size() == 1) return {};
  const auto channel_axis = static_cast<size_t>(positive_axis(n, axis, dims.size()));
  Channels channels;
  channels.count = p.scale.size();
  if (dims[channel_axis] != static_cast<int64_t>(channels.count)) {
    n.bad("{} scales for axis {} of {} elements, expected as many", channels.count, channel_axis,
          dims[channel_axis]);
  }
  for (size_t i = channel_axis + 1; i < dims.size(); ++i) channels.inner *= static_cast<size_t>(dims[i]);
  return channels;
}

IntegerRange range_of(IntegerType type) {
  const int64_t levels = int64_t{1} << type.bits;
  return type.is_signed ? IntegerRange{-levels / 2, levels / 2 - 1} : IntegerRange{0, levels - 1};
}

/// The type that a QuantizeLinear yields: its zero point's, or output_dtype, or uint8.
int output_type(const NodeView& n, const Parameters& p) {
  constexpr int64_t kUint8 = 2;
  const int64_t given = n.integer("output_dtype", 0);
  if (p.element_type != 0) {
    if (given != 0 && given != p.element_type)
      n.bad("output_dtype {}, but a zero point of type {}", given, element_type_name(p.element_type));
    return p.element_type;
  }
  const int64_t type = given == 0 ? kUint8 : given;
  if (type < 0 || type > 255 || integer_type(static_cast<int>(type)).bits == 0)
    n.unsupported("output_dtype {}, supported are integers of 2 to 16 bits", type);
  return static_cast<int>(type);
}

Tensor quantized_constant(Builder& b, const NodeView& n, const Parameters& p, int type) {
  const Tensor& x = b.constant(n, 0);
  if (!x.is_float) n.bad("input 0 is an integer tensor, expected floating point");
  const Channels channels = channels_of(n, p, x.dims);
  const IntegerRange range = range_of(integer_type(type));
  b.budget.take(x.elems(), n.where());
  Tensor result;
  result.is_float = false;
  result.dims = x.dims;
  result.element_type = type;
  for (size_t i = 0; i < x.floats.size(); ++i) {
    const size_t c = channels.of(i);
    const double q =
        std::nearbyint(static_cast<double>(x.floats[i] / p.scale[c])) + static_cast<double>(p.zero_point[c]);
    if (std::isnan(q)) n.bad("a constant of NaN, expected numbers");
    result.ints.push_back(
        static_cast<int64_t>(std::clamp(q, static_cast<double>(range.low), static_cast<double>(range.high))));
  }
  return result;
}

void check_uniform(const NodeView& n, const Parameters& p) {
  if (!p.is_uniform())
    n.unsupported("{} scales for the channels of an activation, supported is one per tensor", p.scale.size());
}

void quantize_linear(Builder& b, const NodeView& n) {
  n.integer("saturate", 1);
  n.integer("axis", 1);
  n.integer("precision", 0);
  const Parameters p = read_parameters(b, n);
  const int type = output_type(n, p);
  if (b.operand(n, 0).is_constant()) return b.bind(n, 0, quantized_constant(b, n, p, type));
  check_uniform(n, p);
  const IntegerRange range = range_of(integer_type(type));
  if (p.zero_point[0] < range.low || p.zero_point[0] > range.high)
    n.bad("zero point {}, expected {} to {}", p.zero_point[0], range.low, range.high);
  Operand stored;
  stored.integers = std::make_shared<const StoredIntegers>(
      StoredIntegers{b.activation(n, 0), p.scale[0], p.zero_point[0], range.low, range.high, type});
  b.bind(n, 0, stored);
}

Tensor dequantized_constant(Builder& b, const NodeView& n, const Parameters& p) {
  const Tensor& q = b.constant(n, 0);
  if (q.is_float) n.bad("input 0 is a floating-point tensor, expected integers");
  const Channels channels = channels_of(n, p, q.dims);
  std::vector<int64_t> integers;
  std::vector<float> scales;
  b.budget.take(2 * q.elems(), n.where());
  for (size_t i = 0; i < q.ints.size(); ++i) {
    constexpr int64_t kMax = int64_t{1} << 32;
    if (q.ints[i] < -kMax || q.ints[i] > kMax) n.bad("integer {}, expected one of 32 bits", q.ints[i]);
    integers.push_back(q.ints[i] - p.zero_point[channels.of(i)]);
    scales.push_back(p.scale[channels.of(i)]);
  }
  return dequantized(b, n, q.dims, integers, scales);
}

void dequantize_linear(Builder& b, const NodeView& n) {
  n.integer("axis", 1);
  const int64_t type = n.integer("output_dtype", 1);
  if (type != 0 && type != 1) n.unsupported("output_dtype {}, supported is 1 (float)", type);
  const Parameters p = read_parameters(b, n);
  const Operand& x = b.operand(n, 0);
  if (x.is_constant()) return b.bind(n, 0, dequantized_constant(b, n, p));
  if (!x.integers)
    n.unsupported("of '{}', supported are constants and what a QuantizeLinear yields",
                  printable(n.input_name(0)));
  check_uniform(n, p);
  const StoredIntegers q = *x.integers;
  if (p.scale[0] != q.scale || p.zero_point[0] != q.zero_point) {
    n.unsupported("scale {} and zero point {}, supported are those of its QuantizeLinear, {} and {}",
                  p.scale[0], p.zero_point[0], q.scale, q.zero_point);
  }
  b.bind(n, 0, quantize_activation(b, n, q.source, q.scale, {q.low - q.zero_point, q.high - q.zero_point}));
}

/// A table of codes, as rewrite.h has it. Of entries for codes that a clip rules out only the last is needed.
void table_lookup(Builder& b, const NodeView& n) {
  const ValueId x = b.activation(n, 0);
  const std::vector<float> table = b.float_vector(n, 1);
  const float scale = b.scalar(n, 2), lowest = b.scalar(n, 3);
  const auto& code = b.code_of(x);
  if (!code) n.unsupported("of '{}', supported are the values of a quantizer", printable(n.input_name(0)));
  if (code->scale != scale)
    n.unsupported("of codes of scale {}, supported is that of its input, {}", scale, code->scale);
  if (table.empty() || !(lowest <= static_cast<float>(code->zero)) ||
      !(static_cast<float>(code->zero) - lowest < static_cast<float>(table.size()))) {
    n.bad("table of {} entries from code {}, but its input has codes from {}", table.size(), lowest,
          code->zero);
  }
  const auto first = static_cast<size_t>(static_cast<float>(code->zero) - lowest);
  program::Lookup lookup;
  for (size_t v = 0; v < static_cast<size_t>(code->levels()); ++v)
    lookup.table.push_back(table[std::min(first + v, table.size() - 1)]);
  b.bind(n, 0, b.emit(n, std::move(lookup), {x}));
}

}  // namespace

void clip_integers(Builder& b, const NodeView& n) {
  StoredIntegers q = *b.operand(n, 0).integers;
  const auto bound = [&](size_t input) {
    const Tensor& value = b.constant(n, input);
    if (value.is_float || value.elems() != 1)
      n.bad("input {} of dims [{}], expected one integer", input, fmt::join(value.dims, ", "));
    return value.ints[0];
  };
  const int64_t low = b.has(n, 1) ? bound(1) : q.low, high = b.has(n, 2) ? bound(2) : q.high;
  if (low > high || low > q.high || high < q.low)
    n.bad("bounds {} and {} of integers from {} to {}", low, high, q.low, q.high);
  q.low = std::max(low, q.low);
  q.high = std::min(high, q.high);
  Operand clipped;
  clipped.integers = std::make_shared<const StoredIntegers>(q);
  b.bind(n, 0, clipped);
}

void add_qdq_ops(Handlers& handlers) {
  handlers["QuantizeLinear"] = quantize_linear;
  handlers["DequantizeLinear"] = dequantize_linear;
  handlers[kTableOp] = table_lookup;
}

}  // namespace bitstrata::onnx
