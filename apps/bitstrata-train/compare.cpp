#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "child.h"
#include "commands.h"
#include "common/commands.h"
#include "common/host.h"
#include "common/interrupt.h"
#include "common/main.h"
#include "common/option_checks.h"
#include "common/output.h"
#include "core/error.h"
#include "core/file.h"
#include "searcher.h"

namespace bitstrata::cli {
namespace {

using Json = nlohmann::ordered_json;

struct CompareOptions {
  std::string model, out;
  std::vector<std::string> methods, variants;
  std::vector<uint64_t> seeds = {1};
  OutputOptions output;
  std::vector<std::string> passed_on;  ///< options of compress, for every run
};

/// One row of the table: a name and its own options of compress.
struct Variant {
  std::string name;
  std::vector<std::string> arguments;
};

std::vector<std::string> words(const std::string& text) {
  std::vector<std::string> result;
  std::istringstream stream(text);
  for (std::string word; stream >> word;) result.push_back(word);
  return result;
}

std::vector<Variant> variants_of(const CompareOptions& options) {
  std::vector<Variant> all;
  const auto known = method_names();
  for (const std::string& method : options.methods) {
    if (std::find(known.begin(), known.end(), method) == known.end()) {
      fail(ErrorCode::kInvalidArgument, "--methods: found '{}', expected some of {}", printable(method),
           fmt::join(known, ", "));
    }
    all.push_back({method, {"--method", method}});
  }
  for (const std::string& text : options.variants) {
    const size_t equals = text.find('=');
    const std::string name = text.substr(0, equals);
    const bool good_name = !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
      return std::isalnum(c) || c == '-' || c == '_' || c == '.';
    });
    if (equals == std::string::npos || !good_name) {
      fail(ErrorCode::kInvalidArgument,
           "--variant: found '{}', expected NAME=OPTIONS, as most4=--method pdq --keep 4; letters, digits "
           "and -_. in the name",
           printable(text));
    }
    all.push_back({name, words(text.substr(equals + 1))});
  }
  for (size_t i = 0; i < all.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (all[i].name == all[j].name)
        fail(ErrorCode::kInvalidArgument,
             "compare: two rows are named '{}'; give each --variant its own name", all[i].name);
    }
  }
  if (all.empty())
    fail(ErrorCode::kInvalidArgument, "compare: nothing to compare; give --methods, --variant or both");
  return all;
}

/// "--name" of "--name" or "--name=value"; empty for a value.
std::string option_name(const std::string& word) {
  return word.starts_with("--") ? word.substr(0, word.find('=')) : "";
}

/// `common` without the options, and their values, that the row gives itself.
std::vector<std::string> not_overridden(const std::vector<std::string>& common, const Variant& variant) {
  std::vector<std::string> kept;
  bool keep = true;
  for (const std::string& word : common) {
    if (const std::string name = option_name(word); !name.empty()) {
      keep = std::none_of(variant.arguments.begin(), variant.arguments.end(),
                          [&](const std::string& own) { return option_name(own) == name; });
    }
    if (keep) kept.push_back(word);
  }
  return kept;
}

struct Run {
  uint64_t seed = 0;
  Json summary;  ///< run.json, or null when the run failed
  int status = 0;
};

struct Row {
  Variant variant;
  std::vector<Run> runs;
};

/// Mean and sample standard deviation of a figure over a row's finished runs.
struct Spread {
  double mean = 0, deviation = 0;
  int count = 0;
};

Spread spread(const Row& row, const char* key) {
  Spread result;
  for (const Run& run : row.runs) {
    if (run.summary.is_null()) continue;
    result.mean += run.summary.at(key).get<double>();
    ++result.count;
  }
  if (result.count == 0) return result;
  result.mean /= result.count;
  for (const Run& run : row.runs) {
    if (!run.summary.is_null())
      result.deviation += std::pow(run.summary.at(key).get<double>() - result.mean, 2);
  }
  result.deviation = result.count > 1 ? std::sqrt(result.deviation / (result.count - 1)) : 0;
  return result;
}

std::string with_spread(const Spread& value, double factor, int digits) {
  const std::string mean = fmt::format("{:.{}f}", factor * value.mean, digits);
  return value.count > 1 ? mean + fmt::format(" ± {:.{}f}", factor * value.deviation, digits) : mean;
}

