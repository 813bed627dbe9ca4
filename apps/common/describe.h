#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace bitstrata::cli {

/// One option or positional argument as the program defines it.
struct OptionDescription {
  std::vector<std::string> names;    ///< with dashes, long ones first; of a positional its own name
  std::string value;                 ///< what stands for its value in help, as "FILE"; empty for flags
  std::vector<std::string> choices;  ///< all values that it takes; empty: any
  std::string text, default_value, group;
  bool is_positional = false, is_required = false, may_repeat = false;

  bool is_flag() const noexcept { return value.empty(); }
};

/// One subcommand.
struct CommandDescription {
  std::string name, text;
  std::string notes;                       ///< what stands below the options, less the examples
  std::vector<std::string> examples;       ///< whole command lines
  std::vector<OptionDescription> options;  ///< without --help; positional ones first
};

/// All subcommands of a program that have options, in its order; hidden ones left out.
std::vector<CommandDescription> describe_commands(const CLI::App& app);

/// As JSON and back. kInternal for JSON that to_json does not write.
nlohmann::ordered_json to_json(const std::vector<CommandDescription>& commands);
std::vector<CommandDescription> commands_from_json(const std::string& text);

/// Adds the hidden subcommand `describe`: to_json(describe_commands(app)) on stdout.
void add_describe(CLI::App& app);

}  // namespace bitstrata::cli
