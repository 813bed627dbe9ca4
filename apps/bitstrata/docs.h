#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "common/describe.h"

/// Documents that follow from the program's own definitions, all plain ASCII.
namespace bitstrata::cli {

/// A file to write below a folder.
struct Document {
  std::filesystem::path name;
  std::string text;
};

/// Man pages of section 1: bitstrata.1 and one per command.
std::vector<Document> man_pages(const std::vector<CommandDescription>& commands);
/// The command line reference, cli.md.
Document markdown_reference(const std::vector<CommandDescription>& commands);
/// Completions under the names that each shell looks for: bitstrata, _bitstrata, bitstrata.fish.
Document bash_completion(const std::vector<CommandDescription>& commands);
Document zsh_completion(const std::vector<CommandDescription>& commands);
Document fish_completion(const std::vector<CommandDescription>& commands);

/// "MODEL", or "INPUT..." where it may repeat, in brackets where it may be left out.
std::string synopsis_word(const OptionDescription& positional);
/// The text of an option with the values that it takes and its default: "How ... (one of a, b; default a)".
std::string full_text(const OptionDescription& option);

/// What completes a value.
enum class ValueKind { kWord, kChoice, kFile, kFolder, kData };
ValueKind value_kind(const OptionDescription& option);

/// The options of a command and of the one that it passes others on to, positional ones left out.
std::vector<OptionDescription> all_options(const CommandDescription& command,
                                           const std::vector<CommandDescription>& commands);

}  // namespace bitstrata::cli