const std::vector<std::string> kTitles = {
    "method", "seeds",   "accuracy %", "drop",          "weights, bytes", "compression", "W bits",
    "A bits", "GBitOPs", "search s",   "search epochs", "epochs",         "total s",     "peak MiB"};

std::vector<std::string> cells(const Row& row) {
  const Spread accuracy = spread(row, "accuracy"), floating = spread(row, "float_accuracy");
  if (accuracy.count == 0) {
    std::vector<std::string> failed(kTitles.size(), "-");
    failed[0] = row.variant.name;
    failed[1] = row.runs.empty() ? "to do" : fmt::format("failed ({})", row.runs.front().status);
    return failed;
  }
  size_t epochs = 0;
  for (const Run& run : row.runs) {
    if (!run.summary.is_null()) epochs = std::max(epochs, run.summary.at("epochs").size());
  }
  const auto mean = [&](const char* key, double factor, int digits) {
    return fmt::format("{:.{}f}", factor * spread(row, key).mean, digits);
  };
  return {row.variant.name,
          std::to_string(accuracy.count),
          with_spread(accuracy, 100, 2),
          fmt::format("{:.2f}", 100 * (floating.mean - accuracy.mean)),
          mean("weight_bytes", 1, 0),
          mean("compression", 1, 2) + "x",
          mean("avg_weight_bits", 1, 2),
          mean("avg_activation_bits", 1, 2),
          mean("bitops", 1e-9, 3),
          mean("search_seconds", 1, 0),
          mean("search_epochs", 1, 2),
          std::to_string(epochs),
          mean("seconds", 1, 0),
          mean("peak_mib", 1, 0)};
}

Json to_json(const CompareOptions& options, const std::vector<Row>& rows) {
  Json json{{"model", options.model}, {"options", options.passed_on}, {"seeds", options.seeds},
            {"cpu", cpu_name()},      {"version", version()},         {"rows", Json::array()}};
  for (const Row& row : rows) {
    Json runs = Json::array();
    for (const Run& run : row.runs)
      runs.push_back({{"seed", run.seed}, {"status", run.status}, {"run", run.summary}});
    const Spread accuracy = spread(row, "accuracy");
    json["rows"].push_back({{"name", row.variant.name},
                            {"options", row.variant.arguments},
                            {"accuracy_mean", accuracy.mean},
                            {"accuracy_deviation", accuracy.deviation},
                            {"runs", runs}});
  }
  return json;
}

std::string to_markdown(const CompareOptions& options, const std::vector<Row>& rows) {
  std::string text = fmt::format(
      "All on {}; each row: `bitstrata compress {} {} --seed S` and the row's own options. Accuracy on the "
      "test split, mean ± standard deviation over seeds {}.\n"
      "Float accuracy: the imported network's. Seconds and memory are of this machine, everything that ran "
      "beside it included.\n\n| {} |\n|",
      cpu_name(), std::filesystem::path(options.model).filename().string(), fmt::join(options.passed_on, " "),
      fmt::join(options.seeds, ", "), fmt::join(kTitles, " | "));
  for (size_t i = 0; i < kTitles.size(); ++i) text += i == 0 ? "---|" : "---:|";
  text += '\n';
  for (const Row& row : rows) text += fmt::format("| {} |\n", fmt::join(cells(row), " | "));
  text += "\nThe rows' own options:\n\n";
  for (const Row& row : rows)
    text += fmt::format("- {}: `{}`\n", row.variant.name, fmt::join(row.variant.arguments, " "));
  return text;
}

void write_tables(const CompareOptions& options, const std::vector<Row>& rows) {
  const std::filesystem::path root = options.out;
  write_file_atomically(root / "compare.json", std::string_view(to_json(options, rows).dump(1) + "\n"));
  write_file_atomically(root / "compare.md", std::string_view(to_markdown(options, rows)));
}

