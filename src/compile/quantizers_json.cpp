#include "compile/quantizers_json.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace bitstrata::compile {
namespace {

using Json = nlohmann::ordered_json;

Json to_value(const quant::CodeType& type) { return {{"bits", type.bits}, {"zero", type.zero}, {"scale", type.scale}}; }

quant::CodeType code_type(const Json& json, const std::string& where) {
  const quant::CodeType type{json.at("bits").get<int>(), json.at("zero").get<int>(), json.at("scale").get<float>()};
  const bool fits = type.bits >= 1 && type.bits <= 8 && type.zero <= 0 && type.zero >= -type.max_code() && std::isfinite(type.scale) && type.scale > 0;
  if (!fits) fail(ErrorCode::kBadInput, "{}: found bits {}, zero {}, scale {}, which is no code type", where, type.bits, type.zero, type.scale);
  return type;
}

}  // namespace

std::string to_json(const Quantizers& quantizers) {
  Json out{{"version", 1}, {"layers", Json::object()}, {"streams", Json::object()}};
  for (const auto& [name, layer] : quantizers.layers) {
    out["layers"][name] = {{"input", to_value(layer.input)}, {"weight_params", layer.weight_params}};
  }
  for (const auto& [name, type] : quantizers.streams) out["streams"][name] = to_value(type);
  return out.dump(1) + "\n";
}

Quantizers quantizers_from_json(const std::string& text, const std::string& name) {
  try {
    const Json json = Json::parse(text);
    if (json.at("version").get<int>() != 1) fail(ErrorCode::kUnsupported, "{}: written by a newer bitstrata", name);
    Quantizers result;
    for (const auto& [layer, value] : json.at("layers").items()) {
      result.layers[layer] = {value.at("weight_params").get<std::vector<float>>(), code_type(value.at("input"), name + ": layer " + printable(layer))};
    }
    for (const auto& [stream, value] : json.at("streams").items()) result.streams[stream] = code_type(value, name + ": stream " + printable(stream));
    return result;
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorCode::kCorruptFile, "{}: not a quantizer file: {}", name, printable(error.what()));
  }
}

}  // namespace bitstrata::compile
