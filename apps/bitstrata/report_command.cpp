#include <algorithm>
#include <utility>

#include "core/error.h"
#include "report_data.h"
#include "report_fields.h"

namespace bitstrata::cli {
namespace {

/// As a POSIX shell reads it back.
std::string quoted(const std::string& word) {
  const auto is_plain = [](unsigned char c) {
    return std::isalnum(c) ||
           std::string_view("-_./=:,+@%").find(static_cast<char>(c)) != std::string_view::npos;
  };
  if (!word.empty() && std::ranges::all_of(word, is_plain)) return word;
  std::string out = "'";
  for (char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string word_of(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

std::string option_of(const std::string& key) {
  if (key == "batch") return "--batch-size";
  std::string option = "--" + key;
  std::ranges::replace(option, '_', '-');
  return option;
}

/// Options of job.json that take true or false; the other truth values are flags.
bool takes_truth_value(const std::string& key) {
  return key == "tied" || key == "per_channel" || key == "flip";
}

std::string arguments_of(const std::string& key, const Json& value) {
  const std::string option = option_of(key);
  const bool is_default = value.is_null() || value == "" || (value.is_array() && value.empty()) ||
                          (key == "activation_bits" && value == 0);
  if (is_default) return "";
  if (key == "targets" && value.is_array()) {
    std::string all;
    for (const Json& target : value) all += " --target " + quoted(word_of(target));
    return all;
  }
  if (value.is_boolean() && !takes_truth_value(key)) return value.get<bool>() ? " " + option : "";
  if (!value.is_array()) return " " + option + " " + quoted(word_of(value));
  std::vector<std::string> words;
  for (const Json& element : value) words.push_back(word_of(element));
  return " " + option + " " + quoted(fmt::format("{}", fmt::join(words, ",")));
}

}  // namespace

std::string reproducing_command(const Json& job, const std::string& out, std::optional<int> threads) {
  const Fields fields(job, "checkpoint/job.json");
  std::string command = "bitstrata " + quoted(fields.text("command")) + " " + quoted(fields.text("model"));
  for (const auto& [key, value] : job.items()) {
    if (key != "command" && key != "model") command += arguments_of(key, value);
  }
  if (threads) command += fmt::format(" --threads {}", *threads);
  return command + " --out " + quoted(out);
}

std::string comparing_command(const Json& comparison, const std::string& out) {
  const auto joined = [](const Json& list, const char* between) {
    std::string text;
    for (const Json& element : list) text += (text.empty() ? "" : between) + word_of(element);
    return text;
  };
  std::string methods, variants;
  for (const Json& row : comparison.at("rows")) {
    const std::string name = row.at("name");
    if (row.at("options") == Json::array({"--method", name})) {
      methods += (methods.empty() ? "" : ",") + name;
    } else {
      variants += " --variant " + quoted(name + "=" + joined(row.at("options"), " "));
    }
  }
  std::string command = "bitstrata compare " + quoted(comparison.value("model", "model.onnx"));
  for (const Json& word : comparison.at("options")) command += " " + quoted(word.get<std::string>());
  if (!methods.empty()) command += " --methods " + quoted(std::as_const(methods));
  return command + variants + " --seeds " + joined(comparison.at("seeds"), ",") + " --out " + quoted(out);
}

}  // namespace bitstrata::cli
