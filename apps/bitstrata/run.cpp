#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "commands.h"
#include "common/data_options.h"
#include "common/model.h"
#include "common/option_checks.h"
#include "common/output.h"
#include "common/progress.h"
#include "common/settings.h"
#include "core/error.h"
#include "data/input.h"
#include "runtime/session.h"

namespace bitstrata::cli {
namespace {

struct RunOptions {
  std::string model;
  std::vector<std::string> inputs;
  int top = 5;
  int batch = 1;
  DataOptions data;
  MachineOptions machine;
  OutputOptions output;
};

/// What the network says about one image.
struct Prediction {
  std::string input;
  std::vector<float> logits;
  std::vector<double> scores;  ///< softmax of the logits
  std::vector<size_t> top;     ///< classes, best first
};

std::vector<double> softmax(std::span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  std::vector<double> scores;
  for (float logit : logits) scores.push_back(std::exp(static_cast<double>(logit) - largest));
  const double sum = std::accumulate(scores.begin(), scores.end(), 0.0);
  for (double& score : scores) score /= sum;
  return scores;
}

Prediction predict(std::string input, std::span<const float> logits, int top) {
  for (float logit : logits) {
    if (!std::isfinite(logit))
      fail(ErrorCode::kJobFailed, "the network yields {} for {}: its weights are broken", logit,
           printable(input));
  }
  Prediction prediction{
      std::move(input), {logits.begin(), logits.end()}, softmax(logits), std::vector<size_t>(logits.size())};
  std::iota(prediction.top.begin(), prediction.top.end(), size_t{0});
  std::stable_sort(prediction.top.begin(), prediction.top.end(),
                   [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  prediction.top.resize(std::min(prediction.top.size(), static_cast<size_t>(top)));
  return prediction;
}

std::string class_name(const program::Program& program, size_t index) {
  return index < program.class_names.size() ? program.class_names[index] : std::to_string(index);
}

nlohmann::ordered_json to_json(const program::Program& program, const std::vector<Prediction>& predictions) {
  auto outputs = nlohmann::ordered_json::array();
  for (const Prediction& prediction : predictions) {
    auto top = nlohmann::ordered_json::array();
    for (size_t index : prediction.top) {
      top.push_back(
          {{"class", index}, {"name", class_name(program, index)}, {"score", prediction.scores[index]}});
    }
    outputs.push_back({{"input", prediction.input}, {"top", top}, {"logits", prediction.logits}});
  }
  return {{"outputs", outputs}};
}

std::string to_text(const program::Program& program, const std::vector<Prediction>& predictions) {
  std::string text;
  for (const Prediction& prediction : predictions) {
    text += printable(prediction.input, 1000) + "\n";
    for (size_t index : prediction.top) {
      text += fmt::format("  {:6.2f} %  {}\n", 100 * prediction.scores[index],
                          printable(class_name(program, index)));
    }
  }
  return text;
}

std::vector<Prediction> run_file(runtime::Session& session, const std::string& path,
                                 const data::ImageShape& shape, const data::Normalization& normalization,
                                 const RunOptions& options) {
  const data::Input input = data::load_input(path, shape, normalization);
  const auto classes = static_cast<size_t>(num_outputs(session.model().program()));
  const size_t image_elems = shape.num_elems();
  std::vector<float> logits(static_cast<size_t>(options.batch) * classes);
  std::vector<Prediction> predictions;
  for (int64_t first = 0; first < input.count; first += options.batch) {
    const auto n = static_cast<size_t>(std::min<int64_t>(options.batch, input.count - first));
    const auto batch =
        std::span(input.values).subspan(static_cast<size_t>(first) * image_elems, n * image_elems);
    session.run(batch, static_cast<int>(n), std::span(logits).first(n * classes));
    for (size_t i = 0; i < n; ++i) {
      const size_t row = static_cast<size_t>(first) + i;
      const std::string name = input.count == 1 ? path : fmt::format("{}[{}]", path, row);
      predictions.push_back(predict(name, std::span(logits).subspan(i * classes, classes), options.top));
    }
  }
  return predictions;
}

void run_run(const RunOptions& options) {
  const auto runtime_options = options.machine.runtime_options(options.batch);
  std::optional<Waiting> waiting(std::in_place, "run", options.output.quiet);
  NetworkFile network = load_network(options.model);
  const auto shape = image_shape(network.program.tensors[static_cast<size_t>(network.program.input)].dims);
  const auto normalization =
      resolve_normalization(options.data, network.program.mean, network.program.std, shape.channels);
  num_outputs(network.program);

  runtime::Session session(runtime::Model::prepare(std::move(network.program), runtime_options));
  std::vector<Prediction> predictions;
  for (const std::string& path : options.inputs) {
    std::ranges::move(run_file(session, path, shape, normalization, options),
                      std::back_inserter(predictions));
  }
  waiting.reset();
  const auto& program = session.model().program();
  options.output.json ? write_json(to_json(program, predictions))
                      : write_stdout(to_text(program, predictions));
}

}  // namespace

void add_run(CLI::App& app) {
  auto options = std::make_shared<RunOptions>();
  CLI::App& command = *app.add_subcommand("run", "Classify images or tensors");
  command.add_option("model", options->model, "Network, .onnx or .bst")->type_name("MODEL")->required();
  command
      .add_option("inputs", options->inputs,
                  "Images (jpeg, png), or .npy tensors: [C,H,W] or [N,C,H,W], float32, normalised")
      ->type_name("INPUT")
      ->required();
  command.add_option("--top", options->top, "Classes to name for each input")
      ->type_name("K")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  add_normalization_options(command, options->data);
  add_batch_option(command, options->batch);
  add_machine_options(command, options->machine);
  add_output_options(command, options->output);
  command.footer(
      examples({"bitstrata run job/model.bst cat.png --top 3", "bitstrata run model.onnx cat.npy --json"}));
  command.callback([options] { run_run(*options); });
}

}  // namespace bitstrata::cli
