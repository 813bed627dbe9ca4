#pragma once

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "core/error.h"
#include "quant/policy.h"

/// Strict reading of JSON objects; for the sources of this module only.
namespace bitstrata::plan {

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

  const Json& object(const char* key) {
    seen_.insert(key);
    const auto found = object_.find(key);
    if (found == object_.end()) fail(ErrorCode::kBadInput, "{}: key '{}' is missing", where_, key);
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

}  // namespace bitstrata::plan
