#include "common/settings.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>
#include <thread>
#include <vector>

namespace bitstrata::cli {

namespace {

constexpr kernels::Family kChoices[] = {kernels::Family::kBitplane, kernels::Family::kLookup,
                                        kernels::Family::kInt8, kernels::Family::kDirect,
                                        kernels::Family::kReference};

}  // namespace

int MachineOptions::resolved_threads() const noexcept {
  return threads > 0 ? threads : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

runtime::Options MachineOptions::runtime_options(int max_batch) const {
  runtime::Options options;
  options.threads = resolved_threads();
  options.isa = resolved_isa();
  options.max_batch = max_batch;
  if (kernel_choice == "estimated") return options;
  options.kernel_times = runtime::default_kernel_times();
  for (kernels::Family family : kChoices) {
    if (kernel_choice == kernels::to_string(family)) options.family = family;
  }
  return options;
}

void add_threads_option(CLI::App& app, MachineOptions& options) {
  app.add_option("--threads", options.threads, "Threads to compute with (default: all cores)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
}

void add_machine_options(CLI::App& app, MachineOptions& options) {
  add_threads_option(app, options);
  app.add_option("--isa", options.isa, "Highest instruction set to use (default: the best of this machine)")
      ->type_name("ISA")
      ->check(CLI::IsMember({"scalar", "neon", "avx2", "avx512", "vnni", "amx"}));
  std::vector<std::string> choices = {"measured", "estimated"};
  for (kernels::Family family : kChoices) choices.emplace_back(kernels::to_string(family));
  app.add_option(
         "--kernel-choice", options.kernel_choice,
         "How the kernel of each layer is chosen: measured here and remembered, estimated, or one family")
      ->type_name("CHOICE")
      ->check(CLI::IsMember(choices))
      ->capture_default_str();
}

void add_batch_option(CLI::App& app, int& batch) {
  app.add_option("--batch", batch, "Images that are computed together")
      ->type_name("N")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
}

}  // namespace bitstrata::cli
