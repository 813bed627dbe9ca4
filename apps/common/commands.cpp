#include "common/commands.h"

#include "core/error.h"

namespace bitstrata::cli {
namespace {

constexpr TrainCommand kTrainCommands[] = {
    {"compress", "The main job: choose bits, fine-tune at them, pack, measure"},
    {"train", "Train a float network: a built-in small one, or an ONNX file further"},
    {"search", "First stage of compress: bits for every layer, as plan.json"},
    {"finetune", "Second stage: train at the bits of a plan"},
    {"compile", "Third stage: pack a fine-tuned or quantized network as model.bst", true},
    {"compare", "Run search methods side by side and tabulate accuracy, size and cost"},
    {"verify", "Compare the runtime with the training arithmetic, code for code"},
};

}  // namespace

std::span<const TrainCommand> train_commands() noexcept {
  return kTrainCommands;
}

std::string train_command_description(std::string_view name) {
  for (const TrainCommand& command : kTrainCommands) {
    if (name == command.name) return command.description;
  }
  fail(ErrorCode::kInternal, "no training command is named '{}'", name);
}

std::string passes_options_on_to(std::string_view command) {
  return command == "compare" ? "compress" : "";
}

}  // namespace bitstrata::cli
