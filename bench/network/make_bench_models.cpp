// Low-bit models for the speed benchmark, without training: weights as they are, ranges calibrated on noise.
// Accuracy is not their point; the operations, and so the time, are those of a trained network.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "common/output.h"
#include "core/error.h"
#include "format/bst.h"
#include "onnx/export.h"
#include "onnx/import.h"
#include "train/architectures.h"
#include "train/calibrate.h"

namespace bitstrata {
namespace {

constexpr int kCalibrationImages = 8;

graph::Graph built_in(const std::filesystem::path& float_model) {
  graph::Graph graph = train::make_architecture("resnet20", 3, 32, 32, 10, 0);
  graph::fold_batch_norms(graph);  // as exporters do
  onnx::export_float(graph, float_model);
  return graph;
}

/// Batch norms put back and ranges calibrated, as a fine-tuning job starts.
void write_models(const graph::Graph& network, const std::vector<int>& widths,
                  const std::filesystem::path& folder) {
  std::vector<int64_t> dims{kCalibrationImages};
  for (int64_t dim : network.values[static_cast<size_t>(network.input)].dims) dims.push_back(dim);
  torch::manual_seed(0);
  const std::vector<torch::Tensor> batches{torch::randn(dims)};
  const graph::Graph graph = train::with_batch_norms(network, batches, torch::kCPU);
  for (int bits : widths) {
    const plan::Plan plan = plan::uniform_plan(graph, bits, bits, quant::Policy::kLsq, /*per_channel=*/true);
    const auto quantizers = train::calibrate(graph, plan, batches, quant::Calibration::kMse, torch::kCPU);
    format::write(folder / fmt::format("w{0}a{0}.bst", bits), compile::lower(graph, plan, quantizers));
  }
}

int main_checked(int argc, char** argv) {
  std::string network;
  std::filesystem::path folder;
  std::vector<int> widths;
  CLI::App app("Writes FOLDER/wNaN.bst for each width N, calibrated on noise");
  app.add_option(
         "network", network,
         "An .onnx file, or resnet20 for the built-in one, which is then also written to FOLDER/float.onnx")
      ->required();
  app.add_option("folder", folder, "Where the models go")->required();
  app.add_option("bits", widths, "Widths of weights and activations")->check(CLI::Range(1, 8))->required();
  CLI11_PARSE(app, argc, argv);
  try {
    std::filesystem::create_directories(folder);
    write_models(network == "resnet20" ? built_in(folder / "float.onnx") : onnx::import_file(network), widths,
                 folder);
  } catch (const Error& error) {
    cli::write_stderr_line(std::string("make_bench_models: error: ") + error.what());
    return exit_status(error.code());
  }
  return 0;
}

}  // namespace
}  // namespace bitstrata

int main(int argc, char** argv) {
  return bitstrata::main_checked(argc, argv);
}
