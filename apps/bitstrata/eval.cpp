#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "commands.h"
#include "common/data_options.h"
#include "common/evaluate.h"
#include "common/model.h"
#include "common/option_checks.h"
#include "common/output.h"
#include "common/progress.h"
#include "common/settings.h"
#include "core/error.h"
#include "data/batches.h"

namespace bitstrata::cli {
namespace {

struct EvalOptions {
  std::string model, split = "test";
  DataOptions data;
  MachineOptions machine;
  OutputOptions output;
  int batch = 64;
  uint64_t seed = kDefaultSeed;
};

std::vector<int64_t> chosen_images(const EvalOptions& options, const data::Dataset& dataset) {
  if (options.split == "val") return data::holdout(dataset, options.seed, kHoldoutFraction).val;
  return data::all_indices(
      dataset.num_samples(options.split == "test" ? data::Split::kTest : data::Split::kTrain));
}

void print(const EvalOptions& options, const Evaluation& result) {
  if (options.output.json) {
    write_json({{"accuracy", result.accuracy()},
                {"images", result.images},
                {"images_per_second", result.images_per_second()}});
  } else {
    write_stdout(fmt::format("accuracy {:.2f} % ({} of {} images right), {:.0f} images/s\n",
                             100 * result.accuracy(), result.correct, result.images,
                             result.images_per_second()));
  }
}

void run_eval(const EvalOptions& options) {
  const auto runtime_options = options.machine.runtime_options(options.batch);
  NetworkFile network = load_network(options.model);
  const auto shape = image_shape(network.program.tensors[static_cast<size_t>(network.program.input)].dims);
  const auto normalization =
      resolve_normalization(options.data, network.program.mean, network.program.std, shape.channels);
  const int64_t outputs = num_outputs(network.program);

  const bool test = options.split == "test";
  const data::Dataset dataset =
      load_dataset(options.data, shape, !test, test, runtime_options.threads, options.output.quiet);
  check_classes(dataset, network.program.class_names, outputs);

  std::optional<Waiting> waiting(std::in_place, "choosing kernels", options.output.quiet);
  const auto model = runtime::Model::prepare(std::move(network.program), runtime_options);
  waiting.reset();
  const auto split = test ? data::Split::kTest : data::Split::kTrain;
  print(options, evaluate(model, dataset, split, chosen_images(options, dataset), normalization,
                          options.output.quiet));
}

}  // namespace

void add_eval(CLI::App& app) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App& command = *app.add_subcommand("eval", "Measure the accuracy of a network on labelled data");
  command.add_option("model", options->model, "Network, .onnx or .bst")->type_name("MODEL")->required();
  add_data_options(command, options->data);
  command
      .add_option("--split", options->split, "test, train, or val: the part of train that search holds out")
      ->check(CLI::IsMember({"test", "train", "val"}))
      ->capture_default_str();
  command.add_option("--seed", options->seed, "Seed of the job whose val split is meant")
      ->capture_default_str();
  add_batch_option(command, options->batch);
  add_machine_options(command, options->machine);
  add_output_options(command, options->output);
  command.footer(examples({"bitstrata eval job/model.bst --data digits",
                           "bitstrata eval model.onnx --data folder:DIR --split val --json"}));
  command.callback([options] { run_eval(*options); });
}

}  // namespace bitstrata::cli
