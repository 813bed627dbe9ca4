#include "common/describe.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "common/output.h"
#include "core/error.h"

namespace bitstrata::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kExamples = "Examples:";

/// CLI11 writes a type as "NAME:{a,b}" when a check lists what it takes, and as "NAME:INT in [1 - 8]" for
/// ranges.
void split_type(const std::string& type, OptionDescription& option) {
  const size_t colon = type.find(':');
  option.value = type.substr(0, colon);
  const size_t open = type.find('{'), close = type.rfind('}');
  if (open == std::string::npos || close == std::string::npos || close < open) return;
  std::istringstream words(type.substr(open + 1, close - open - 1));
  for (std::string word; std::getline(words, word, ',');) option.choices.push_back(word);
}

OptionDescription describe(const CLI::Option& option) {
  OptionDescription result;
  result.is_positional = option.get_positional();
  if (result.is_positional) {
    result.names = {option.get_name(true)};
  } else {
    for (const std::string& name : option.get_lnames()) result.names.push_back("--" + name);
    for (const std::string& name : option.get_snames()) result.names.push_back("-" + name);
  }
  if (option.get_items_expected_max() > 0) {
    split_type(option.get_type_name(), result);
    result.may_repeat = option.get_items_expected_max() > 1;
    result.default_value = option.get_default_str();
  }
  result.text = option.get_description();
  result.group = option.get_group();
  result.is_required = option.get_required();
  return result;
}

CommandDescription describe(const CLI::App& app) {
  CommandDescription command{app.get_name(), app.get_description(), app.get_footer(), {}, {}};
  if (const size_t at = command.notes.find(kExamples); at != std::string::npos) {
    std::istringstream lines(command.notes.substr(at + kExamples.size()));
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("  ")) command.examples.push_back(line.substr(2));
    }
    command.notes.erase(at);
    command.notes.erase(command.notes.find_last_not_of('\n') + 1);
  }
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_name() != "--help" && !option->get_group().empty())
      command.options.push_back(describe(*option));
  }
  std::ranges::stable_partition(command.options, &OptionDescription::is_positional);
  return command;
}

}  // namespace

std::vector<CommandDescription> describe_commands(const CLI::App& app) {
  std::vector<CommandDescription> commands;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (command->get_group().empty()) continue;
    CommandDescription description = describe(*command);
    if (!description.options.empty()) commands.push_back(std::move(description));
  }
  return commands;
}

Json to_json(const std::vector<CommandDescription>& commands) {
  Json all = Json::array();
  for (const CommandDescription& command : commands) {
    Json options = Json::array();
    for (const OptionDescription& o : command.options) {
      options.push_back({{"names", o.names},
                         {"value", o.value},
                         {"choices", o.choices},
                         {"text", o.text},
                         {"default", o.default_value},
                         {"group", o.group},
                         {"positional", o.is_positional},
                         {"required", o.is_required},
                         {"repeat", o.may_repeat}});
    }
    all.push_back({{"name", command.name},
                   {"text", command.text},
                   {"notes", command.notes},
                   {"examples", command.examples},
                   {"options", options}});
  }
  return {{"commands", all}};
}

std::vector<CommandDescription> commands_from_json(const std::string& text) {
  try {
    std::vector<CommandDescription> commands;
    const Json json = Json::parse(text);
    for (const Json& each : json.at("commands")) {
      CommandDescription command{each.at("name"), each.at("text"), each.at("notes"), each.at("examples"), {}};
      for (const Json& o : each.at("options")) {
        command.options.push_back({o.at("names"), o.at("value"), o.at("choices"), o.at("text"),
                                   o.at("default"), o.at("group"), o.at("positional"), o.at("required"),
                                   o.at("repeat")});
      }
      commands.push_back(std::move(command));
    }
    return commands;
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorCode::kInternal, "the description of the training commands cannot be read: {}",
         printable(error.what()));
  }
}

void add_describe(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("describe", "All subcommands and their options as JSON")->group("");
  command.callback([&app] { write_json(to_json(describe_commands(app))); });
}

}  // namespace bitstrata::cli
