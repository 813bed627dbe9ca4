#include "core/error.h"
#include "docs.h"
#include "docs_text.h"

namespace bitstrata::cli {
namespace {

std::string cell(std::string_view text) {
  std::string out;
  for (char c : text)
    out += c == '|' ? std::string("\\|") : c == '<' ? std::string("&lt;") : std::string(1, c);
  return out;
}

std::string table_row(const std::string& code, std::string_view text) {
  return fmt::format("| `{}` | {} |\n", cell(code), cell(text));
}

std::string option_words(const OptionDescription& option) {
  const std::string names = fmt::format("{}", fmt::join(option.names, ", "));
  return option.is_flag() ? names : names + " " + option.value;
}

std::string section(const CommandDescription& command) {
  std::string usage = "bitstrata " + command.name;
  for (const OptionDescription& option : command.options) {
    if (option.is_positional) usage += fmt::format(" {}", synopsis_word(option));
  }
  std::string text =
      fmt::format("\n## {}\n\n{}.\n\n```text\n{} [OPTION]...\n```\n", command.name, command.text, usage);
  std::string group;
  for (const OptionDescription& option : command.options) {
    const std::string now = option.is_positional ? "Arguments" : option.group;
    if (now != group) text += fmt::format("\n| {} | |\n|---|---|\n", now);
    group = now;
    text += table_row(option.is_positional ? synopsis_word(option) : option_words(option), full_text(option));
  }
  if (!command.notes.empty()) text += "\n" + command.notes + "\n";
  text += "\n```sh\n";
  for (const std::string& example : command.examples) text += example + "\n";
  return text + "```\n";
}

}  // namespace

Document markdown_reference(const std::vector<CommandDescription>& commands) {
  std::string text = fmt::format(
      "# Command line\n\nMade by `bitstrata docs --format markdown --out docs`: change the program, not this "
      "file.\n\n{}\n{}\n\n"
      "{}\n\nThe same is in the man pages and in `bitstrata COMMAND --help`.\n",
      kStreams, kInterrupts, kConfig);
  text += "\n| command | |\n|---|---|\n";
  for (const CommandDescription& command : commands)
    text += fmt::format("| [`{0}`](#{0}) | {1} |\n", command.name, command.text);
  text += "\n| exit status | |\n|---|---|\n";
  for (const ExitStatus& each : kExitStatuses) text += fmt::format("| {} | {} |\n", each.status, each.text);
  text += "\n| environment | |\n|---|---|\n";
  for (const Variable& variable : kEnvironment) text += table_row(std::string(variable.name), variable.text);
  for (const CommandDescription& command : commands) text += section(command);
  return {"cli.md", text};
}

}  // namespace bitstrata::cli
