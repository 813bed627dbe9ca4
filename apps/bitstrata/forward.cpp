#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "commands.h"
#include "common/commands.h"
#include "core/error.h"

namespace bitstrata::cli {
namespace {

bool is_train_command(std::string_view name) {
  return std::ranges::any_of(train_commands(), [&](const TrainCommand& command) {
    return name == command.name && !command.is_shared;
  });
}

/// Where bitstrata-train may lie: as installed, and as built.
std::array<std::filesystem::path, 2> training_places() {
  const auto folder = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  return {(folder / "../libexec/bitstrata/bitstrata-train").lexically_normal(), folder / "bitstrata-train"};
}

std::filesystem::path find_train_executable(std::string_view command) {
  if (const auto executable = training_executable(); !executable.empty()) return executable;
  const auto places = training_places();
  fail(ErrorCode::kNotFound,
       "'{}' needs the training program, which is neither at {} nor at {}: install it, or build with "
       "BITSTRATA_TRAIN=ON",
       command, places[0].string(), places[1].string());
}

}  // namespace

void forward_train_command(int argc, char** argv) {
  if (argc < 2 || !is_train_command(argv[1])) return;
  become_train_executable(argv);
}

void become_train_executable(char** argv) {
  const auto executable = find_train_executable(argv[1]);
  execv(executable.c_str(), argv);
  fail(ErrorCode::kIo, "{} cannot be started: {}", executable.string(), std::strerror(errno));
}

void add_train_commands(CLI::App& app) {
  for (const TrainCommand& command : train_commands()) {
    if (!command.is_shared) app.add_subcommand(command.name, command.description);
  }
}

std::filesystem::path training_executable() {
  for (const auto& place : training_places()) {
    if (access(place.c_str(), X_OK) == 0) return place;
  }
  return {};
}

}  // namespace bitstrata::cli
