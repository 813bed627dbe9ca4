#include "search/state_json.h"

#include "core/error.h"

namespace bitstrata::search {
namespace {

[[noreturn]] void refuse(const char* key, const char* expected) {
  fail(ErrorCode::kCorruptFile, "search state: key '{}' is missing or is not {}; start the search anew", key,
       expected);
}

const Json& member(const Json& state, const char* key) {
  const auto found = state.find(key);
  if (found == state.end()) refuse(key, "there");
  return *found;
}

const Json& list(const Json& state, const char* key, size_t count) {
  const Json& value = member(state, key);
  if (!value.is_array() || value.size() != count) refuse(key, fmt::format("a list of {}", count).c_str());
  return value;
}

std::vector<double> numbers(const Json& value, const char* key, size_t count) {
  if (!value.is_array() || value.size() != count)
    refuse(key, fmt::format("a list of {} numbers", count).c_str());
  std::vector<double> result;
  result.reserve(count);
  for (const Json& number : value) {
    if (!number.is_number()) refuse(key, "a list of numbers");
    result.push_back(number.get<double>());
  }
  return result;
}

int64_t integer(const Json& value, const char* key, int64_t least, int64_t most) {
  const bool fits =
      value.is_number_unsigned() ? value.get<uint64_t>() <= uint64_t{INT64_MAX} : value.is_number_integer();
  if (!fits || value.get<int64_t>() < least || value.get<int64_t>() > most)
    refuse(key, fmt::format("in {}..{}", least, most).c_str());
  return value.get<int64_t>();
}

}  // namespace

Json parse_state(const std::string& text, const char* method) {
  Json state = Json::parse(text, nullptr, false);
  if (!state.is_object())
    fail(ErrorCode::kCorruptFile, "search state of {}: not a JSON object; start the search anew", method);
  const auto name = state.find("method");
  if (name == state.end() || *name != method) {
    fail(ErrorCode::kCorruptFile, "search state: found method {}, expected {}; start the search anew",
         name == state.end() ? "none"
                             : printable(name->dump(-1, ' ', true, Json::error_handler_t::replace), 60),
         method);
  }
  return state;
}

int64_t read_integer(const Json& state, const char* key, int64_t least, int64_t most) {
  return integer(member(state, key), key, least, most);
}

bool read_flag(const Json& state, const char* key) {
  const Json& value = member(state, key);
  if (!value.is_boolean()) refuse(key, "true or false");
  return value.get<bool>();
}

double read_number(const Json& state, const char* key) {
  const Json& value = member(state, key);
  if (!value.is_number()) refuse(key, "a number");
  return value.get<double>();
}

std::vector<double> read_numbers(const Json& state, const char* key, size_t count) {
  return numbers(list(state, key, count), key, count);
}

Rows read_rows(const Json& state, const char* key, const Rows& like) {
  const Json& value = list(state, key, like.size());
  Rows rows;
  for (size_t i = 0; i < like.size(); ++i) rows.push_back(numbers(value[i], key, like[i].size()));
  return rows;
}

std::vector<size_t> read_indices(const Json& state, const char* key, const std::vector<size_t>& limits) {
  const Json& value = list(state, key, limits.size());
  std::vector<size_t> indices;
  for (size_t i = 0; i < limits.size(); ++i) {
    indices.push_back(static_cast<size_t>(integer(value[i], key, 0, static_cast<int64_t>(limits[i]) - 1)));
  }
  return indices;
}

}  // namespace bitstrata::search
