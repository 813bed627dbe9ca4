#pragma once

#include <span>
#include <string>
#include <string_view>

namespace bitstrata::cli {

/// A subcommand of `bitstrata` that the executable bitstrata-train implements, because it needs LibTorch or
/// belongs to such a job.
struct TrainCommand {
  const char* name;
  const char* description;  ///< one line for --help
  bool is_shared = false;   ///< the light executable has this command too, and hands over what it cannot do
};

/// All of them, in the order of the help text.
std::span<const TrainCommand> train_commands() noexcept;

/// The description of one of them. kInternal for another name.
std::string train_command_description(std::string_view name);

/// The command to which `command` passes the options that it does not know itself; empty for none.
std::string passes_options_on_to(std::string_view command);

}  // namespace bitstrata::cli
