#pragma once

#include <CLI/CLI.hpp>
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
