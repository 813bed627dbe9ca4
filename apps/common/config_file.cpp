#include "common/config_file.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <optional>
#include <set>
#include <span>

#include "common/commands.h"
#include "core/error.h"
#include "core/file.h"

namespace bitstrata::cli {
namespace {

constexpr uint64_t kLargestFileBytes = 64 << 10;
constexpr size_t kMostOptionsWithoutFile = 4;

/// Commands with --config, and the one whose options they take besides their own.
struct Command {
  CLI::App* own = nullptr;
  CLI::App* passed_on_to = nullptr;  ///< may be null

  /// The option of a key; null for none.
  CLI::Option* find(const std::string& key) const {
    if (key == "help" || key == "config" || key.empty()) return nullptr;
    CLI::Option* found = own->get_option_no_throw("--" + key);
    if (!found && passed_on_to) found = passed_on_to->get_option_no_throw("--" + key);
    return found;
  }
};

CLI::App* find_subcommand(CLI::App& app, const std::string& name) {
  const auto found =
      app.get_subcommands([&](const CLI::App* command) { return command->get_name() == name; });
  return found.empty() ? nullptr : found.front();
}

std::optional<Command> chosen_command(CLI::App& app, const std::vector<std::string>& arguments) {
  if (arguments.empty()) return std::nullopt;
  Command command{find_subcommand(app, arguments[0])};
  if (!command.own || !command.own->get_option_no_throw("--config")) return std::nullopt;
  const std::string other = passes_options_on_to(arguments[0]);
  if (!other.empty()) command.passed_on_to = find_subcommand(app, other);
  return command;
}

/// The arguments that are options: what follows "--" are not.
std::span<const std::string> before_dashes(const std::vector<std::string>& arguments) {
  const auto end = std::ranges::find(arguments, "--");
  return {arguments.begin(), end};
}

std::optional<std::string> config_path(std::span<const std::string> arguments) {
  constexpr std::string_view kEquals = "--config=";
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i].starts_with(kEquals)) return arguments[i].substr(kEquals.size());
    if (arguments[i] == "--config" && i + 1 < arguments.size()) return arguments[i + 1];
  }
  return std::nullopt;
}

bool is_given(const CLI::Option& option, std::span<const std::string> arguments) {
  return std::ranges::any_of(arguments, [&](const std::string& argument) {
    const std::string name = argument.substr(0, argument.find('='));
    const auto equals_dashed = [&](const std::string& dashes) {
      return [&name, dashes](const std::string& known) { return name == dashes + known; };
    };
    return std::ranges::any_of(option.get_lnames(), equals_dashed("--")) ||
           std::ranges::any_of(option.get_snames(), equals_dashed("-"));
  });
}

YAML::Node parse_yaml(const std::string& path) {
  const std::string text = read_text_file(path, kLargestFileBytes);
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.size() > 1)
      fail(ErrorCode::kBadInput, "{}: found {} YAML documents, expected one", printable(path),
           documents.size());
    return documents.empty() ? YAML::Node() : documents.front();
  } catch (const YAML::Exception& error) {
    fail(ErrorCode::kBadInput, "{}:{}: not valid YAML: {}", printable(path), error.mark.line + 1,
         printable(error.msg));
  }
}

/// The words that a value stands for, or why it has the wrong type.
struct Values {
  std::vector<std::string> words;
  std::string problem;
};

Values values_of(const YAML::Node& node, bool takes_list) {
  Values values;
  const auto add = [&](const YAML::Node& scalar) {
    if (!scalar.IsScalar() || scalar.Scalar().empty())
      values.problem = scalar.IsMap()        ? "found a map"
                       : scalar.IsSequence() ? "found a list"
                                             : "found no value";
    else
      values.words.push_back(scalar.Scalar());
  };
  if (!node.IsSequence()) {
    add(node);
  } else if (!takes_list) {
    values.problem = "found a list";
  } else {
    for (const YAML::Node& element : node) add(element);
    if (node.size() == 0) values.problem = "found an empty list";
  }
  if (!values.problem.empty())
    values.problem += takes_list ? ", expected a value or a list of values" : ", expected one value";
  return values;
}