Run run_one(const CompareOptions& options, const Variant& variant, uint64_t seed) {
  const auto folder = std::filesystem::path(options.out) / fmt::format("{}-{}", variant.name, seed);
  std::vector<std::string> arguments{"compress",      options.model, "--out",
                                     folder.string(), "--seed",      std::to_string(seed)};
  if (std::filesystem::exists(folder / "checkpoint/job.json")) arguments.push_back("--resume");
  if (options.output.quiet) arguments.push_back("--quiet");
  const std::vector<std::string> common = not_overridden(options.passed_on, variant);
  arguments.insert(arguments.end(), common.begin(), common.end());
  arguments.insert(arguments.end(), variant.arguments.begin(), variant.arguments.end());
  Run run{seed, nullptr, run_child(this_executable(), arguments)};
  if (interrupted())
    fail(ErrorCode::kInterrupted, "interrupted; run the same command again to go on with {}",
         folder.string());
  // 2 and 3 mean that the next run would fail in the same way.
  if (run.status > 1)
    fail(run.status == 2 ? ErrorCode::kInvalidArgument : ErrorCode::kBadInput,
         "compare: '{}' with seed {} ended with status {}; its message is above", variant.name, seed,
         run.status);
  const auto summary = folder / "run.json";
  if (std::filesystem::exists(summary)) {
    try {
      run.summary = Json::parse(read_text_file(summary));
    } catch (const nlohmann::json::exception& error) {
      fail(ErrorCode::kCorruptFile, "{}: not valid JSON: {}; delete it to have it written again",
           summary.string(), printable(error.what()));
    }
  }
  return run;
}

void run_compare(const CompareOptions& options) {
  const std::vector<Variant> variants = variants_of(options);
  catch_interrupts();
  make_folders(options.out);
  std::vector<Row> rows;
  for (const Variant& variant : variants) rows.push_back({variant, {}});
  bool all_met = true;
  for (uint64_t seed : options.seeds) {
    for (Row& row : rows) {
      if (!options.output.quiet) write_stderr_line(fmt::format("== {} with seed {}", row.variant.name, seed));
      row.runs.push_back(run_one(options, row.variant, seed));
      all_met = all_met && row.runs.back().status == 0;
      write_tables(options, rows);
    }
  }
  if (options.output.json) {
    write_json(to_json(options, rows));
  } else {
    std::vector<std::string> titles = kTitles;
    for (size_t i = 1; i < titles.size(); ++i) titles[i] = ">" + titles[i];
    TextTable table(titles);
    for (const Row& row : rows) table.add(cells(row));
    write_stdout(table.to_string());
    write_stdout(fmt::format("tables in {0}/compare.md and compare.json; 'bitstrata report {0}' draws them\n",
                             options.out));
  }
  if (!all_met)
    fail(ErrorCode::kJobFailed,
         "compare: some runs did not meet their targets; see above and {}/compare.json", options.out);
}

}  // namespace

void add_compare(CLI::App& app) {
  auto options = std::make_shared<CompareOptions>();
  CLI::App& command = *app.add_subcommand("compare", train_command_description("compare"));
  command.add_option("model", options->model, "Float network, .onnx")->type_name("MODEL")->required();
  command
      .add_option("--out", options->out,
                  "Folder for the runs and the tables; the same command goes on with what is there")
      ->type_name("DIR")
      ->required();
  command
      .add_option("--methods", options->methods,
                  "Rows by method: " + fmt::format("{}", fmt::join(method_names(), ", ")))
      ->delimiter(',');
  command
      .add_option("--variant", options->variants,
                  "A row with options of its own, as 'most4=--method pdq --keep 4', which win over those for "
                  "all rows; may be repeated")
      ->type_name("NAME=OPTIONS")
      ->allow_extra_args(false);
  command.add_option("--seeds", options->seeds, "Seeds; every row runs with each")
      ->delimiter(',')
      ->capture_default_str();
  add_output_options(command, options->output);
  command.allow_extras();
  command.footer(
      "All other options (--data, --target, --policy, --bits, --epochs, ...) are those of compress and hold "
      "for every row that does not give them itself.\n\n" +
      examples({"bitstrata compare model.onnx --data digits --methods uniform,eagl --target avg-bits=3 "
                "--epochs 1 --out table"}));
  command.callback([options, &command] {
    options->passed_on = command.remaining();
    run_compare(*options);
  });
}

}  // namespace bitstrata::cli
