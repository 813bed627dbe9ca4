#include "compile/quantizers_json.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace bitstrata::compile {
namespace {

using Json = nlohmann::ordered_json;

Json to_value(const quant::CodeType& type) { return {{"bits", type.bits}, {"zero", type.zero}, {"scale", type.scale}}; }

/// The library itself would wrap large integers and cut fractions off.
int integer(const Json& json, const char* key, const std::string& where) {
  const Json& value = json.at(key);
  const bool fits = value.is_number_unsigned() ? value.get<uint64_t>() <= 255 : value.is_number_integer() && value.get<int64_t>() >= -255;
  if (!fits) {
    fail(ErrorCode::kBadInput, "{}: key '{}': found {}, expected an integer within -255 to 255", where, key, printable(value.dump(), 60));
  }
  return value.get<int>();
}

float number(const Json& value, const std::string& where) {
  const double limit = std::numeric_limits<float>::max();
  if (!value.is_number() || value < -limit || value > limit) {
    fail(ErrorCode::kBadInput, "{}: found {}, expected a float32 number", where, printable(value.dump(), 60));
  }
  return value.get<float>();
}

/// Loops over a value of another type would take it for a list of one.
const Json& typed(const Json& json, const char* key, Json::value_t type, const std::string& where) {
  const Json& value = json.at(key);
  if (value.type() != type) fail(ErrorCode::kBadInput, "{}: key '{}': found {}, which is not what belongs there", where, key, value.type_name());
  return value;
}

quant::CodeType code_type(const Json& json, const std::string& where) {
  const quant::CodeType type{integer(json, "bits", where), integer(json, "zero", where), number(json.at("scale"), where)};
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
    if (integer(json, "version", name) != 1) fail(ErrorCode::kUnsupported, "{}: written by a newer bitstrata", name);
    Quantizers result;
    for (const auto& [layer, value] : typed(json, "layers", Json::value_t::object, name).items()) {
      const std::string where = name + ": layer " + printable(layer);
      LayerQuantizer& read = result.layers[layer];
      for (const Json& param : typed(value, "weight_params", Json::value_t::array, where)) read.weight_params.push_back(number(param, where));
      read.input = code_type(value.at("input"), where);
    }
    for (const auto& [stream, value] : typed(json, "streams", Json::value_t::object, name).items()) result.streams[stream] = code_type(value, name + ": stream " + printable(stream));
    return result;
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorCode::kCorruptFile, "{}: not a quantizer file: {}", name, printable(error.what()));
  }
}

}  // namespace bitstrata::compile
