#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace bitstrata::cli {

using Json = nlohmann::ordered_json;

/// A file of a job as JSON: nothing when it is absent, kCorruptFile when it is not JSON.
std::optional<Json> read_json_file(const std::filesystem::path& path);

/// Reads the fields of one JSON object of a job's file. Every mismatch is kBadInput naming `where` and the
/// key.
class Fields {
 public:
  /// Both must outlive the reader.
  Fields(const Json& object, std::string where);

  double number(const char* key) const;
  std::string text(const char* key) const;
  /// Elements of a list.
  const Json& list(const char* key) const;
  bool has(const char* key) const { return object_.contains(key) && !object_.at(key).is_null(); }
  const Json& at(const char* key) const;
  const std::string& where() const noexcept { return where_; }

  /// Copies numbers to `out` under the same keys; those of `optional` only where they are present.
  void copy_numbers(Json& out, std::initializer_list<const char*> keys,
                    std::initializer_list<const char*> optional = {}) const;

 private:
  [[noreturn]] void mismatch(const char* key, const char* expected) const;

  const Json& object_;
  std::string where_;
};

}  // namespace bitstrata::cli
