// Time and peak memory of a training step of ResNet-20 at 32x32: float, quantization-aware, and of the search
// ebs: the weights under a mixture of 5 candidate widths for weights and 5 for activations. Each kind runs in
// processes of its own, because peak memory is a property of a process; the kinds take turns, so that a drift
// of the machine meets both.
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bitstrata/measure.h"
#include "common/host.h"
#include "common/output.h"
#include "common/settings.h"
#include "core/error.h"
#include "core/random.h"
#include "quant/policy.h"
#include "train/architectures.h"
#include "train/calibrate.h"
#include "train/network.h"
#include "train/trainer.h"

namespace bitstrata {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

constexpr int kChannels = 3, kExtent = 32, kClasses = 10;
constexpr std::array kKinds = {"float", "qat", "ebs"};
constexpr std::array kCandidateBits = {5, 4, 3, 2, 1};

struct BenchOptions {
  int batch = 128, warm_up = 3, steps = 12, rounds = 3, bits = 4;
  std::string policy = "lsq", kind;
  cli::MachineOptions machine;
};

/// Random pixels and labels for `images` training samples.
data::Dataset random_dataset(int images) {
  data::DatasetContent content;
  content.name = "random";
  content.shape = {kChannels, kExtent, kExtent};
  for (int c = 0; c < kClasses; ++c) content.class_names.push_back(std::to_string(c));
  content.flip = true;
  Random random(0, 0);
  content.train.pixels.resize(static_cast<size_t>(images) * kChannels * kExtent * kExtent);
  for (uint8_t& pixel : content.train.pixels) pixel = static_cast<uint8_t>(256 * random.uniform());
  for (int i = 0; i < images; ++i) content.train.labels.push_back(i % kClasses);
  return data::Dataset(std::move(content));
}

/// Gives every layer the candidate widths, with even shares.
void mix(train::Network& network, const graph::Graph& graph, const train::Calibrator& calibrator,
         quant::Policy policy, bool per_channel) {
  std::vector<train::Network::LayerMixture> mixtures;
  for (const plan::LayerPlan& layer : network.plan().layers) mixtures.push_back({layer.name, {}, {}, {}});
  for (int bits : kCandidateBits) {
    const plan::Plan plan = plan::uniform_plan(graph, bits, bits, policy, per_channel);
    const compile::Quantizers quantizers = calibrator.quantizers(plan, quant::Calibration::kMse);
    for (train::Network::LayerMixture& mixture : mixtures) {
      const compile::LayerQuantizer& layer = quantizers.layers.at(mixture.layer);
      mixture.weight_bits.push_back(bits);
      mixture.weight_params.push_back(layer.weight_params);
      // Pixels have one width.
      if (mixture.inputs.empty() || layer.input.bits == bits) mixture.inputs.push_back(layer.input);
    }
  }
  network.set_mixture(mixtures);
  const auto even = [](size_t count) {
    return torch::full({static_cast<int64_t>(count)}, 1.0 / static_cast<double>(count));
  };
  std::vector<train::Network::LayerShares> shares;
  for (const auto& mixture : mixtures)
    shares.push_back({even(mixture.weight_bits.size()), even(mixture.inputs.size())});
  network.set_shares(shares);
}

/// The network as training starts with it: float, or with quantizers calibrated on a batch.
std::unique_ptr<train::Network> make_network(const BenchOptions& options, const data::Dataset& dataset,
                                             const data::Normalization& normalization) {
  const graph::Graph graph = train::make_architecture("resnet20", kChannels, kExtent, kExtent, kClasses, 0);
  const int bits = options.kind == "float" ? 0 : options.bits;
  const quant::Policy policy = quant::parse_policy(options.policy);
  const bool per_channel = policy == quant::Policy::kLsq || policy == quant::Policy::kSawb;
  const plan::Plan plan = plan::uniform_plan(graph, bits, bits, policy, per_channel);
  if (bits == 0) return std::make_unique<train::Network>(graph, plan, compile::Quantizers{});
  const auto indices = data::all_indices(dataset.num_samples(data::Split::kTrain));
  const train::Calibrator calibrator(
      graph, train::calibration_batches(dataset, indices, normalization, options.batch, options.batch, 0),
      torch::kCPU);
  auto network =
      std::make_unique<train::Network>(graph, plan, calibrator.quantizers(plan, quant::Calibration::kMse));
  if (options.kind == "ebs") mix(*network, graph, calibrator, policy, per_channel);
  return network;
}

/// What CCQ's competition costs: one probe of every layer against as many evaluations of the whole network,
/// both on one batch.
void measure_probes(const BenchOptions& options) {
  torch::set_num_threads(options.machine.resolved_threads());
  const data::Dataset dataset = random_dataset(options.batch);
  const data::Normalization normalization = data::default_normalization(kChannels);
  const std::unique_ptr<train::Network> network = make_network(options, dataset, normalization);
  const auto batch =
      train::calibration_batches(dataset, data::all_indices(dataset.num_samples(data::Split::kTrain)),
                                 normalization, options.batch, options.batch, 0);
  std::vector<train::Network::LayerChange> changes;
  const compile::Quantizers quantizers = network->quantizers();
  for (const plan::LayerPlan& layer : network->plan().layers)
    changes.push_back({layer, quantizers.layers.at(layer.name)});
  const torch::NoGradGuard no_grad;
  const auto timed = [](const auto& work) {
    const auto start = Clock::now();
    work();
    return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
  };
  std::vector<double> whole, round;
  for (int step = -1; step < std::max(1, options.steps / 4); ++step) {
    const double evaluation_ms = timed([&] { network->forward(batch.at(0)); });
    const double round_ms = timed([&] { network->forward_changed(batch.at(0), changes); });
    if (step < 0) continue;  // warming up
    whole.push_back(evaluation_ms);
    round.push_back(round_ms);
  }
  const double evaluation_ms = cli::quantile(whole, 0.5), round_ms = cli::quantile(round, 0.5);
  cli::write_json(
      {{"layers", changes.size()},
       {"evaluation_ms", evaluation_ms},
       {"round_ms", round_ms},
       {"evaluations_per_layer", round_ms / evaluation_ms / static_cast<double>(changes.size())}});
}

/// The measuring process: trains for some steps and prints their times and the peak memory.
void measure_kind(const BenchOptions& options) {
  torch::set_num_threads(options.machine.resolved_threads());
  const data::Dataset dataset = random_dataset(8 * options.batch);
  const data::Normalization normalization = data::default_normalization(kChannels);
  const std::unique_ptr<train::Network> network = make_network(options, dataset, normalization);
  train::TrainOptions training;
  training.batch = options.batch;
  training.epochs = 1 + (options.warm_up + options.steps) / 8;
  train::Trainer trainer(*network, dataset, data::all_indices(dataset.num_samples(data::Split::kTrain)),
                         normalization, training);
  std::vector<double> times;
  for (int step = -options.warm_up; step < options.steps; ++step) {
    const auto start = Clock::now();
    trainer.step();
    if (step >= 0) times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  }
  cli::write_json({{"ms", times}, {"peak_mib", cli::peak_memory_mib()}});
}

/// Standard output of this program run again with `arguments`.
std::string run_again(const std::vector<std::string>& arguments) {
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  int ends[2];
  if (pipe(ends) != 0) fail(ErrorCode::kIo, "cannot make a pipe: {}", std::strerror(errno));
  const pid_t child = fork();
  if (child < 0) fail(ErrorCode::kIo, "cannot start a process: {}", std::strerror(errno));
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    execv("/proc/self/exe", argv.data());
    _exit(127);
  }
  close(ends[1]);
  std::string output;
  std::array<char, 4096> buffer;
  for (ssize_t got; (got = read(ends[0], buffer.data(), buffer.size())) > 0;)
    output.append(buffer.data(), static_cast<size_t>(got));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (status != 0)
    fail(ErrorCode::kJobFailed,
         "the process that measures a kind of step failed with wait status {}; its message is above", status);
  return output;
}

