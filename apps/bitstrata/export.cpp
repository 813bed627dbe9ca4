#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "commands.h"
#include "common/model.h"
#include "common/option_checks.h"
#include "common/output.h"
#include "common/progress.h"
#include "core/error.h"
#include "core/file.h"
#include "onnx/export_qdq.h"
#include "onnx/export_qonnx.h"

namespace bitstrata::cli {
namespace {

struct ExportOptions {
  std::string model, format, out;
  int opset = 0;  ///< 0: the format's default
  OutputOptions output;
};

void run_export(const ExportOptions& options) {
  check_writable(options.out);
  std::optional<Waiting> waiting(std::in_place, "export", options.output.quiet);
  const NetworkFile network = load_network(options.model);
  if (!network.is_quantized) {
    fail(ErrorCode::kBadInput,
         "{} is a float network, expected a packed one (model.bst of compress or compile)",
         printable(options.model));
  }
  const bool is_qdq = options.format == "qdq";
  const int opset =
      options.opset > 0 ? options.opset : (is_qdq ? onnx::kQdqDefaultOpset : onnx::kQonnxDefaultOpset);
  const auto summary = is_qdq ? onnx::export_qdq(network.program, options.out, opset)
                              : onnx::export_qonnx(network.program, options.out, opset);
  waiting.reset();
  if (options.output.json) {
    write_json({{"file", options.out},
                {"format", options.format},
                {"opset", summary.opset},
                {"file_bytes", summary.bytes}});
    return;
  }
  write_stdout(fmt::format("{}: {}, opset {}, {} bytes ({} packed)\n", printable(options.out, 1000),
                           options.format, summary.opset, summary.bytes, network.file_bytes));
}

}  // namespace

void add_export(CLI::App& app) {
  auto options = std::make_shared<ExportOptions>();
  CLI::App& command =
      *app.add_subcommand("export", "Write a packed network as quantized ONNX for other runtimes");
  command.add_option("model", options->model, "Packed network, .bst")->type_name("MODEL")->required();
  command
      .add_option("--format", options->format,
                  "qdq: QuantizeLinear and DequantizeLinear; qonnx: Quant nodes of FINN, hls4ml and qonnx")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"qdq", "qonnx"}))
      ->required();
  command
      .add_option(
          "--opset", options->opset,
          "ONNX opset, 13 to 25; default 21 for qdq (4-bit weights from 21, 2-bit from 25), 13 for qonnx")
      ->type_name("N")
      ->check(CLI::Range(13, 25));
  command.add_option("--out", options->out, "File to write")->type_name("FILE")->required();
  add_output_options(command, options->output);
  command.footer(examples({"bitstrata export job/model.bst --format qdq --out job/model.qdq.onnx",
                           "bitstrata export job/model.bst --format qonnx --out job/model.qonnx.onnx"}));
  command.callback([options] { run_export(*options); });
}

}  // namespace bitstrata::cli
