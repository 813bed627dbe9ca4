#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "commands.h"
#include "common/model.h"
#include "common/option_checks.h"
#include "common/output.h"
#include "common/progress.h"
#include "common/settings.h"
#include "core/error.h"
#include "problem.h"
#include "runtime/session.h"

namespace bitstrata::cli {
namespace {

struct InspectOptions {
  std::string model;
  bool explain = false;
  MachineOptions machine;
  OutputOptions output;
};

/// One line of the listing.
struct Layer {
  std::string name, op, kernel;
  program::Dims dims;
  OpBits bits;
  int64_t macs = 0;
  size_t weight_elems = 0, weight_bytes = 0;
  std::vector<kernels::Verdict> verdicts;  ///< only of quantized layers, when asked for
};

struct Totals {
  size_t weight_elems = 0, weight_bytes = 0;
  double weight_bits = 0, macs = 0, bitops = 0;

  double compression() const {
    return weight_bytes == 0 ? 1
                             : 4.0 * static_cast<double>(weight_elems) / static_cast<double>(weight_bytes);
  }
  double avg_weight_bits() const {
    return weight_elems == 0 ? 0 : weight_bits / static_cast<double>(weight_elems);
  }
};

/// Puts what was measured in the place of what was expected.
void judge_by_times(const runtime::Model& model, size_t op, std::vector<kernels::Verdict>& verdicts) {
  const auto& times = model.kernel_times(op);
  if (times.empty()) return;
  for (kernels::Verdict& verdict : verdicts) {
    verdict.chosen = verdict.entry->name == model.kernel_name(op);
    if (verdict.refused) continue;
    const auto time = std::ranges::find(times, verdict.entry, &runtime::KernelTime::entry);
    verdict.reason = verdict.chosen ? ""
                     : time == times.end()
                         ? "not measured: its estimate is far behind"
                         : fmt::format("measured slower: {:.2f} us against {:.2f} us of {}", time->us,
                                       times.front().us, times.front().entry->name);
  }
}

std::vector<Layer> list_layers(const runtime::Model& model, bool explain) {
  const program::Program& program = model.program();
  std::vector<Layer> layers;
  for (size_t i = 0; i < program.ops.size(); ++i) {
    const program::Op& op = program.ops[i];
    Layer layer{op.name,
                program::to_string(op.kind),
                model.kernel_name(i),
                program.tensors[static_cast<size_t>(op.outputs[0])].dims,
                op_bits(program, op),
                program::macs(program, op),
                weight_elems(program, op),
                weight_bytes(op),
                {}};
    if (const auto problem = explain ? conv_problem(program, op) : std::nullopt) {
      layer.verdicts = kernels::explain_conv(*problem, model.options().isa);
      judge_by_times(model, i, layer.verdicts);
    }
    layers.push_back(std::move(layer));
  }
  return layers;
}

Totals sum(const std::vector<Layer>& layers) {
  Totals totals;
  for (const Layer& layer : layers) {
    totals.weight_elems += layer.weight_elems;
    totals.weight_bytes += layer.weight_bytes;
    totals.weight_bits += static_cast<double>(layer.weight_elems) * layer.bits.w_bits;
    totals.macs += static_cast<double>(layer.macs);
    totals.bitops += static_cast<double>(layer.macs) * layer.bits.w_bits * layer.bits.a_bits;
  }
  return totals;
}

nlohmann::ordered_json tensor_json(const program::Program& program, program::TensorId id) {
  const program::Tensor& tensor = program.tensors[static_cast<size_t>(id)];
  return {{"name", tensor.name}, {"dims", tensor.dims}};
}

nlohmann::ordered_json layer_json(const Layer& layer, bool explain) {
  nlohmann::ordered_json object = {{"name", layer.name},
                                   {"op", layer.op},
                                   {"dims", layer.dims},
                                   {"w_bits", layer.bits.w_bits},
                                   {"a_bits", layer.bits.a_bits},
                                   {"macs", layer.macs},
                                   {"weights", layer.weight_elems},
                                   {"weight_bytes", layer.weight_bytes},
                                   {"kernel", layer.kernel}};
  if (!explain) return object;
  auto kernels = nlohmann::ordered_json::array();
  for (const auto& verdict : layer.verdicts) {
    kernels.push_back(
        {{"kernel", verdict.entry->name}, {"chosen", verdict.chosen}, {"reason", verdict.reason}});
  }
  object["kernels"] = kernels;
  return object;
}

nlohmann::ordered_json to_json(const NetworkFile& file, const runtime::Model& model,
                               const std::vector<Layer>& layers, bool explain) {
  const program::Program& program = model.program();
  const Totals totals = sum(layers);
  auto outputs = nlohmann::ordered_json::array(), list = nlohmann::ordered_json::array();
  for (program::TensorId id : program.outputs) outputs.push_back(tensor_json(program, id));
  for (const Layer& layer : layers) list.push_back(layer_json(layer, explain));
  return {{"file", file.path.string()},
          {"format", file.is_packed ? "bst" : "onnx"},
          {"file_bytes", file.file_bytes},
          {"input", tensor_json(program, program.input)},
          {"outputs", outputs},
          {"classes", program.class_names},
          {"mean", program.mean},
          {"std", program.std},
          {"metadata", program.metadata},
          {"isa", to_string(model.options().isa)},
          {"layers", list},
          {"totals",
           {{"weights", totals.weight_elems},
            {"weight_bytes", totals.weight_bytes},
            {"compression", totals.compression()},
            {"avg_weight_bits", totals.avg_weight_bits()},
            {"macs", totals.macs},
            {"bitops", totals.bitops},
            {"arena_bytes", model.arena_bytes()}}}};
}

std::string tensor_text(const program::Program& program, program::TensorId id) {
  const program::Tensor& tensor = program.tensors[static_cast<size_t>(id)];
  return fmt::format("{} [{}]", printable(tensor.name, 60), fmt::join(tensor.dims, ", "));
}

std::string head_text(const NetworkFile& file, const program::Program& program) {
  std::string text = fmt::format("{}: {}, {} bytes\n", printable(file.path.string(), 1000),
                                 file.is_packed      ? "packed network"
                                 : file.is_quantized ? "quantized network"
                                                     : "float network",
                                 file.file_bytes);
  text += fmt::format("input    {}\n", tensor_text(program, program.input));
  for (program::TensorId id : program.outputs) text += fmt::format("output   {}\n", tensor_text(program, id));
  if (!program.mean.empty())
    text += fmt::format("pixels   (x / 255 - {}) / {}\n", fmt::join(program.mean, " "),
                        fmt::join(program.std, " "));
  std::string classes;
  for (const std::string& name : program.class_names) classes += " " + printable(name, 60);
  if (!classes.empty()) text += "classes " + printable(classes, 1000) + "\n";
  for (const auto& [key, value] : program.metadata)
    text += fmt::format("{:<8} {}\n", printable(key, 60), printable(value));
  return text + "\n";
}

std::string layers_text(const std::vector<Layer>& layers) {
  TextTable table({"layer", "op", "output", ">w bits", ">a bits", ">MACs", ">weight bytes", "kernel"});
  const auto or_dash = [](auto count) { return count ? std::to_string(count) : std::string("-"); };
  for (const Layer& layer : layers) {
    table.add({printable(layer.name, 60), layer.op, fmt::format("{}", fmt::join(layer.dims, "x")),
               or_dash(layer.bits.w_bits), std::to_string(layer.bits.a_bits), or_dash(layer.macs),
               or_dash(layer.weight_bytes), layer.kernel});
  }
  return table.to_string();
}

std::string totals_text(const std::vector<Layer>& layers, size_t arena_bytes) {
  const Totals totals = sum(layers);
  return fmt::format(
      "\n{} weights in {} bytes ({:.2f}x smaller than 32-bit, {:.2f} bits on average), {:.4g} M MACs, {:.4g} "
      "G bit operations, "
      "{} bytes of working memory\n",
      totals.weight_elems, totals.weight_bytes, totals.compression(), totals.avg_weight_bits(),
      totals.macs / 1e6, totals.bitops / 1e9, arena_bytes);
}

std::string verdicts_text(const std::vector<Layer>& layers) {
  std::string text;
  for (const Layer& layer : layers) {
    if (layer.verdicts.empty()) continue;
    text += fmt::format("\n{} ({}, W{}A{})\n", printable(layer.name, 60), layer.op, layer.bits.w_bits,
                        layer.bits.a_bits);
    for (const auto& verdict : layer.verdicts) {
      text += fmt::format("  {:<28} {}\n", verdict.entry->name,
                          verdict.chosen    ? "chosen"
                          : verdict.refused ? "refused: " + verdict.reason
                                            : verdict.reason);
    }
  }
  return text;
}

void run_inspect(const InspectOptions& options) {
  const auto runtime_options = options.machine.runtime_options(1);
  std::optional<Waiting> waiting(std::in_place, "reading the network and choosing its kernels",
                                 options.output.quiet);
  NetworkFile file = load_network(options.model);
  const auto model = runtime::Model::prepare(std::move(file.program), runtime_options);
  const auto layers = list_layers(*model, options.explain);
  waiting.reset();
  if (options.output.json) {
    write_json(to_json(file, *model, layers, options.explain));
    return;
  }
  write_stdout(head_text(file, model->program()) + layers_text(layers) +
               totals_text(layers, model->arena_bytes()) + verdicts_text(layers));
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App& command =
      *app.add_subcommand("inspect", "List the layers of a network with bits, sizes and kernels");
  command.add_option("model", options->model, "Network, .onnx or .bst")->type_name("MODEL")->required();
  command.add_flag("--explain", options->explain, "Also say why each kernel was chosen or refused");
  add_machine_options(command, options->machine);
  add_output_options(command, options->output);
  command.footer(examples({"bitstrata inspect model.onnx", "bitstrata inspect job/model.bst --explain"}));
  command.callback([options] { run_inspect(*options); });
}

}  // namespace bitstrata::cli
