#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "bench.h"
#include "common/progress.h"
#include "core/error.h"
#include "core/random.h"
#include "kernels/onednn_peer.h"
#include "quant/policy.h"
#include "runtime/kernel_trial.h"
#include "self.h"

namespace bitstrata::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kRounds = 7;
constexpr double kRoundUs = 2000;

/// Equal numbers of input and output channels, 3x3 window, stride 1, written C@H.
struct Shape {
  int channels, extent;
};
struct Pair {
  int w_bits, a_bits;
};

/// ResNet-18's stages at 224x224, over which geometric means are taken.
constexpr const char* kMeanShapes[] = {"64@56", "128@28", "256@14", "512@7"};

/// Two numbers around `separator`.
std::pair<int, int> parse_two(const std::string& text, char separator, int lowest, int highest,
                              std::string_view expected) {
  const auto number = [&](std::string_view part) {
    int value = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
    if (error != std::errc() || end != part.data() + part.size() || value < lowest || value > highest)
      fail(ErrorCode::kInvalidArgument, "found '{}', expected {}", printable(text, 40), expected);
    return value;
  };
  const size_t at = text.find(separator);
  if (at == std::string::npos)
    fail(ErrorCode::kInvalidArgument, "found '{}', expected {}", printable(text, 40), expected);
  const std::string_view view(text);
  return {number(view.substr(0, at)), number(view.substr(at + 1))};
}

Shape parse_shape(const std::string& text) {
  const auto [channels, extent] = parse_two(text, '@', 1, 4096, "a shape C@H such as 64@56, both in 1..4096");
  return {channels, extent};
}

Pair parse_pair(const std::string& text) {
  const auto [w_bits, a_bits] =
      parse_two(text, 'x', 1, 8, "weight x activation bits such as 2x4, both in 1..8");
  return {w_bits, a_bits};
}

kernels::ConvProblem make_problem(Shape shape, Pair pair, int batch, int threads) {
  kernels::ConvProblem problem;
  problem.max_batch = batch;
  problem.max_threads = threads;
  problem.ic = problem.oc = shape.channels;
  problem.ih = problem.iw = problem.oh = problem.ow = shape.extent;
  program::Window& w = problem.window;
  w.kernel_h = w.kernel_w = 3;
  w.pad_top = w.pad_left = w.pad_bottom = w.pad_right = 1;
  problem.w_bits = pair.w_bits;
  problem.a_bits = pair.a_bits;
  problem.grid = quant::grid_of(quant::Policy::kLsq, pair.w_bits);
  return problem;
}

std::vector<uint8_t> random_codes(const kernels::ConvProblem& problem) {
  Random random(0, 1);
  std::vector<uint8_t> codes(static_cast<size_t>(problem.oc) * static_cast<size_t>(problem.reduction()));
  for (uint8_t& code : codes) code = static_cast<uint8_t>(random.below(uint64_t{1} << problem.w_bits));
  return codes;
}

