#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>

#include "commands.h"
#include "common/model.h"
#include "common/option_checks.h"
#include "common/output.h"
#include "common/settings.h"
#include "core/error.h"
#include "core/file.h"
#include "onnx/import.h"
#include "plan/latency_table.h"
#include "profile_network.h"
#include "usual_networks.h"

namespace bitstrata::cli {
namespace {

constexpr Effort kQuick{1, 0, 1};

struct ProfileOptions {
  std::string model, out, table, check, policy = "lsq";
  std::vector<int> bits{1, 2, 3, 4, 5, 6, 7, 8};
  int batch = 1;
  bool quick = false, force = false;
  MachineOptions machine;
  OutputOptions output;

  Effort effort() const { return quick ? kQuick : Effort{}; }
};

/// A packed network compared with a table.
struct Check {
  struct Layer {
    NetworkTimes::Layer measured;
    double predicted_us = 0;
  };
  std::vector<Layer> layers;
  double fixed_predicted_us = 0, fixed_measured_us = 0;
  double predicted_us = 0, measured_us = 0;
  double ratio() const { return predicted_us / measured_us; }
};

std::vector<TimedNetwork> networks_to_measure(const std::string& model) {
  std::vector<TimedNetwork> networks;
  if (model.empty()) {
    for (graph::Graph& graph : usual_networks()) networks.emplace_back(std::move(graph));
    return networks;
  }
  NetworkFile file = load_network(model);
  if (file.is_packed) {
    networks.emplace_back(std::move(file.program));
  } else {
    networks.emplace_back(onnx::import_file(model));
  }
  return networks;
}

plan::LatencyTable measure_table(const ProfileOptions& options, const std::string& model) {
  plan::LatencyTable table =
      profile_networks(networks_to_measure(model), options.bits, quant::parse_policy(options.policy),
                       options.machine, options.batch, options.effort(), options.output.quiet);
  if (!model.empty()) table.network = std::filesystem::path(model).filename().string();
  if (table.shapes.empty())
    fail(ErrorCode::kBadInput, "{}: no layer has integer weights, so there is nothing to choose bits for",
         printable(model));
  return table;
}

plan::LatencyTable read_table(const ProfileOptions& options) {
  plan::LatencyTable table = plan::read_latency_table(options.table);
  if (!options.force) {
    try {
      plan::check_machine(table, this_machine(options.machine, options.batch), printable(options.table));
    } catch (const Error& error) {
      fail(error.code(), "{}, or add --force", error.what());
    }
  }
  return table;
}

Check check_network(const program::Program& network, const plan::LatencyTable& table,
                    const ProfileOptions& options) {
  if (!table.fixed_us) {
    fail(ErrorCode::kBadInput,
         "--check needs a table with the time of everything that is no layer, which a table of the usual "
         "shapes lacks; "
         "name the network: bitstrata profile NETWORK --check {}",
         printable(options.check));
  }
  const NetworkTimes times = measure_networks(
                                 1, [&](size_t) { return network; }, options.machine, options.batch,
                                 options.effort(), options.output.quiet)
                                 .front();
  Check check;
  check.fixed_measured_us = times.fixed_us;
  check.fixed_predicted_us = check.predicted_us = *table.fixed_us;
  check.measured_us = times.total_us;
  for (const auto& layer : times.layers) {
    const double us =
        plan::layer_us(table, layer.name, layer.shape, layer.weight_bits, layer.activation_bits);
    check.layers.push_back({layer, us});
    check.predicted_us += us;
  }
  return check;
}

nlohmann::ordered_json check_json(const Check& check, const std::string& name) {
  auto layers = nlohmann::ordered_json::array();
  for (const auto& [layer, predicted_us] : check.layers) {
    layers.push_back({{"name", layer.name},
                      {"w_bits", layer.weight_bits},
                      {"a_bits", layer.activation_bits},
                      {"kernel", layer.kernel},
                      {"predicted_ms", predicted_us / 1e3},
                      {"measured_ms", layer.us / 1e3}});
  }
  return {
      {"model", name},
      {"predicted_ms", check.predicted_us / 1e3},
      {"measured_ms", check.measured_us / 1e3},
      {"ratio", check.ratio()},
      {"fixed",
       {{"predicted_ms", check.fixed_predicted_us / 1e3}, {"measured_ms", check.fixed_measured_us / 1e3}}},
      {"layers", layers}};
}

std::string table_text(const plan::LatencyTable& table, const std::vector<int>& bits) {
  std::vector<std::string> titles = {"shape", ">layers"};
  for (int b : bits) titles.push_back(fmt::format(">W{}A{}", b, b));
  TextTable text(titles);
  for (const auto& shape : table.shapes) {
    std::vector<std::string> cells = {plan::to_string(shape.shape), std::to_string(shape.layers.size())};
    for (int b : bits) {
      const auto equal = std::ranges::find_if(
          shape.entries, [&](const auto& e) { return e.weight_bits == b && e.activation_bits == b; });
      // Layers that read the network's input have no pairs but those with its bits.
      cells.push_back(equal == shape.entries.end() ? "-" : fmt::format("{:.1f}", equal->us));
    }
    text.add(std::move(cells));
  }
  const auto& machine = table.machine;
  std::string end = fmt::format("\nmicroseconds; {}, {}, {} threads, batch {}", printable(machine.cpu, 60),
                                machine.isa, machine.threads, machine.batch);
  if (table.fixed_us) end += fmt::format("; all that is no layer {:.1f}", *table.fixed_us);
  return text.to_string() + end + "\n";
}

std::string check_text(const Check& check, const std::string& name) {
  TextTable text({"layer", ">w bits", ">a bits", "kernel", ">predicted us", ">measured us"});
  for (const auto& [layer, predicted_us] : check.layers) {
    text.add({printable(layer.name, 60), std::to_string(layer.weight_bits),
              std::to_string(layer.activation_bits), layer.kernel, fmt::format("{:.1f}", predicted_us),
              fmt::format("{:.1f}", layer.us)});
  }
  text.add({"everything else", "", "", "", fmt::format("{:.1f}", check.fixed_predicted_us),
            fmt::format("{:.1f}", check.fixed_measured_us)});
  return text.to_string() + fmt::format("\n{}: predicted {:.3f} ms, measured {:.3f} ms, ratio {:.3f}\n",
                                        printable(name, 1000), check.predicted_us / 1e3,
                                        check.measured_us / 1e3, check.ratio());
}

void run_profile(ProfileOptions options) {
  std::ranges::sort(options.bits);
  options.bits.erase(std::unique(options.bits.begin(), options.bits.end()), options.bits.end());
  if (!options.table.empty() && !options.model.empty()) {
    fail(ErrorCode::kInvalidArgument, "profile takes either a network to measure or --table, not both");
  }
  if (!options.table.empty() && !options.out.empty())
    fail(ErrorCode::kInvalidArgument, "--out writes a measured table; --table measures none");
  if (!options.out.empty()) check_writable(options.out);
  // Read before minutes are spent on measuring.
  std::optional<NetworkFile> checked;
  if (!options.check.empty()) {
    checked = load_network(options.check);
    if (!checked->is_packed) {
      fail(ErrorCode::kBadInput, "--check {}: found a float network, expected a packed one (.bst)",
           printable(options.check));
    }
  }
  const plan::LatencyTable table =
      options.table.empty() ? measure_table(options, options.model.empty() ? options.check : options.model)
                            : read_table(options);
  if (!options.out.empty()) write_file_atomically(options.out, plan::to_json(table));
  std::optional<Check> check;
  if (checked) check = check_network(checked->program, table, options);

  if (options.output.json) {
    auto json = nlohmann::ordered_json::parse(plan::to_json(table));
    if (check) json["check"] = check_json(*check, options.check);
    write_json(json);
    return;
  }
  if (options.table.empty() || !check) write_stdout(table_text(table, options.bits));
  if (check) write_stdout((options.table.empty() ? "\n" : "") + check_text(*check, options.check));
}

}  // namespace

void add_profile(CLI::App& app) {
  auto options = std::make_shared<ProfileOptions>();
  CLI::App& command = *app.add_subcommand(
      "profile", "Measure the latency of every layer shape of a network at every bit-width on this machine");
  command
      .add_option("model", options->model,
                  "Network, .onnx or .bst (default: the shapes of ResNet-20 and ResNet-18)")
      ->type_name("MODEL");
  command
      .add_option("--bits", options->bits, "Widths of weights and activations to measure, all pairs of them")
      ->type_name("N,...")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(1, 8))
      ->default_str("1,2,3,4,5,6,7,8");
  command.add_option("--policy", options->policy, "Quantizer of the weights")
      ->type_name("POLICY")
      ->check(CLI::IsMember(names_of(quant::kAllPolicies)))
      ->capture_default_str();
  command.add_option("--out", options->out, "Write the table as JSON")->type_name("FILE");
  command
      .add_option("--check", options->check,
                  "Compare the sum of the table's latencies with this packed network's measured one")
      ->type_name("MODEL.bst");
  command.add_option("--table", options->table, "Use this table instead of measuring one")->type_name("FILE");
  command.add_flag("--force", options->force,
                   "Use a table of another CPU, instruction set, number of threads or batch");
  command.add_flag("--quick", options->quick, "Measure each pair once: fast and inexact");
  add_batch_option(command, options->batch);
  add_machine_options(command, options->machine);
  add_output_options(command, options->output);
  command.footer(examples({"bitstrata profile model.onnx --bits 2,4,8 --out table.json",
                           "bitstrata profile --check job/model.bst --quick"}));
  command.callback([options] { run_profile(*options); });
}

}  // namespace bitstrata::cli
