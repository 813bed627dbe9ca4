#include "onnx/quantize.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace bitstrata::onnx {

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Bounds {
  float low = -kInfinity, high = kInfinity;
};

/// What the clip in front of `value`, or in front of data movement there, leaves of it.
Bounds clipped_to(const Builder& b, ValueId value) {
  constexpr int kFarEnough = 16;
  for (int i = 0; i < kFarEnough; ++i) {
    const graph::Node* node = b.producer(value);
    if (node == nullptr) return {};
    if (const auto* activation = std::get_if<graph::Activation>(&node->kind)) {
      const program::Step& step = activation->step;
      return step.kind == program::StepKind::kClip ? Bounds{step.a, step.b} : Bounds{};
    }
    const bool adds_values = std::holds_alternative<program::Pad>(node->kind) ||
                             std::holds_alternative<program::Concat>(node->kind);
    if (!graph::is_data_movement(node->kind) || adds_values) return {};
    value = node->inputs[0];
  }
  return {};
}

/// rint(bound / scale) within `range`, as quant::quantize computes it.
int64_t clamped_code(float bound, const quant::CodeType& code, IntegerRange range) {
  const float r = std::nearbyintf(bound * code.inverse_scale());
  if (!(r > static_cast<float>(range.low))) return range.low;
  return r < static_cast<float>(range.high) ? static_cast<int64_t>(r) : range.high;
}

}  // namespace

ValueId quantize_activation(Builder& b, const NodeView& n, ValueId source, float scale, IntegerRange range) {
  quant::CodeType code{1, 0, scale};
  if (!std::isfinite(code.inverse_scale())) n.bad("scale {}, expected one with a finite reciprocal", scale);
  if (range.low > 0 || range.high < 0) {
    n.bad("its codes stand for {} to {} times the scale, expected a zero point for which 0 is a code",
          range.low, range.high);
  }
  const auto& carried = b.code_of(source);
  if (carried && carried->scale == scale && carried->zero >= range.low &&
      carried->zero + carried->max_code() <= range.high)
    return source;
  const Bounds bounds = clipped_to(b, source);
  const int64_t low = std::min<int64_t>(clamped_code(bounds.low, code, range), 0);
  const int64_t high = std::max<int64_t>(clamped_code(bounds.high, code, range), 0);
  while (code.bits <= 8 && high - low > code.max_code()) ++code.bits;
  if (code.bits > 8)
    n.unsupported("{} codes of an activation, supported are up to 256 (8 bits)", high - low + 1);
  code.zero = static_cast<int>(low);
  const bool is_clipped = std::nearbyintf(bounds.high * code.inverse_scale()) <= static_cast<float>(high);
  if (high < code.zero + code.max_code() && !is_clipped) {
    program::Step clip;
    clip.kind = program::StepKind::kClip;
    clip.a = static_cast<float>(low) * scale;
    clip.b = static_cast<float>(high) * scale;
    source = b.emit(n, graph::Activation{clip}, {source});
  }
  return b.emit(n, graph::Quantize{code}, {source});
}

Tensor dequantized(Builder& b, const NodeView& n, const std::vector<int64_t>& dims,
                   const std::vector<int64_t>& integers, const std::vector<float>& scales) {
  constexpr int64_t kMaxGrid = 1 << 20;
  b.budget.take(3 * static_cast<int64_t>(integers.size()), n.where());
  Tensor tensor;
  tensor.dims = dims;
  GridPoints grid;
  for (size_t i = 0; i < integers.size(); ++i) {
    tensor.floats.push_back(static_cast<float>(integers[i]) * scales[i]);
    grid.integers.push_back(static_cast<int32_t>(std::clamp(integers[i], -kMaxGrid, kMaxGrid)));
  }
  const bool fits = std::ranges::all_of(integers, [](int64_t q) { return q >= -kMaxGrid && q <= kMaxGrid; });
  grid.scales = scales;
  if (fits) tensor.grid = std::make_shared<const GridPoints>(std::move(grid));
  return tensor;
}

}  // namespace bitstrata::onnx
