#include "docs.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>

#include "commands.h"
#include "common/commands.h"
#include "core/error.h"
#include "core/file.h"

namespace bitstrata::cli {
namespace {

/// Standard output of `bitstrata-train describe`; empty when that program is not there.
std::string description_of_training() {
  const std::filesystem::path program = training_executable();
  if (program.empty()) return "";
  std::string quoted = "'";
  for (char c : program.string()) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  FILE* pipe = popen((quoted + "' describe").c_str(), "r");
  if (pipe == nullptr) fail(ErrorCode::kIo, "{} cannot be started", program.string());
  std::string text;
  char buffer[4096];
  for (size_t n = 0; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) text.append(buffer, n);
  if (pclose(pipe) != 0) fail(ErrorCode::kInternal, "{} describe has failed", program.string());
  return text;
}

std::vector<CommandDescription> every_command(const CLI::App& app) {
  std::vector<CommandDescription> commands;
  if (const std::string text = description_of_training(); !text.empty()) commands = commands_from_json(text);
  const std::vector<CommandDescription> light = describe_commands(app);
  // This program's own command goes before one of the same name that it hands over to.
  std::erase_if(commands, [&](const CommandDescription& command) {
    return std::ranges::find(light, command.name, &CommandDescription::name) != light.end();
  });
  commands.insert(commands.end(), light.begin(), light.end());
  return commands;
}

std::vector<Document> documents(const std::string& format, const std::vector<CommandDescription>& commands) {
  if (format == "man") return man_pages(commands);
  if (format == "markdown") return {markdown_reference(commands)};
  if (format == "bash") return {bash_completion(commands)};
  if (format == "zsh") return {zsh_completion(commands)};
  return {fish_completion(commands)};
}

}  // namespace

std::string synopsis_word(const OptionDescription& positional) {
  std::string word = positional.value.empty() ? positional.names.front() : positional.value;
  if (positional.may_repeat) word += "...";
  return positional.is_required ? word : fmt::format("[{}]", word);
}

std::string full_text(const OptionDescription& option) {
  std::vector<std::string> more;
  if (!option.choices.empty()) more.push_back(fmt::format("one of {}", fmt::join(option.choices, ", ")));
  if (!option.default_value.empty()) more.push_back("default " + option.default_value);
  if (option.is_required && !option.is_positional) more.push_back("required");
  return more.empty() ? option.text : fmt::format("{} ({})", option.text, fmt::join(more, "; "));
}

ValueKind value_kind(const OptionDescription& option) {
  if (!option.choices.empty()) return ValueKind::kChoice;
  if (option.value == "DATA") return ValueKind::kData;
  if (option.value == "DIR") return ValueKind::kFolder;
  const bool is_file = option.value.starts_with("FILE") || option.value.find("MODEL") != std::string::npos ||
                       option.value == "INPUT" || option.value == "NETWORK";
  return is_file ? ValueKind::kFile : ValueKind::kWord;
}

std::vector<OptionDescription> all_options(const CommandDescription& command,
                                           const std::vector<CommandDescription>& commands) {
  std::vector<OptionDescription> options;
  const auto add = [&](const CommandDescription& from) {
    for (const OptionDescription& option : from.options) {
      const bool is_known =
          std::ranges::any_of(options, [&](const auto& o) { return o.names == option.names; });
      if (!option.is_positional && !is_known) options.push_back(option);
    }
  };
  add(command);
  const std::string other = passes_options_on_to(command.name);
  const auto found = std::ranges::find(commands, other, &CommandDescription::name);
  if (found != commands.end()) add(*found);
  return options;
}

void add_docs(CLI::App& app) {
  struct Options {
    std::vector<std::string> formats;
    std::string out;
  };
  auto options = std::make_shared<Options>();
  CLI::App& command =
      *app.add_subcommand("docs", "Write man pages, the command line reference or shell completions")
           ->group("");
  command.add_option("--format", options->formats, "What to write")
      ->check(CLI::IsMember({"man", "markdown", "bash", "zsh", "fish"}))
      ->delimiter(',')
      ->required();
  command.add_option("--out", options->out, "Folder for the files")->type_name("DIR")->required();
  command.callback([options, &app] {
    const std::vector<CommandDescription> commands = every_command(app);
    make_folders(options->out);
    for (const std::string& format : options->formats) {
      for (const Document& document : documents(format, commands))
        write_file_atomically(options->out / document.name, std::string_view(document.text));
    }
  });
}

}  // namespace bitstrata::cli
