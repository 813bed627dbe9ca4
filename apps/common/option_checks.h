#pragma once

#include <CLI/CLI.hpp>
#include <cmath>
#include <concepts>
#include <string>
#include <vector>

#include "core/error.h"

namespace bitstrata::cli {

/// A check for an option's words: they must be such that `parse` takes them; what its Error says is the
/// message.
inline CLI::Validator parsed_by(std::invocable<const std::string&> auto parse) {
  return CLI::Validator(
      [parse](std::string& word) -> std::string {
        try {
          parse(word);
          return "";
        } catch (const Error& error) {
          const std::string message = error.what();  // CLI11 names the option itself
          return message.starts_with("--") ? message.substr(message.find(' ') + 1) : message;
        }
      },
      "");
}

/// A check for real-valued options: finite numbers for which `allowed` holds. CLI11's own ranges let nan
/// pass.
inline CLI::Validator finite_number(std::predicate<double> auto allowed, const std::string& expected) {
  return CLI::Validator(
      [allowed, expected](std::string& word) -> std::string {
        double value = 0;
        if (CLI::detail::lexical_cast(word, value) && std::isfinite(value) && allowed(value)) return "";
        return "found " + word + ", expected " + expected;
      },
      "");
}
inline CLI::Validator positive_number() {
  return finite_number([](double value) { return value > 0; }, "a number above 0");
}
inline CLI::Validator non_negative_number() {
  return finite_number([](double value) { return value >= 0; }, "a number of at least 0");
}
/// Both ends included.
inline CLI::Validator number_between(double least, double most) {
  return finite_number(
      [least, most](double value) { return value >= least && value <= most; },
      "a number from " + CLI::detail::to_string(least) + " to " + CLI::detail::to_string(most));
}

/// The names of all enumerators, by their to_string.
template <typename Range>
std::vector<std::string> names_of(const Range& enumerators) {
  std::vector<std::string> names;
  for (const auto& each : enumerators) names.emplace_back(to_string(each));
  return names;
}

/// "Examples:" and one line each, for the end of --help.
inline std::string examples(const std::vector<std::string>& commands) {
  std::string text = "Examples:";
  for (const std::string& command : commands) text += "\n  " + command;
  return text;
}

}  // namespace bitstrata::cli
