#pragma once

#include <stdexcept>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace bitstrata::cli {

/// Wrong usage with more than one cause, each a line of its own.
class UsageErrors : public std::runtime_error {
 public:
  explicit UsageErrors(std::vector<std::string> lines)
      : std::runtime_error("several errors"), lines_(std::move(lines)) {}
  const std::vector<std::string>& lines() const noexcept { return lines_; }

 private:
  std::vector<std::string> lines_;
};

/// Adds --config to every subcommand with more than a few options.
void add_config_options(CLI::App& app);

/// The arguments (without the program's name) after those that the file of --config stands for: a flat YAML
/// map from the subcommand's long options, without dashes, to a scalar, a list of scalars, or true and false
/// for flags. An option that is among `arguments` already is left out, so that the command line wins. Without
/// --config, `arguments` as they are. Every key that is unknown, given twice or of the wrong type is one line
/// of a UsageErrors, with file and line number. kIo and kBadInput for a file that cannot be read, is no YAML
/// or is larger than 64 KiB.
std::vector<std::string> with_config_file(CLI::App& app, std::vector<std::string> arguments);

}  // namespace bitstrata::cli