/// All kernels on one problem beside oneDNN's int8 convolution, fastest first.
Json measure_cell(const std::string& shape, Pair pair, Isa isa, const KernelBenchOptions& options) {
  const kernels::ConvProblem problem =
      make_problem(parse_shape(shape), pair, options.batch, options.resolved_threads());
  kernels::validate(problem);
  const runtime::KernelTrial trial(problem, random_codes(problem), isa, true,
                                   runtime::kernels_worth_timing(problem, isa));
  const kernels::OnednnPeer peer(problem, isa);
  std::vector<std::function<void()>> works = {[&] { peer.run(); }};
  for (size_t i = 0; i < trial.size(); ++i) works.emplace_back([&trial, i] { trial.run(i); });
  const std::vector<double> us = runtime::least_us(works, kRounds, kRoundUs);

  std::vector<size_t> order(trial.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::sort(order, {}, [&](size_t i) { return us[i + 1]; });
  if (!options.all) order.resize(1);
  Json rows = Json::array();
  for (const size_t i : order) {
    const kernels::KernelEntry& entry = trial.entry(i);
    rows.push_back({{"shape", shape},
                    {"isa", to_string(isa)},
                    {"w_bits", pair.w_bits},
                    {"a_bits", pair.a_bits},
                    {"kernel", kernels::to_string(entry.family)},
                    {"us", us[i + 1]},
                    {"onednn_int8_us", us[0]},
                    {"ratio", us[0] / us[i + 1]},
                    {"name", entry.name},
                    {"chosen", i == order[0]}});
  }
  return rows;
}

Json measure_isa(Isa isa, const KernelBenchOptions& options) {
  Json rows = Json::array();
  Progress progress(fmt::format("bench {}", to_string(isa)), options.shapes.size() * options.pairs.size(),
                    "problems", options.output.quiet);
  uint64_t done = 0;
  for (const std::string& shape : options.shapes) {
    for (const std::string& pair : options.pairs) {
      for (Json& row : measure_cell(shape, parse_pair(pair), isa, options)) rows.push_back(std::move(row));
      progress.update(++done);
    }
  }
  progress.finish();
  return rows;
}

/// In a process of its own, because oneDNN is held to one instruction set per process.
Json measure_elsewhere(Isa isa, const KernelBenchOptions& options) {
  std::vector<std::string> arguments = {"bench",
                                        "--kernels",
                                        "--json",
                                        "--isa",
                                        to_string(isa),
                                        "--threads",
                                        std::to_string(options.resolved_threads()),
                                        "--batch",
                                        std::to_string(options.batch),
                                        "--shapes",
                                        fmt::format("{}", fmt::join(options.shapes, ",")),
                                        "--pairs",
                                        fmt::format("{}", fmt::join(options.pairs, ","))};
  if (options.all) arguments.emplace_back("--all");
  if (options.output.quiet) arguments.emplace_back("--quiet");
  return Json::parse(output_of_self(arguments)).at("rows");
}

std::string pair_name(const Json& row) {
  return fmt::format("W{}A{}", row.at("w_bits").get<int>(), row.at("a_bits").get<int>());
}

/// Geometric means of the chosen kernels' ratios over ResNet-18's shapes: isa, pair, mean.
std::map<std::string, std::map<std::string, double>> mean_ratios(const Json& rows) {
  std::map<std::string, std::map<std::string, std::vector<double>>> logs;
  for (const Json& row : rows) {
    if (row.at("chosen").get<bool>() &&
        std::ranges::count(kMeanShapes, row.at("shape").get<std::string>()) > 0)
      logs[row.at("isa")][pair_name(row)].push_back(std::log(row.at("ratio").get<double>()));
  }
  std::map<std::string, std::map<std::string, double>> means;
  for (const auto& [isa, pairs] : logs) {
    for (const auto& [pair, values] : pairs) {
      double sum = 0;
      for (double value : values) sum += value;
      means[isa][pair] = std::exp(sum / static_cast<double>(values.size()));
    }
  }
  return means;
}

std::string means_text(const Json& rows) {
  const auto means = mean_ratios(rows);
  if (means.empty()) return {};
  std::vector<std::string> titles = {"isa"}, pairs;
  for (const Json& row : rows) {
    const std::string pair = pair_name(row);
    if (std::ranges::count(pairs, pair) == 0) pairs.push_back(pair);
  }
  for (const std::string& pair : pairs) titles.push_back(">" + pair);
  TextTable table(titles);
  for (const auto& [isa, by_pair] : means) {
    std::vector<std::string> cells = {isa};
    for (const std::string& pair : pairs)
      cells.push_back(by_pair.contains(pair) ? fmt::format("{:.2f}x", by_pair.at(pair)) : "-");
    table.add(std::move(cells));
  }
  return "\ntimes faster than oneDNN int8, geometric mean over ResNet-18's 3x3 shapes:\n" + table.to_string();
}

}  // namespace

void bench_kernels(const KernelBenchOptions& options) {
  for (const std::string& shape : options.shapes) parse_shape(shape);
  for (const std::string& pair : options.pairs) parse_pair(pair);
  Json rows = Json::array();
  if (!options.machine.isa.empty()) {
    rows = measure_isa(options.machine.resolved_isa(), options);
  } else {
    for (Isa isa : available_isas()) {
      if (isa == Isa::kScalar) continue;
      for (Json& row : measure_elsewhere(isa, options)) rows.push_back(std::move(row));
    }
  }
  if (options.output.json) {
    write_json({{"cpu", cpu_name()},
                {"threads", options.resolved_threads()},
                {"batch", options.batch},
                {"rows", std::move(rows)}});
    return;
  }
  TextTable table({"shape", "isa", "bits", "kernel", ">us", ">oneDNN int8 us", ">ratio"});
  for (const Json& row : rows) {
    table.add({row.at("shape"), row.at("isa"), pair_name(row), row.at("name"),
               fmt::format("{:.2f}", row.at("us").get<double>()),
               fmt::format("{:.2f}", row.at("onednn_int8_us").get<double>()),
               fmt::format("{:.2f}x", row.at("ratio").get<double>())});
  }
  write_stdout(table.to_string() + means_text(rows));
  write_stdout(fmt::format("\n{}, batch {}, {} threads\n", printable(cpu_name(), 60), options.batch,
                           options.resolved_threads()));
}

}  // namespace bitstrata::cli