struct Result {
  std::vector<double> ms;
  double peak_mib = 0;
};

/// What this program prints as a process of its own that measures `kind`.
Json measured(const BenchOptions& options, const std::string& kind) {
  return Json::parse(
      run_again({"training_bench", "--kind", kind, "--batch", std::to_string(options.batch), "--warm-up",
                 std::to_string(options.warm_up), "--steps", std::to_string(options.steps), "--bits",
                 std::to_string(options.bits), "--policy", options.policy, "--threads",
                 std::to_string(options.machine.resolved_threads())}));
}

void measure_round(const BenchOptions& options, const std::string& kind, Result& result) {
  const Json found = measured(options, kind);
  for (const Json& ms : found.at("ms")) result.ms.push_back(ms.get<double>());
  result.peak_mib = std::max(result.peak_mib, found.at("peak_mib").get<double>());
}

void report(const BenchOptions& options, const std::array<Result, kKinds.size()>& results) {
  const int threads = options.machine.resolved_threads();
  cli::TextTable table({"step", ">ms", ">over float", ">peak MiB", ">over float"});
  Json rows = Json::array();
  const double float_ms = cli::quantile(results[0].ms, 0.5), float_mib = results[0].peak_mib;
  for (size_t k = 0; k < kKinds.size(); ++k) {
    const double ms = cli::quantile(results[k].ms, 0.5), mib = results[k].peak_mib;
    table.add({kKinds[k], fmt::format("{:.1f}", ms), fmt::format("{:.2f}", ms / float_ms),
               fmt::format("{:.0f}", mib), fmt::format("{:.2f}", mib / float_mib)});
    rows.push_back({{"step", kKinds[k]},
                    {"ms", ms},
                    {"peak_mib", mib},
                    {"time_over_float", ms / float_ms},
                    {"memory_over_float", mib / float_mib}});
  }
  cli::write_stderr_line(fmt::format("ResNet-20, batch {}, {} threads, qat: {} bits, {}; median of {} steps",
                                     options.batch, threads, options.bits, options.policy,
                                     results[0].ms.size()));
  std::string text = table.to_string();
  text.pop_back();
  cli::write_stderr_line(text);
  const Json probes = measured(options, "probe");
  cli::write_stderr_line(
      fmt::format("probing all {} layers of a plan: {:.1f} ms, {:.2f} evaluations per layer",
                  probes.at("layers").get<int>(), probes.at("round_ms").get<double>(),
                  probes.at("evaluations_per_layer").get<double>()));
  cli::write_json({{"rows", rows},
                   {"probe", probes},
                   {"cpu", cpu_name()},
                   {"threads", threads},
                   {"batch", options.batch},
                   {"bits", options.bits},
                   {"policy", options.policy}});
}

