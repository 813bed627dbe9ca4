#include <cmath>

#include "core/error.h"
#include "report_data.h"
#include "report_fields.h"

namespace bitstrata::cli {
namespace {

/// Means over the finished runs of a row, and the sample deviation of accuracy as compare has computed it.
Json row_of(const Fields& row) {
  constexpr const char* kNeeded[] = {"accuracy",        "float_accuracy",      "weight_bytes", "compression",
                                     "avg_weight_bits", "avg_activation_bits", "bitops"};
  constexpr const char* kOptional[] = {"search_seconds", "seconds", "peak_mib"};
  Json out{{"name", row.text("name")}, {"options", Json::array()}, {"runs", 0}, {"failed", 0}};
  for (const Json& word : row.list("options")) {
    if (word.is_string()) out["options"].push_back(word);
  }
  int finished = 0, failed = 0;
  Json sums = Json::object();
  for (const Json& element : row.list("runs")) {
    const Fields run(element, row.where() + ": run");
    failed += run.number("status") != 0;
    if (!run.has("run")) continue;
    ++finished;
    const Fields summary(run.at("run"), row.where() + ": run.json");
    const auto add = [&](const char* key) { sums[key] = sums.value(key, 0.0) + summary.number(key); };
    for (const char* key : kNeeded) add(key);
    for (const char* key : kOptional) {
      if (summary.has(key)) add(key);
    }
  }
  out["runs"] = finished;
  out["failed"] = failed;
  for (const auto& [key, sum] : sums.items()) out[key] = sum.get<double>() / finished;
  if (finished > 1) out["accuracy_deviation"] = row.number("accuracy_deviation");
  return out;
}

/// The row of compare whose folder, NAME-SEED, this is.
bool is_folder_of(const std::string& row, const std::string& folder) {
  return folder.size() > row.size() + 1 && folder.starts_with(row + "-") &&
         folder.find_first_not_of("0123456789", row.size() + 1) == std::string::npos;
}

}  // namespace

Json read_comparison(const std::filesystem::path& folder) {
  const auto absolute = std::filesystem::weakly_canonical(folder);
  auto path = absolute / "compare.json";
  const bool inside = !std::filesystem::exists(path);
  if (inside) path = absolute.parent_path() / "compare.json";
  const auto file = read_json_file(path);
  if (!file) return nullptr;
  const Fields fields(*file, path.string());
  Json out{{"seeds", fields.list("seeds")}, {"options", Json::array()}, {"rows", Json::array()}};
  for (const char* key : {"model", "cpu", "version"}) {
    if (fields.has(key)) out[key] = fields.text(key);
  }
  for (const Json& word : fields.list("options")) {
    if (word.is_string()) out["options"].push_back(word);
  }
  for (const Json& element : fields.list("rows")) {
    Json row = row_of(Fields(element, fmt::format("{}: row {}", path.string(), out["rows"].size())));
    row["this"] = inside && is_folder_of(row["name"].get<std::string>(), absolute.filename().string());
    out["rows"].push_back(row);
  }
  out["command"] = comparing_command(out, path.parent_path().string());
  return out;
}

}  // namespace bitstrata::cli
