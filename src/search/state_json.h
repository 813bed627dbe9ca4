#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <vector>

/// Reading the states of methods: every helper throws kCorruptFile naming the key when it does not hold what
/// belongs there. For .cpp files of this module only. Doubles are written with as many digits as bring them
/// back exactly.
namespace bitstrata::search {

using Json = nlohmann::ordered_json;
using Rows = std::vector<std::vector<double>>;

/// The object in a state saved by `method`.
Json parse_state(const std::string& text, const char* method);

/// An integer in [least, most].
int64_t read_integer(const Json& state, const char* key, int64_t least, int64_t most);
bool read_flag(const Json& state, const char* key);
double read_number(const Json& state, const char* key);
std::vector<double> read_numbers(const Json& state, const char* key, size_t count);
/// Rows of the same lengths as those of `like`.
Rows read_rows(const Json& state, const char* key, const Rows& like);
/// Integers, each in [0, limits[i]).
std::vector<size_t> read_indices(const Json& state, const char* key, const std::vector<size_t>& limits);

}  // namespace bitstrata::search
