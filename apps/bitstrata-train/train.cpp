#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "common/commands.h"
#include "common/interrupt.h"
#include "common/option_checks.h"
#include "common/progress.h"
#include "core/error.h"
#include "core/file.h"
#include "job.h"
#include "onnx/export.h"
#include "onnx/import.h"
#include "train/architectures.h"
#include "train/checkpoint.h"
#include "train/network.h"
#include "training_loop.h"

namespace bitstrata::cli {
namespace {

struct FloatTraining {
  JobOptions job;
  std::filesystem::path checkpoint() const { return job.out + ".ckpt"; }
};

train::TrainOptions defaults_for_float(bool from_scratch) {
  train::TrainOptions options;
  options.epochs = from_scratch ? 20 : 5;
  options.learning_rate = from_scratch ? 0.1 : 0.01;
  options.weight_decay = 5e-4;
  options.warmup_epochs = 1;
  return options;
}

/// The network to train: a built-in one fitted to the data, or a file.
graph::Graph start_network(const FloatTraining& options, const data::Dataset& dataset,
                           const data::Normalization& normalization) {
  const auto& shape = dataset.shape();
  graph::Graph graph = train::make_architecture(options.job.model, shape.channels, shape.height, shape.width,
                                                dataset.num_classes(), options.job.seed);
  graph.mean = normalization.mean;
  graph.std = normalization.std;
  graph.class_names = dataset.class_names();
  return graph;
}

double test_accuracy(train::Network& network, const Workbench& bench, bool quiet) {
  const auto indices = data::all_indices(bench.dataset->num_samples(data::Split::kTest));
  Progress progress("test accuracy", indices.size(), "images", quiet);
  return train::evaluate([&](const torch::Tensor& x) { return network.forward(x.to(bench.device)); },
                         *bench.dataset, data::Split::kTest, indices, bench.normalization, 100,
                         [&](int64_t done) { progress.update(static_cast<uint64_t>(done)); })
      .accuracy;
}

void run_train(const FloatTraining& options) {
  const JobOptions& job = options.job;
  check_writable(job.out);
  catch_interrupts();
  const auto names = train::architecture_names();
  const bool built_in = std::find(names.begin(), names.end(), job.model) != names.end();
  Workbench bench;
  if (built_in) {
    bench.device = prepare_torch(job.device, job.machine);
    bench.dataset.emplace(
        load_dataset(job.data, {}, true, true, job.machine.resolved_threads(), job.output.quiet));
    bench.normalization = resolve_normalization(job.data, {}, {}, bench.dataset->shape().channels);
    bench.graph = start_network(options, *bench.dataset, bench.normalization);
  } else {
    if (!std::filesystem::exists(job.model)) {
      fail(ErrorCode::kIo, "train: '{}' is neither a file nor a built-in network ({})", job.model,
           fmt::join(names, ", "));
    }
    bench =
        open_workbench(job.model, job.data, job.machine, job.device, job.seed, true, true, job.output.quiet);
  }
  train::Network network(bench.graph, plan::uniform_plan(bench.graph, 0, 0, quant::Policy::kLsq, false), {},
                         bench.device);
  const train::TrainOptions training =
      resolve_training(job.training, defaults_for_float(built_in), *bench.dataset, job.seed);
  // Nothing is chosen by held-out accuracy here, so all training images are used.
  train::Trainer trainer(network, *bench.dataset,
                         data::all_indices(bench.dataset->num_samples(data::Split::kTrain)),
                         bench.normalization, training);
  if (job.resume && std::filesystem::exists(options.checkpoint()))
    trainer.restore(train::read_checkpoint(options.checkpoint()));
  run_training(
      trainer, training, job.training.checkpoint_seconds, job.output.quiet,
      {[&] { train::write_checkpoint(options.checkpoint(), trainer.save()); },
       [&](const train::TrainStatus& now) {
         if (job.output.quiet) return;
         write_stderr_line(fmt::format("epoch {}/{}: loss {:.4f}, training {:.2f} %", trainer.epochs_done(),
                                       training.epochs, now.loss, 100 * now.accuracy));
       },
       {},
       fmt::format("saved {}; run the same command with --resume to go on", options.checkpoint().string())});
  if (training.average_share > 0) {
    trainer.apply_average();
    train::reestimate_batch_norms(
        network, train::calibration_batches(
                     *bench.dataset, data::all_indices(bench.dataset->num_samples(data::Split::kTrain)),
                     bench.normalization, 4096, training.batch, job.seed + 1));
  }
  onnx::export_float(network.to_graph(), job.out);
  std::error_code ignored;
  std::filesystem::remove(options.checkpoint(), ignored);
  const double accuracy = test_accuracy(network, bench, job.output.quiet);
  const auto images = bench.dataset->num_samples(data::Split::kTest);
  if (job.output.json)
    write_json({{"accuracy", accuracy}, {"images", images}, {"model", job.out}});
  else
    write_stdout(fmt::format("{}: {:.2f} % of {} test images\n", job.out, 100 * accuracy, images));
}

}  // namespace

void add_train(CLI::App& app) {
  auto options = std::make_shared<FloatTraining>();
  JobOptions& job = options->job;
  CLI::App& command = *app.add_subcommand("train", train_command_description("train"));
  command
      .add_option(
          "network", job.model,
          fmt::format("{}, or an .onnx file to train further", fmt::join(train::architecture_names(), ", ")))
      ->type_name("ARCH|MODEL")
      ->required();
  command.add_option("--out", job.out, "The trained network, .onnx")->type_name("FILE")->required();
  add_data_options(command, job.data);
  command.add_option("--seed", job.seed, "Seed of everything random")->take_last()->capture_default_str();
  command.add_option("--device", job.device, "cpu or cuda")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  command.add_flag("--resume", job.resume, "Go on from the checkpoint beside --out");
  add_training_options(command, job.training);
  add_threads_option(command, job.machine);
  add_output_options(command, job.output);
  command.footer(examples({"bitstrata train lenet --data digits --out model.onnx",
                           "bitstrata train resnet20 --data folder:DIR --out resnet20.onnx",
                           "bitstrata train model.onnx --data digits --lr 0.005 --out better.onnx"}));
  command.callback([options] { run_train(*options); });
}

}  // namespace bitstrata::cli