void run(const BenchOptions& options) {
  quant::parse_policy(options.policy);
  if (!options.kind.empty()) {
    options.kind == "probe" ? measure_probes(options) : measure_kind(options);
    return;
  }
  std::array<Result, kKinds.size()> results;
  for (int round = 0; round < options.rounds; ++round) {
    cli::write_stderr_line(fmt::format("measuring, round {} of {}", round + 1, options.rounds));
    for (size_t k = 0; k < kKinds.size(); ++k) measure_round(options, kKinds[k], results[k]);
  }
  report(options, results);
}

int main_checked(int argc, char** argv) {
  BenchOptions options;
  CLI::App app("Measures a training step of ResNet-20 at 32x32: float, quantization-aware and ebs");
  app.add_option("--batch", options.batch, "Images per step")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app.add_option("--bits", options.bits, "Weight and activation bits of the qat step")
      ->check(CLI::Range(1, 8))
      ->capture_default_str();
  app.add_option("--policy", options.policy, "Quantizers of the qat step: dorefa, pact, sawb, lsq, wrpn")
      ->capture_default_str();
  app.add_option("--steps", options.steps, "Measured steps per process")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  app.add_option("--warm-up", options.warm_up, "Steps before them")
      ->check(CLI::Range(0, 100000))
      ->capture_default_str();
  app.add_option("--rounds", options.rounds, "Processes per kind of step, taking turns")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--kind", options.kind, "Measure this kind in this process and print the raw times")
      ->check(CLI::IsMember({"float", "qat", "ebs", "probe"}));
  cli::add_threads_option(app, options.machine);
  app.add_flag_callback(
      "--quick", [&] { options.batch = 8, options.warm_up = 1, options.steps = 2, options.rounds = 1; },
      "Only show that it works");
  CLI11_PARSE(app, argc, argv);
  try {
    run(options);
  } catch (const Error& error) {
    cli::write_stderr_line(std::string("training_bench: error: ") + error.what());
    return exit_status(error.code());
  }
  return 0;
}

}  // namespace
}  // namespace bitstrata

int main(int argc, char** argv) {
  return bitstrata::main_checked(argc, argv);
}
