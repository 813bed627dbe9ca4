#include "core/error.h"
#include "core/file.h"
#include "plan/json_fields.h"
#include "plan/plan.h"

namespace bitstrata::plan {

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
