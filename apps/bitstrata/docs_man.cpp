#include <algorithm>

#include "common/main.h"
#include "core/error.h"
#include "docs.h"
#include "docs_text.h"

namespace bitstrata::cli {
namespace {

/// Text that roff prints as it is.
std::string escaped(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
  }
  if (!out.empty() && (out.front() == '.' || out.front() == '\'')) out.insert(0, "\\&");
  return out;
}

std::string bold(std::string_view text) {
  return "\\fB" + escaped(text) + "\\fR";
}
std::string italic(std::string_view text) {
  return "\\fI" + escaped(text) + "\\fR";
}

std::string header(const std::string& name, std::string_view text) {
  std::string title = name;
  std::ranges::transform(title, title.begin(),
                         [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return fmt::format(".TH {} 1 \"\" \"bitstrata {}\" \"User Commands\"\n.SH NAME\n{} \\- {}\n",
                     escaped(title), version(), escaped(name), escaped(text));
}

std::string entry(const std::string& tag, std::string_view text) {
  return fmt::format(".TP\n{}\n{}\n", tag, escaped(text));
}

std::string option_tag(const OptionDescription& option) {
  std::string tag;
  for (const std::string& name : option.names) tag += (tag.empty() ? "" : ", ") + bold(name);
  return option.is_flag() ? tag : tag + " " + italic(option.value);
}

std::string exit_statuses() {
  std::string text = ".SH EXIT STATUS\n";
  for (const ExitStatus& each : kExitStatuses) text += entry(bold(std::to_string(each.status)), each.text);
  return text;
}

Document command_page(const CommandDescription& command) {
  const std::string name = "bitstrata-" + command.name;
  std::string text = header(name, command.text);
  text += ".SH SYNOPSIS\n" + bold("bitstrata " + command.name);
  for (const OptionDescription& option : command.options) {
    if (option.is_positional) text += fmt::format(" {}", italic(synopsis_word(option)));
  }
  text += " [" + italic("OPTION") + "]...\n.SH DESCRIPTION\n" + escaped(command.text) + ".\n";
  if (!command.notes.empty()) text += ".PP\n" + escaped(command.notes) + "\n";
  for (const OptionDescription& option : command.options) {
    if (option.is_positional) text += entry(italic(synopsis_word(option)), full_text(option));
  }
  std::string group;
  for (const OptionDescription& option : command.options) {
    if (option.is_positional) continue;
    if (option.group != group) {
      std::string title = group = option.group;
      std::ranges::transform(title, title.begin(),
                             [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
      text += (group == "Options" ? ".SH OPTIONS\n" : fmt::format(".SH {} OPTIONS\n", escaped(title)));
    }
    text += entry(option_tag(option), full_text(option));
  }
  text += ".SH EXAMPLES\n.EX\n";
  for (const std::string& example : command.examples) text += escaped(example) + "\n";
  text += ".EE\n" + exit_statuses() + ".SH SEE ALSO\n.BR bitstrata (1)\n";
  return {name + ".1", text};
}

Document overview(const std::vector<CommandDescription>& commands) {
  std::string text = header("bitstrata", "learned low-bit networks, trained, packed and run on CPUs");
  text += ".SH SYNOPSIS\n" + bold("bitstrata") + " " + italic("COMMAND") + " [" + italic("OPTION") + "]...\n";
  text += ".SH DESCRIPTION\n" + escaped(kAbout) + "\n.PP\n" + escaped(kStreams) + " " + escaped(kInterrupts) +
          "\n.PP\n" + escaped(kConfig) + "\n.SH COMMANDS\n";
  for (const CommandDescription& command : commands) text += entry(bold(command.name), command.text);
  text += exit_statuses() + ".SH ENVIRONMENT\n";
  for (const Variable& variable : kEnvironment) text += entry(bold(variable.name), variable.text);
  text += ".SH SEE ALSO\n";
  for (size_t i = 0; i < commands.size(); ++i) {
    text += fmt::format(".BR bitstrata\\-{} (1){}\n", escaped(commands[i].name),
                        i + 1 < commands.size() ? "," : "");
  }
  return {"bitstrata.1", text};
}

}  // namespace

std::vector<Document> man_pages(const std::vector<CommandDescription>& commands) {
  std::vector<Document> pages{overview(commands)};
  for (const CommandDescription& command : commands) pages.push_back(command_page(command));
  return pages;
}

}  // namespace bitstrata::cli