/// What the command line itself would say to these words; empty when it takes them.
std::string refusal(CLI::Option& option, const std::vector<std::string>& words) {
  std::string message;
  try {
    for (const std::string& word : words) option.add_result(word);
    option.run_callback();
  } catch (const CLI::ParseError& error) {
    message = error.what();
  }
  option.clear();
  return message;
}

/// The arguments of one key, or an error line without its place.
struct Translation {
  std::vector<std::string> arguments;
  std::string problem;
};

Translation translate(CLI::Option& option, const std::string& key, const YAML::Node& node) {
  if (option.get_items_expected_max() == 0) {
    bool on = false;
    if (!node.IsScalar() || !YAML::convert<bool>::decode(node, on))
      return {{}, fmt::format("{}: expected true or false", key)};
    return {on ? std::vector{"--" + key} : std::vector<std::string>{}, ""};
  }
  const Values values = values_of(node, option.get_items_expected_max() > 1);
  if (!values.problem.empty()) return {{}, key + ": " + values.problem};
  if (const std::string message = refusal(option, values.words); !message.empty()) return {{}, message};
  Translation translation;
  for (const std::string& word : values.words) translation.arguments.push_back("--" + key + "=" + word);
  return translation;
}

std::vector<std::string> arguments_of_file(const Command& command, const std::string& path,
                                           std::span<const std::string> given) {
  const YAML::Node root = parse_yaml(path);
  if (root.IsNull()) return {};
  if (!root.IsMap())
    fail(ErrorCode::kBadInput, "{}: expected a YAML map from options to values, as 'epochs: 3'",
         printable(path));
  std::vector<std::string> result, errors;
  std::set<std::string> seen;
  for (const auto& entry : root) {
    const auto complain = [&](const std::string& problem) {
      errors.push_back(
          fmt::format("{}:{}: {}", printable(path), entry.first.Mark().line + 1, printable(problem)));
    };
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
    CLI::Option* option = command.find(key);
    if (!option) {
      complain(
          fmt::format("unknown key '{}', expected a long option of 'bitstrata {} --help' without its dashes",
                      printable(key, 60), command.own->get_name()));
      continue;
    }
    if (!seen.insert(key).second) {
      complain(fmt::format("key '{}' is given twice", key));
      continue;
    }
    Translation translation = translate(*option, key, entry.second);
    if (!translation.problem.empty())
      complain(translation.problem);
    else if (!is_given(*option, given))
      result.insert(result.end(), translation.arguments.begin(), translation.arguments.end());
  }
  if (!errors.empty()) throw UsageErrors(errors);
  return result;
}

}  // namespace

void add_config_options(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    const size_t options =
        command->get_options([](const CLI::Option* o) { return o->get_name() != "--help"; }).size();
    if (options <= kMostOptionsWithoutFile || command->get_group().empty()) continue;
    command
        ->add_option("--config",
                     "Options from this YAML file, as 'epochs: 3' for --epochs 3; those given here win")
        ->type_name("FILE.yaml");
  }
}

std::vector<std::string> with_config_file(CLI::App& app, std::vector<std::string> arguments) {
  const std::optional<Command> command = chosen_command(app, arguments);
  if (!command) return arguments;
  const std::span<const std::string> given = before_dashes(arguments);
  const std::optional<std::string> path = config_path(given);
  if (!path) return arguments;
  const std::vector<std::string> added = arguments_of_file(*command, *path, given);
  arguments.insert(arguments.begin() + static_cast<std::ptrdiff_t>(given.size()), added.begin(), added.end());
  return arguments;
}

}  // namespace bitstrata::cli
