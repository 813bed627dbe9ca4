#include "onnx/export_qdq.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "onnx/export_program.h"

namespace bitstrata::onnx {
namespace {

constexpr int kInt4Opset = 21, kInt2Opset = 25;

struct Range {
  int low = 0, high = 0;
};

Range range_of(ElementType type) {
  const int levels = 1 << bits_of(type);
  return is_signed(type) ? Range{-levels / 2, levels / 2 - 1} : Range{0, levels - 1};
}

class QdqStyle : public CodeStyle {
 public:
  explicit QdqStyle(ModelWriter& writer) : writer_(writer) {}

  // ONNX Runtime folds the addition behind a MatMul into it and then rounds the bias to steps of the
  // accumulator.
  bool prefers_gemm() const override { return true; }

  std::string round(const std::string& name, const std::string& x, const quant::CodeType& code,
                    bool on_grid) override {
    std::string clipped = x;
    // uint8 saturates at the lowest code, but not at the highest one of fewer bits.
    if (!on_grid && code.bits < 8) {
      clipped = writer_.unique(name + ".clipped");
      const auto bound = [&](int v) { return quant::dequantize(static_cast<uint8_t>(v), code); };
      writer_.add(
          "Clip",
          {x, writer_.scalar(name + ".min", bound(0)), writer_.scalar(name + ".max", bound(code.max_code()))},
          clipped, name + "/clip");
    }
    const std::string codes = writer_.unique(name + ".codes"),
                      scale = writer_.scalar(name + ".scale", code.scale);
    const std::array<int32_t, 1> zero = {-code.zero};
    const std::string zero_point = writer_.integers(name + ".zero_point", ElementType::kUint8, zero, {});
    writer_.add("QuantizeLinear", {clipped, scale, zero_point}, codes, name + "/quantize");
    const std::string y = writer_.unique(name);
    writer_.add("DequantizeLinear", {codes, scale, zero_point}, y, name + "/dequantize");
    return y;
  }

  std::string weights(const std::string& name, const IntegerWeights& weights) override {
    const auto [low, high] = std::ranges::minmax(weights.values);
    for (ElementType type : {ElementType::kInt2, ElementType::kInt4, ElementType::kInt8}) {
      if (!has(type) || low < range_of(type).low || high > range_of(type).high) continue;
      return dequantized(name, type, weights.values, weights, weights.scale, 0);
    }
    if (weights.grid.mul == 2) return halfway_weights(name, weights);
    // A symmetric grid of 8 bits with its code of +128.
    std::vector<int32_t> codes = weights.values;
    for (int32_t& value : codes) value -= weights.grid.offset;
    return dequantized(name, ElementType::kUint8, codes, weights, weights.scale, -weights.grid.offset);
  }

 private:
  bool has(ElementType type) const {
    return bits_of(type) == 8 || writer_.opset() >= (bits_of(type) == 4 ? kInt4Opset : kInt2Opset);
  }

  std::string dequantized(const std::string& name, ElementType type, const std::vector<int32_t>& values,
                          const IntegerWeights& weights, const std::vector<float>& scale, int zero_point) {
    std::vector<std::string> inputs = {writer_.integers(name + ".codes", type, values, weights.dims),
                                       writer_.vector(name + ".scale", scale)};
    const std::vector<int32_t> zeros(scale.size(), zero_point);
    inputs.push_back(
        writer_.integers(name + ".zero_point", type, zeros, {static_cast<int64_t>(zeros.size())}));
    const std::string y = writer_.unique(name);
    writer_.add("DequantizeLinear", inputs, y, name + "/dequantize").set("axis", int64_t{weights.axis});
    return y;
  }

  /// The odd grid of 8 bits, -255 to 255, does not fit 8 bits around an integer zero point: w = 2 q + 1 with
  /// q in int8, so the weights are q at twice the scale, plus one scale.
  std::string halfway_weights(const std::string& name, const IntegerWeights& weights) {
    std::vector<int32_t> codes = weights.values;
    for (int32_t& value : codes) value = (value - 1) / 2;
    std::vector<float> twice = weights.scale;
    for (float& scale : twice) scale *= 2;
    const std::string even = dequantized(name + ".even", ElementType::kInt8, codes, weights, twice, 0);
    Dims step_dims(weights.dims.size(), 1);
    step_dims[static_cast<size_t>(weights.axis)] = weights.dims[static_cast<size_t>(weights.axis)];
    const std::string y = writer_.unique(name);
    writer_.add("Add", {even, writer_.floats(name + ".half_step", weights.scale, step_dims)}, y,
                name + "/add");
    return y;
  }

  ModelWriter& writer_;
};

}  // namespace

ExportSummary export_qdq(const program::Program& program, const std::filesystem::path& path, int opset) {
  check_opset(opset);
  ModelWriter writer(opset);
  QdqStyle style(writer);
  write_program(program, writer, style);
  return {writer.save(path), opset};
}

}  // namespace bitstrata::onnx
