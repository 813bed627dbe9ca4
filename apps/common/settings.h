#pragma once

#include <string>

#include "core/isa.h"

namespace CLI {
class App;
}

namespace bitstrata::cli {

/// How the runtime uses this machine.
struct MachineOptions {
  int threads = 0;  ///< 0: all cores this process may use
  std::string isa;  ///< cap on the instruction set; empty: BITSTRATA_ISA, else the best there is

  int resolved_threads() const noexcept;
  Isa resolved_isa() const { return resolve_isa(isa); }
};

/// Adds --threads.
void add_threads_option(CLI::App& app, MachineOptions& options);
/// Adds --threads and --isa.
void add_machine_options(CLI::App& app, MachineOptions& options);

/// Adds --batch, 1..65536.
void add_batch_option(CLI::App& app, int& batch);

}  // namespace bitstrata::cli
