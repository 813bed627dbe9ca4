#include "report_fields.h"

#include "core/error.h"
#include "core/file.h"

namespace bitstrata::cli {

std::optional<Json> read_json_file(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  try {
    return Json::parse(read_text_file(path));
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorCode::kCorruptFile, "{}: not valid JSON: {}; delete it, or run the job again", path.string(),
         printable(error.what()));
  }
}

Fields::Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
  if (!object.is_object())
    fail(ErrorCode::kBadInput, "{}: found {}, expected an object; run the job again", where_,
         object.type_name());
}

void Fields::mismatch(const char* key, const char* expected) const {
  const auto found = object_.find(key);
  fail(ErrorCode::kBadInput, "{}: key '{}': found {}, expected {}; run the job again", where_, key,
       found == object_.end() ? "nothing"
                              : printable(found->dump(-1, ' ', true, Json::error_handler_t::replace), 60),
       expected);
}

const Json& Fields::at(const char* key) const {
  const auto found = object_.find(key);
  if (found == object_.end()) mismatch(key, "a value");
  return *found;
}

double Fields::number(const char* key) const {
  const auto found = object_.find(key);
  if (found == object_.end() || !found->is_number()) mismatch(key, "a number");
  return found->get<double>();
}

std::string Fields::text(const char* key) const {
  const auto found = object_.find(key);
  if (found == object_.end() || !found->is_string()) mismatch(key, "a text");
  return found->get<std::string>();
}

const Json& Fields::list(const char* key) const {
  const auto found = object_.find(key);
  if (found == object_.end() || !found->is_array()) mismatch(key, "a list");
  return *found;
}

void Fields::copy_numbers(Json& out, std::initializer_list<const char*> keys,
                          std::initializer_list<const char*> optional) const {
  for (const char* key : keys) out[key] = number(key);
  for (const char* key : optional) {
    if (has(key)) out[key] = number(key);
  }
}

}  // namespace bitstrata::cli
