#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "plan/plan.h"

namespace bitstrata::plan {
namespace {

using Json = nlohmann::ordered_json;

/// Reads fields of one JSON object, remembering which were asked for, so that a misspelt key is an error and not silently ignored.
class Fields {
 public:
  Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) fail(ErrorCode::kBadInput, "{}: found {}, expected an object", where_, object.type_name());
  }

  template <typename T>
  T get(const char* key) {
    seen_.insert(key);
    const auto found = object_.find(key);
    if (found == object_.end()) fail(ErrorCode::kBadInput, "{}: key '{}' is missing", where_, key);
    return typed<T>(*found, key);
  }

  template <typename T>
  T get(const char* key, T fallback) {
    seen_.insert(key);
    const auto found = object_.find(key);
    return found == object_.end() ? fallback : typed<T>(*found, key);
  }

  const Json& array(const char* key) {
    seen_.insert(key);
    const auto found = object_.find(key);
    if (found == object_.end() || !found->is_array()) fail(ErrorCode::kBadInput, "{}: key '{}' must be a list", where_, key);
    return *found;
  }

  /// Key that is documented output only.
  void skip(const char* key) { seen_.insert(key); }

  void finish() const {
    for (const auto& [key, value] : object_.items()) {
      if (!seen_.contains(key)) fail(ErrorCode::kBadInput, "{}: unknown key '{}'", where_, printable(key));
    }
  }

 private:
  template <typename T>
  T typed(const Json& value, const char* key) const {
    bool fits = false;
    if constexpr (std::is_same_v<T, bool>) fits = value.is_boolean();
    else if constexpr (std::is_integral_v<T>) fits = is_small_integer(value);
    else if constexpr (std::is_floating_point_v<T>) fits = value.is_number();
    else if constexpr (std::is_same_v<T, quant::Policy>) fits = value.is_string() && is_policy(value.get<std::string>());
    else fits = value.is_string();
    if (!fits) fail(ErrorCode::kBadInput, "{}: key '{}': found {}, which is not what belongs there", where_, key, printable(value.dump(), 60));
    if constexpr (std::is_same_v<T, quant::Policy>) return quant::parse_policy(value.get<std::string>());
    else return value.get<T>();
  }

  /// An unsigned number would compare as if it were signed.
  static bool is_small_integer(const Json& value) {
    constexpr int64_t limit = 1000000;
    if (value.is_number_unsigned()) return value.get<uint64_t>() <= uint64_t{limit};
    return value.is_number_integer() && value.get<int64_t>() >= -limit && value.get<int64_t>() <= limit;
  }

  static bool is_policy(const std::string& name) {
    return std::any_of(std::begin(quant::kAllPolicies), std::end(quant::kAllPolicies),
                       [&](quant::Policy policy) { return name == quant::to_string(policy); });
  }

  const Json& object_;
  std::string where_;
  std::set<std::string> seen_;
};

}  // namespace

std::string to_json(const Plan& plan, const Figures& sum) {
  Json out;
  out["version"] = 1;
  out["method"] = plan.method;
  out["targets"] = plan.targets;
  out["layers"] = Json::array();
  for (const LayerPlan& layer : plan.layers) {
    out["layers"].push_back({{"name", layer.name},
                             {"weight_bits", layer.weight_bits},
                             {"activation_bits", layer.activation_bits},
                             {"policy", quant::to_string(layer.policy)},
                             {"per_channel", layer.per_channel}});
  }
  out["streams"] = Json::array();
  for (const StreamPlan& stream : plan.streams) out["streams"].push_back({{"value", stream.value}, {"bits", stream.bits}});
  if (!plan.sensitivity.empty()) out["sensitivity"] = plan.sensitivity;
  out["figures"] = {{"weights", sum.weights},
                    {"weight_bytes", sum.weight_bytes},
                    {"compression", sum.compression},
                    {"avg_weight_bits", sum.avg_weight_bits},
                    {"avg_activation_bits", sum.avg_activation_bits},
                    {"bitops", sum.bitops}};
  // One line per layer and stream: short, and a changed width is a one-line difference.
  std::string text = out.dump(2);
  std::string compact;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool inner = text.compare(i, 7, "\n      ") == 0 || (text.compare(i, 6, "\n    }") == 0);
    if (inner) {
      compact += ' ';
      while (i + 1 < text.size() && text[i + 1] == ' ') ++i;
    } else {
      compact += text[i];
    }
  }
  return compact + "\n";
}

Plan from_json(const std::string& text, const std::string& name) {
  Json json;
  try {
    json = Json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorCode::kCorruptFile, "{}: not valid JSON: {}", name, printable(error.what()));
  }
  Plan plan;
  Fields top(json, name);
  const int version = top.get<int>("version");
  if (version != 1) fail(ErrorCode::kUnsupported, "{}: found plan version {}, expected 1; use a newer bitstrata", name, version);
  plan.method = top.get<std::string>("method", "manual");
  for (const Json& layer : top.array("layers")) {
    Fields fields(layer, fmt::format("{}: layer {}", name, plan.layers.size()));
    LayerPlan& read = plan.layers.emplace_back();
    read.name = fields.get<std::string>("name");
    read.weight_bits = fields.get<int>("weight_bits");
    read.activation_bits = fields.get<int>("activation_bits");
    read.policy = fields.get<quant::Policy>("policy");
    read.per_channel = fields.get<bool>("per_channel", false);
    fields.finish();
  }
  for (const Json& stream : top.array("streams")) {
    Fields fields(stream, fmt::format("{}: stream {}", name, plan.streams.size()));
    StreamPlan& read = plan.streams.emplace_back();
    read.value = fields.get<std::string>("value");
    read.bits = fields.get<int>("bits");
    fields.finish();
  }
  if (json.contains("targets")) {
    for (const Json& target : top.array("targets")) {
      if (!target.is_string()) fail(ErrorCode::kBadInput, "{}: targets must be strings", name);
      plan.targets.push_back(target.get<std::string>());
    }
  }
  if (json.contains("sensitivity")) {
    top.skip("sensitivity");
    Fields values(json["sensitivity"], name + ": sensitivity");
    for (const auto& [key, value] : json["sensitivity"].items()) plan.sensitivity[key] = values.get<double>(key.c_str());
  }
  top.skip("figures");
  top.finish();
  return plan;
}

Plan read_plan(const std::filesystem::path& path) {
  try {
    return from_json(read_text_file(path), path.string());
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorCode::kCorruptFile, "{}: {}", path.string(), printable(error.what()));
  }
}

}  // namespace bitstrata::plan
