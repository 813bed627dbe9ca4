#include "stages.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "common/interrupt.h"
#include "common/progress.h"
#include "compile/quantizers_json.h"
#include "core/error.h"
#include "core/file.h"
#include "evaluators/deployed.h"
#include "format/bst.h"
#include "onnx/export.h"
#include "onnx/import.h"
#include "train/calibrate.h"
#include "train/checkpoint.h"
#include "train/exact.h"
#include "train/network.h"
#include "training_loop.h"

namespace bitstrata::cli {
namespace {

constexpr int kEvaluationBatch = 100;

void stop_if_interrupted(const Job& job) {
  if (interrupted()) fail(ErrorCode::kInterrupted, "interrupted; {}", job.resume_hint());
}

double measured_accuracy(const std::string& title,
                         const std::function<torch::Tensor(const torch::Tensor&)>& logits,
                         const Workbench& bench, data::Split split, const std::vector<int64_t>& indices,
                         bool quiet) {
  if (indices.empty())
    fail(ErrorCode::kBadInput, "{}: the data has no {} images", title, data::to_string(split));
  Progress progress(title, indices.size(), "images", quiet);
  return train::evaluate(
             logits, *bench.dataset, split, indices, bench.normalization, kEvaluationBatch,
             [&](int64_t done) {
               if (interrupted())
                 fail(ErrorCode::kInterrupted,
                      "interrupted while measuring accuracy; run the same command with --resume to go on");
               progress.update(static_cast<uint64_t>(done));
             })
      .accuracy;
}

/// Fewer bits start further from the float network and need larger steps to get back: 0.004 at 4 bits and
/// more, twice that at 2 bits. Larger ones first undo what calibration gave (ResNet-20 on CIFAR-10 at 2 bits,
/// one epoch: 80.8 % at 0.008, 79.9 % at 0.016, 78.1 % at 0.032).
train::TrainOptions finetune_defaults(const plan::Figures& sum) {
  train::TrainOptions options;
  options.learning_rate = 0.004 * std::exp2(0.5 * (4 - std::clamp(sum.avg_weight_bits, 1.0, 4.0)));
  options.distill_weight = 0.5;
  return options;
}

}  // namespace

std::unique_ptr<train::Network> float_network(const Workbench& bench) {
  return std::make_unique<train::Network>(bench.graph,
                                          plan::uniform_plan(bench.graph, 0, 0, quant::Policy::kLsq, false),
                                          compile::Quantizers{}, bench.device);
}

bool per_channel(const JobOptions& options) {
  const quant::Policy policy = quant::parse_policy(options.policy);
  return options.per_channel.value_or(policy == quant::Policy::kLsq || policy == quant::Policy::kSawb);
}

std::string describe(const plan::Figures& sum) {
  return fmt::format("{:.2f} weight bits, {:.2f} activation bits, {} bytes ({:.2f}x), {:.3f} GBitOPs",
                     sum.avg_weight_bits, sum.avg_activation_bits, sum.weight_bytes, sum.compression,
                     sum.bitops / 1e9);
}

double float_accuracy_stage(Job& job, Workbench& bench) {
  if (job.progress().float_accuracy < 0) {
    const auto network = float_network(bench);
    job.progress().float_accuracy = measured_accuracy(
        "float accuracy", [&](const torch::Tensor& x) { return network->forward(x.to(bench.device)); }, bench,
        data::Split::kTest, data::all_indices(bench.dataset->num_samples(data::Split::kTest)),
        job.options().output.quiet);
    job.save_progress();
    job.log(fmt::format("float network: {:.2f} % of {} test images", 100 * job.progress().float_accuracy,
                        bench.dataset->num_samples(data::Split::kTest)));
  }
  return job.progress().float_accuracy;
}

graph::Graph network_stage(Job& job, const Workbench& bench) {
  const auto path = job.folder().start_network();
  if (!job.options().resume || !std::filesystem::exists(path)) {
    const auto batches =
        train::calibration_batches(*bench.dataset, bench.holdout.train, bench.normalization,
                                   job.options().calibration_images, 128, job.options().seed);
    onnx::export_float(train::with_batch_norms(bench.graph, batches, bench.device), path);
    stop_if_interrupted(job);
  }
  return onnx::import_file(path);  // as read back, so that a resumed job starts from the very same
}

QuantizedNetwork start_stage(Job& job, const Workbench& bench, const graph::Graph& graph,
                             const plan::Plan& plan) {
  const JobFolder& folder = job.folder();
  const auto read = [](const std::filesystem::path& path) {
    return compile::quantizers_from_json(read_text_file(path), path.string());
  };
  if (std::filesystem::exists(folder.searched_network()) &&
      std::filesystem::exists(folder.searched_quantizers())) {
    return {onnx::import_file(folder.searched_network()), read(folder.searched_quantizers())};
  }
  if (!job.options().resume || !std::filesystem::exists(folder.start_quantizers())) {
    const auto batches =
        train::calibration_batches(*bench.dataset, bench.holdout.train, bench.normalization,
                                   job.options().calibration_images, 128, job.options().seed);
    const compile::Quantizers quantizers = train::calibrate(
        graph, plan, batches, quant::parse_calibration(job.options().calibration), bench.device);
    write_file_atomically(folder.start_quantizers(), std::string_view(compile::to_json(quantizers)));
    stop_if_interrupted(job);
  }
  return {graph, read(folder.start_quantizers())};
}

QuantizedNetwork finetune_stage(Job& job, const Workbench& bench, const plan::Plan& plan,
                                const QuantizedNetwork& start) {
  const JobFolder& folder = job.folder();
  const JobOptions& options = job.options();
  if (options.resume && std::filesystem::exists(folder.network()) &&
      std::filesystem::exists(folder.quantizers()))
    return read_trained(folder);

  train::Network network(start.graph, plan, start.quantizers, bench.device);
  const train::TrainOptions training = resolve_training(
      options.training, finetune_defaults(plan::figures(start.graph, plan)), *bench.dataset, options.seed);
  // The bits are chosen: nothing depends on held-out accuracy any more.
  const std::vector<int64_t> indices =
      options.all_images ? data::all_indices(bench.dataset->num_samples(data::Split::kTrain))
                         : bench.holdout.train;
  train::Trainer trainer(network, *bench.dataset, indices, bench.normalization, training,
                         training.follows_teacher() ? float_network(bench) : nullptr);
  if (options.resume && std::filesystem::exists(folder.training())) {
    trainer.restore(train::read_checkpoint(folder.training()));
    job.progress().epochs.resize(
        std::min(job.progress().epochs.size(), static_cast<size_t>(trainer.epochs_done())));
    const train::TrainStatus at = trainer.status();
    job.log(fmt::format("resuming in epoch {} at step {}", at.epoch + 1, at.step));
  }
  const auto save = [&] {
    train::write_checkpoint(folder.training(), trainer.save());
    job.save_progress();
  };
  const auto evaluate_holdout = [&] {
    return measured_accuracy("held-out accuracy",
                             evaluators::deployed_logits(network.lower(), bench.device, kEvaluationBatch),
                             bench, data::Split::kTrain, bench.holdout.val, options.output.quiet);
  };
  if (trainer.epochs_done() == 0 && trainer.at_epoch_start() && !options.all_images) {
    job.log(fmt::format("before training: {:.2f} % of {} held-out images", 100 * evaluate_holdout(),
                        bench.holdout.val.size()));
  }
  const auto after_epoch = [&](const train::TrainStatus& now) {
    std::optional<double> held_out;
    if (!options.all_images) held_out = evaluate_holdout();
    job.progress().epochs.push_back({trainer.epochs_done(), now.loss, now.accuracy, held_out});
    job.save_progress();
    job.log(fmt::format("epoch {}/{}: loss {:.4f}, training {:.2f} %{}", trainer.epochs_done(),
                        training.epochs, now.loss, 100 * now.accuracy,
                        held_out ? fmt::format(", held-out {:.2f} %", 100 * *held_out) : ""));
  };
  run_training(trainer, training, options.training.checkpoint_seconds, options.output.quiet,
               {save, after_epoch, [&] { return job.out_of_time(); }, job.resume_hint()});
  if (!trainer.finished())
    job.log(fmt::format("the time budget ends training after {} of {} epochs", trainer.epochs_done(),
                        training.epochs));
  trainer.apply_average();
  train::reestimate_batch_norms(
      network, train::calibration_batches(*bench.dataset, bench.holdout.train, bench.normalization,
                                          4 * options.calibration_images, training.batch, options.seed + 1));
  const QuantizedNetwork trained{network.to_graph(), network.quantizers()};
  write_file_atomically(folder.quantizers(), std::string_view(compile::to_json(trained.quantizers)));
  onnx::export_float(trained.graph, folder.network());
  return read_trained(folder);
}

QuantizedNetwork read_trained(const JobFolder& folder) {
  return {onnx::import_file(folder.network()),
          compile::quantizers_from_json(read_text_file(folder.quantizers()), folder.quantizers().string())};
}

program::Program compile_stage(Job& job, const plan::Plan& plan, const QuantizedNetwork& network) {
  program::Program program = compile::lower(network.graph, plan, network.quantizers);
  program.metadata["method"] = plan.method;
  program.metadata["policy"] = job.options().policy;
  format::write(job.folder().model(), program);
  return program;
}

double exact_test_accuracy(const Workbench& bench, program::Program program, bool quiet) {
  train::ExactEvaluator exact(std::move(program), bench.device);
  return measured_accuracy(
      "test accuracy", [&](const torch::Tensor& x) { return exact.logits(x); }, bench, data::Split::kTest,
      data::all_indices(bench.dataset->num_samples(data::Split::kTest)), quiet);
}

}  // namespace bitstrata::cli
