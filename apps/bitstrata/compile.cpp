#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "commands.h"
#include "common/commands.h"
#include "common/option_checks.h"
#include "common/output.h"
#include "common/progress.h"
#include "compile/lower.h"
#include "core/error.h"
#include "core/file.h"
#include "format/bst.h"
#include "onnx/import.h"
#include "plan/scheme.h"

namespace bitstrata::cli {
namespace {

struct CompileOptions {
  std::string network, out;
  OutputOptions output;
};

/// A job's network is a checkpoint of LibTorch's.
[[noreturn]] void compile_job(const std::string& folder) {
  std::string arguments[] = {"bitstrata", "compile", folder};
  char* argv[] = {arguments[0].data(), arguments[1].data(), arguments[2].data(), nullptr};
  become_train_executable(argv);
}

void run_compile(const CompileOptions& options) {
  if (std::filesystem::is_directory(options.network)) {
    if (!options.out.empty() || options.output.json)
      fail(ErrorCode::kInvalidArgument,
           "compile: a job is packed as its model.bst, without --out and --json");
    compile_job(options.network);
  }
  std::optional<Waiting> waiting(std::in_place, "compile", options.output.quiet);
  onnx::Options reading;
  reading.quantizers = true;
  const graph::Graph graph = onnx::import_file(options.network, reading);
  if (!graph::has_quantizers(graph)) {
    fail(ErrorCode::kBadInput,
         "{} has no quantizers, expected a quantized network (QDQ or QONNX); 'bitstrata compress' chooses "
         "bits "
         "for a float one",
         printable(options.network));
  }
  if (options.out.empty())
    fail(ErrorCode::kInvalidArgument,
         "compile: --out FILE is missing, expected where to write the packed network");
  check_writable(options.out);
  auto [program, float_layers] = compile::lower_quantized(graph);
  program.metadata["method"] = "imported";
  format::write(options.out, program);
  const size_t layers = plan::quantizable_layers(graph).size();
  const auto bytes = std::filesystem::file_size(options.out);
  waiting.reset();
  if (options.output.json) {
    auto list = nlohmann::ordered_json::array();
    for (const auto& layer : float_layers) list.push_back({{"name", layer.name}, {"reason", layer.reason}});
    write_json({{"file", options.out}, {"file_bytes", bytes}, {"layers", layers}, {"float_layers", list}});
    return;
  }
  write_stdout(fmt::format("{}: {} bytes, {} of {} layers on codes\n", printable(options.out, 1000), bytes,
                           layers - float_layers.size(), layers));
  for (const auto& layer : float_layers)
    write_stdout(fmt::format("{} stays float: {}\n", printable(layer.name, 200), layer.reason));
}

}  // namespace

void add_compile(CLI::App& app) {
  auto options = std::make_shared<CompileOptions>();
  CLI::App& command = *app.add_subcommand("compile", train_command_description("compile"));
  command
      .add_option("network", options->network,
                  "Network that other tools quantized, .onnx (QDQ or QONNX), or folder of a fine-tuned job")
      ->type_name("NETWORK")
      ->required();
  command.add_option("--out", options->out, "File to write; a job's is its model.bst")->type_name("FILE");
  add_output_options(command, options->output);
  command.footer(
      examples({"bitstrata compile tuned", "bitstrata compile job/model.qdq.onnx --out imported.bst"}));
  command.callback([options] { run_compile(*options); });
}

}  // namespace bitstrata::cli
