#pragma once

#include <filesystem>

namespace CLI {
class App;
}

namespace bitstrata::cli {

// Each adds one subcommand whose callback does the work.
void add_eval(CLI::App& app);
void add_run(CLI::App& app);
void add_bench(CLI::App& app);
void add_compile(CLI::App& app);
void add_inspect(CLI::App& app);
void add_profile(CLI::App& app);
void add_export(CLI::App& app);
void add_report(CLI::App& app);
void add_docs(CLI::App& app);

/// When argv[1] is a command of bitstrata-train, replaces this process by that executable with the same
/// arguments; returns otherwise. kNotFound when the executable is missing.
void forward_train_command(int argc, char** argv);

/// Replaces this process by bitstrata-train with arguments `argv`, of which [1] is the command and the last a
/// null pointer. kNotFound when the executable is missing.
[[noreturn]] void become_train_executable(char** argv);

/// Adds the commands of bitstrata-train, so that help lists them.
void add_train_commands(CLI::App& app);

/// Path of bitstrata-train; empty when it is missing.
std::filesystem::path training_executable();

}  // namespace bitstrata::cli
