#pragma once

#include <string>

#include "runtime/session.h"

namespace CLI {
class App;
}

namespace bitstrata::cli {

/// How the runtime uses this machine.
struct MachineOptions {
  int threads = 0;  ///< 0: all cores this process may use
  std::string isa;  ///< cap on the instruction set; empty: BITSTRATA_ISA, else the best there is
  std::string kernel_choice = "measured";  ///< or "estimated", or the name of a family

  int resolved_threads() const noexcept;
  /// Errors as resolve_isa.
  Isa resolved_isa() const { return resolve_isa(isa); }
  /// For batches of up to max_batch images.
  runtime::Options runtime_options(int max_batch) const;
};

/// Adds --threads.
void add_threads_option(CLI::App& app, MachineOptions& options);
/// Adds --threads, --isa and --kernel-choice.
void add_machine_options(CLI::App& app, MachineOptions& options);

/// Adds --batch, 1..65536.
void add_batch_option(CLI::App& app, int& batch);

}  // namespace bitstrata::cli
