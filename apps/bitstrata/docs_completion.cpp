#include "core/error.h"
#include "docs.h"

namespace bitstrata::cli {
namespace {

constexpr const char* kDataForms = "digits cifar10: folder: idx: npy:";

/// In single quotes of any of the shells.
std::string quoted(std::string_view text, std::string_view quote) {
  std::string out = "'";
  for (char c : text) out += c == '\'' ? std::string(quote) : std::string(1, c);
  return out + "'";
}

std::string option_names(const std::vector<OptionDescription>& options) {
  std::string names = "--help";
  for (const OptionDescription& option : options) names += fmt::format(" {}", fmt::join(option.names, " "));
  return names;
}

std::string bash_value(const OptionDescription& option) {
  switch (value_kind(option)) {
    case ValueKind::kChoice:
      return fmt::format("COMPREPLY=($(compgen -W '{}' -- \"$cur\"))", fmt::join(option.choices, " "));
    case ValueKind::kFile:
      return "compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")";
    case ValueKind::kFolder:
      return "compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- \"$cur\")";
    case ValueKind::kData:
      return fmt::format("compopt -o nospace; COMPREPLY=($(compgen -W '{}' -- \"$cur\"))", kDataForms);
    case ValueKind::kWord:
      break;
  }
  return ":";
}

std::string zsh_value(const OptionDescription& option) {
  switch (value_kind(option)) {
    case ValueKind::kChoice:
      return fmt::format("({})", fmt::join(option.choices, " "));
    case ValueKind::kFile:
      return "_files";
    case ValueKind::kFolder:
      return "_files -/";
    case ValueKind::kData:
      return "(digits cifar10\\: folder\\: idx\\: npy\\:)";
    case ValueKind::kWord:
      break;
  }
  return " ";
}

/// Within the brackets and behind the colons of _arguments.
std::string zsh_text(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == ':' || c == '[' || c == ']' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

std::string zsh_arguments(const CommandDescription& command,
                          const std::vector<CommandDescription>& commands) {
  std::string text;
  const auto add = [&](const std::string& spec) { text += " \\\n        " + quoted(spec, "'\\''"); };
  for (const OptionDescription& option : all_options(command, commands)) {
    for (const std::string& name : option.names) {
      const std::string start = option.may_repeat ? "*" + name : name;
      const std::string about = fmt::format("[{}]", zsh_text(option.text));
      if (option.is_flag()) {
        add(start + about);
      } else {
        add(fmt::format("{}{}{}:{}:{}", start, name.starts_with("--") ? "=" : "", about,
                        zsh_text(option.value), zsh_value(option)));
      }
    }
  }
  add("--help[Print help and exit]");
  for (const OptionDescription& option : command.options) {
    if (option.is_positional)
      add(fmt::format("{}:{}:{}", option.may_repeat ? "*" : "", zsh_text(option.names.front()),
                      zsh_value(option)));
  }
  return text;
}

std::string fish_value(const OptionDescription& option) {
  switch (value_kind(option)) {
    case ValueKind::kChoice:
      return fmt::format(" -x -a '{}'", fmt::join(option.choices, " "));
    case ValueKind::kFile:
      return " -r -F";
    case ValueKind::kFolder:
      return " -x -a '(__fish_complete_directories)'";
    case ValueKind::kData:
      return fmt::format(" -x -a '{}'", kDataForms);
    case ValueKind::kWord:
      break;
  }
  return " -x";
}

}  // namespace

Document bash_completion(const std::vector<CommandDescription>& commands) {
  std::string names = "--help --version", values, options;
  for (const CommandDescription& command : commands) {
    names += " " + command.name;
    const std::vector<OptionDescription> all = all_options(command, commands);
    for (const OptionDescription& option : all) {
      if (!option.is_flag())
        values += fmt::format("    '{} {}') {} ;;\n", command.name, option.names.front(), bash_value(option));
    }
    options += fmt::format("    {}) known='{}' ;;\n", command.name, option_names(all));
  }
  const std::string script =
      fmt::format(R"(# Completion of bitstrata for bash. Made by 'bitstrata docs --format bash'.
_bitstrata() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} option=${{COMP_WORDS[COMP_CWORD - 1]}} known=''
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W '{0}' -- "$cur"))
    return
  fi
  # '--option=value' and 'folder:DIR' are three words each.
  if [[ $cur == '=' ]]; then
    cur=''
  elif [[ $option == '=' ]]; then
    option=${{COMP_WORDS[COMP_CWORD - 2]}}
  fi
  if [[ $cur == ':' || $option == ':' ]]; then
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen -d -- "${{cur#:}}")
    return
  fi
  case "${{COMP_WORDS[1]}} $option" in
{1}    *) option='' ;;
  esac
  [[ $option == -* ]] && return
  case "${{COMP_WORDS[1]}}" in
{2}  esac
  if [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W "$known" -- "$cur"))
  else
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen -f -- "$cur")
  fi
}}
complete -F _bitstrata bitstrata
)",
                  names, values, options);
  return {"bitstrata", script};
}

Document zsh_completion(const std::vector<CommandDescription>& commands) {
  std::string list, cases;
  for (const CommandDescription& command : commands) {
    list += "    " + quoted(command.name + ":" + zsh_text(command.text), "'\\''") + "\n";
    cases += fmt::format("    {})\n      _arguments -S{}\n      ;;\n", command.name,
                         zsh_arguments(command, commands));
  }
  return {"_bitstrata", fmt::format(R"(#compdef bitstrata
# Completion of bitstrata for zsh. Made by 'bitstrata docs --format zsh'.
_bitstrata() {{
  local -a commands
  commands=(
{}  )
  if ((CURRENT == 2)); then
    _describe command commands
    _arguments '--help[Print help and exit]' '--version[Print the version and exit]'
    return
  fi
  local command=${{words[2]}}
  shift words
  ((CURRENT--))
  case $command in
{}  esac
}}
_bitstrata "$@"
)",
                                    list, cases)};
}

Document fish_completion(const std::vector<CommandDescription>& commands) {
  std::string text =
      "# Completion of bitstrata for fish. Made by 'bitstrata docs --format fish'.\n"
      "complete -c bitstrata -n __fish_use_subcommand -f\n"
      "complete -c bitstrata -n __fish_use_subcommand -l version -d 'Print the version and exit'\n"
      "complete -c bitstrata -l help -d 'Print help and exit'\n";
  for (const CommandDescription& command : commands) {
    text += fmt::format("complete -c bitstrata -n __fish_use_subcommand -a {} -d {}\n", command.name,
                        quoted(command.text, "\\'"));
    for (const OptionDescription& option : all_options(command, commands)) {
      text += fmt::format("complete -c bitstrata -n '__fish_seen_subcommand_from {}'", command.name);
      for (const std::string& name : option.names)
        text += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
      text += (option.is_flag() ? "" : fish_value(option)) + " -d " + quoted(option.text, "\\'") + "\n";
    }
  }
  return {"bitstrata.fish", text};
}

}  // namespace bitstrata::cli
