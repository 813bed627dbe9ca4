#include "common/settings.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <thread>

namespace bitstrata::cli {

int MachineOptions::resolved_threads() const noexcept {
  return threads > 0 ? threads : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

runtime::Options MachineOptions::runtime_options(int max_batch) const {
  runtime::Options options;
  options.threads = resolved_threads();
  options.isa = resolved_isa();
  options.max_batch = max_batch;
  return options;
}

void add_threads_option(CLI::App& app, MachineOptions& options) {
  app.add_option("--threads", options.threads, "Threads to compute with (default: all cores)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
}

void add_machine_options(CLI::App& app, MachineOptions& options) {
  add_threads_option(app, options);
  app.add_option("--isa", options.isa,
                 "Highest instruction set to use: scalar, neon, avx2, avx512, vnni, amx")
      ->type_name("ISA");
}

void add_batch_option(CLI::App& app, int& batch) {
  app.add_option("--batch", batch, "Images that are computed together")
      ->type_name("N")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
}

}  // namespace bitstrata::cli
