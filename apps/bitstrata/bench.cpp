#include "bench.h"

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "buffers.h"
#include "commands.h"
#include "common/host.h"
#include "common/model.h"
#include "common/option_checks.h"
#include "common/progress.h"
#include "core/error.h"
#include "measure.h"
#include "problem.h"
#include "runtime/session.h"

namespace bitstrata::cli {
namespace {

constexpr double kTotalSeconds = 0.5, kLayerSeconds = 0.3;
constexpr size_t kLeastRuns = 10;

struct BenchOptions {
  std::string model;
  bool kernels = false;
  KernelBenchOptions of_kernels;
  int batch = 1;
  MachineOptions machine;
  OutputOptions output;
};

/// Median time of each op over several profiled runs, in milliseconds.
std::vector<double> layer_medians(runtime::Session& session, Buffers& buffers, int batch) {
  std::vector<std::vector<double>> samples(session.model().program().ops.size());
  measure_ms(
      [&] {
        for (const auto& time : session.profile(buffers.input, batch, buffers.spans))
          samples[time.op_index].push_back(time.milliseconds);
      },
      kLayerSeconds, kLeastRuns);
  std::vector<double> medians;
  for (const auto& times : samples) medians.push_back(times.empty() ? 0 : quantile(times, 0.5));
  return medians;
}

nlohmann::ordered_json layers_json(const runtime::Model& model, const std::vector<double>& layer_ms) {
  auto layers = nlohmann::ordered_json::array();
  for (size_t i = 0; i < layer_ms.size(); ++i) {
    const program::Op& op = model.program().ops[i];
    const OpBits bits = op_bits(model.program(), op);
    layers.push_back({{"name", op.name},
                      {"kernel", model.kernel_name(i)},
                      {"w_bits", bits.w_bits},
                      {"a_bits", bits.a_bits},
                      {"ms", layer_ms[i]}});
  }
  return layers;
}

std::string layers_text(const runtime::Model& model, const std::vector<double>& layer_ms) {
  TextTable table({"layer", "op", "kernel", ">w bits", ">a bits", ">ms"});
  for (size_t i = 0; i < layer_ms.size(); ++i) {
    const program::Op& op = model.program().ops[i];
    const OpBits bits = op_bits(model.program(), op);
    table.add({printable(op.name, 60), program::to_string(op.kind), model.kernel_name(i),
               bits.w_bits ? std::to_string(bits.w_bits) : "-", std::to_string(bits.a_bits),
               fmt::format("{:.4f}", layer_ms[i])});
  }
  return table.to_string();
}

void bench_network(const BenchOptions& options) {
  const auto runtime_options = options.machine.runtime_options(options.batch);
  const double before_mib = resident_memory_mib();
  std::optional<Waiting> waiting(std::in_place, "reading the network and choosing its kernels",
                                 options.output.quiet);
  NetworkFile network = load_network(options.model);
  const auto model = runtime::Model::prepare(std::move(network.program), runtime_options);
  waiting.emplace("measuring", options.output.quiet);
  runtime::Session session(model);
  Buffers buffers(model->program(), options.batch);

  const auto times = measure_ms([&] { session.run(buffers.input, options.batch, buffers.spans); },
                                kTotalSeconds, kLeastRuns);
  const auto layer_ms = layer_medians(session, buffers, options.batch);
  waiting.reset();
  const double median = quantile(times, 0.5), p90 = quantile(times, 0.9);
  const double images_per_second = options.batch / (median / 1e3);
  const double peak_mib = peak_memory_mib();
  const double network_mib = peak_mib - before_mib;
  if (options.output.json) {
    write_json({{"median_ms", median},
                {"p90_ms", p90},
                {"threads", runtime_options.threads},
                {"isa", to_string(runtime_options.isa)},
                {"batch", options.batch},
                {"runs", times.size()},
                {"images_per_second", images_per_second},
                {"peak_mib", peak_mib},
                {"network_mib", network_mib},
                {"layers", layers_json(*model, layer_ms)}});
    return;
  }
  write_stdout(layers_text(*model, layer_ms));
  write_stdout(
      fmt::format("\nmedian {:.3f} ms, 90th percentile {:.3f} ms over {} runs; batch {}, {} threads, {}; "
                  "{:.0f} images/s; peak memory {:.1f} MiB, {:.1f} MiB of it for the network\n",
                  median, p90, times.size(), options.batch, runtime_options.threads,
                  to_string(runtime_options.isa), images_per_second, peak_mib, network_mib));
}

void run_bench(const BenchOptions& options) {
  if (options.kernels == !options.model.empty()) {
    fail(ErrorCode::kInvalidArgument,
         "bench takes either a network or --kernels (see 'bitstrata bench --help')");
  }
  if (!options.kernels) {
    bench_network(options);
    return;
  }
  KernelBenchOptions of_kernels = options.of_kernels;
  of_kernels.batch = options.batch;
  of_kernels.machine = options.machine;
  of_kernels.output = options.output;
  bench_kernels(of_kernels);
}

}  // namespace

void add_bench(CLI::App& app) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App& command =
      *app.add_subcommand("bench", "Measure the latency of a network, layer by layer, or of the kernels");
  command.add_option("model", options->model, "Network, .onnx or .bst")->type_name("MODEL");
  CLI::Option* kernels =
      command.add_flag("--kernels", options->kernels,
                       "Measure the kernels on 3x3 convolutions beside oneDNN's int8 convolution");
  command
      .add_option("--shapes", options->of_kernels.shapes, "Kernels: channels and extent of the convolutions")
      ->delimiter(',')
      ->type_name("C@H,...")
      ->needs(kernels)
      ->capture_default_str();
  command.add_option("--pairs", options->of_kernels.pairs, "Kernels: weight and activation bits")
      ->delimiter(',')
      ->type_name("WxA,...")
      ->needs(kernels)
      ->capture_default_str();
  command.add_flag("--all", options->of_kernels.all, "Kernels: also those that are not the fastest")
      ->needs(kernels);
  add_batch_option(command, options->batch);
  add_machine_options(command, options->machine);
  add_output_options(command, options->output);
  command.footer(examples({"bitstrata bench job/model.bst --threads 1",
                           "bitstrata bench model.onnx --batch 16 --isa avx2",
                           "bitstrata bench --kernels --shapes 64@8 --pairs 4x4 --threads 1"}));
  command.callback([options] { run_bench(*options); });
}

}  // namespace bitstrata::cli
