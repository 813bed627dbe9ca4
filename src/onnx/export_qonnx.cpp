#include "onnx/export_qonnx.h"

#include <algorithm>

#include "onnx/export_program.h"

namespace bitstrata::onnx {
namespace {

constexpr const char* kDomain = "qonnx.custom_op.general";

class QonnxStyle : public CodeStyle {
 public:
  explicit QonnxStyle(ModelWriter& writer) : writer_(writer) {}

  bool prefers_gemm() const override { return false; }

  std::string round(const std::string& name, const std::string& x, const quant::CodeType& code,
                    bool on_grid) override {
    if (on_grid) return x;
    const bool is_signed_range = code.bits > 1 && code.zero == -(1 << (code.bits - 1));
    Quant quant;
    quant.bits = code.bits;
    quant.is_signed = is_signed_range;
    quant.zero_point = is_signed_range ? 0 : -code.zero;
    const std::string y = writer_.unique(name);
    add(name, x, y, writer_.scalar(name + ".scale", code.scale), quant);
    return y;
  }

  std::string weights(const std::string& name, const IntegerWeights& weights) override {
    const std::string y = writer_.unique(name),
                      values = writer_.floats(name + ".values", real(weights), weights.dims);
    Dims scale_dims(weights.dims.size(), 1);
    scale_dims[static_cast<size_t>(weights.axis)] = weights.dims[static_cast<size_t>(weights.axis)];
    const std::string scale = writer_.floats(name + ".scale", weights.scale, scale_dims);
    if (weights.bits == 1 && weights.grid.mul == 2) {
      writer_.add("BipolarQuant", {values, scale}, y, name + "/quant").domain(kDomain);
    } else {
      add(name, values, y, scale, weight_quant(weights));
    }
    return y;
  }

 private:
  struct Quant {
    int bits = 8;
    bool is_signed = true, is_narrow = false;
    int zero_point = 0;
  };

  static Quant weight_quant(const IntegerWeights& weights) {
    Quant quant;
    const int high = std::ranges::max(weights.values);
    // Without zero level and with steps of 2, the odd grid reaches as far as narrow integers of one bit more.
    quant.bits = weights.grid.mul == 2 ? weights.bits + 1 : weights.bits;
    // The symmetric grid has one code more than narrow integers, which quantization never yields.
    if (high >= (1 << (quant.bits - 1))) ++quant.bits;
    quant.is_narrow = weights.grid.offset != -(1 << (weights.bits - 1));
    return quant;
  }

  static std::vector<float> real(const IntegerWeights& weights) {
    const auto channels = static_cast<size_t>(weights.dims[static_cast<size_t>(weights.axis)]);
    size_t inner = 1;
    for (size_t i = static_cast<size_t>(weights.axis) + 1; i < weights.dims.size(); ++i)
      inner *= static_cast<size_t>(weights.dims[i]);
    std::vector<float> values(weights.values.size());
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<float>(weights.values[i]) * weights.scale[i / inner % channels];
    return values;
  }

  void add(const std::string& name, const std::string& x, const std::string& y, const std::string& scale,
           const Quant& quant) {
    writer_
        .add("Quant",
             {x, scale, writer_.scalar(name + ".zero_point", static_cast<float>(quant.zero_point)),
              writer_.scalar(name + ".bits", static_cast<float>(quant.bits))},
             y, name + "/quant")
        .domain(kDomain)
        .set("signed", int64_t{quant.is_signed})
        .set("narrow", int64_t{quant.is_narrow})
        .set("rounding_mode", std::string("ROUND"));
  }

  ModelWriter& writer_;
};

}  // namespace

ExportSummary export_qonnx(const program::Program& program, const std::filesystem::path& path, int opset) {
  check_opset(opset);
  ModelWriter writer(opset);
  writer.import_domain(kDomain, 1);
  QonnxStyle style(writer);
  write_program(program, writer, style);
  return {writer.save(path), opset};
}

}  // namespace bitstrata::onnx
