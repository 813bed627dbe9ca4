#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "common/output.h"
#include "common/settings.h"

namespace bitstrata::cli {

/// `bitstrata bench --kernels`.
struct KernelBenchOptions {
  std::vector<std::string> shapes = {"64@56", "128@28", "256@14", "512@7", "16@32", "64@8"};
  std::vector<std::string> pairs = {"1x1", "1x2", "2x2", "2x4", "3x3", "4x4", "8x8"};
  bool all = false;  ///< rows of the kernels that are not the fastest too
  int batch = 1;
  MachineOptions machine;  ///< no isa: every one of this machine; no threads: one
  OutputOptions output;

  int resolved_threads() const noexcept { return std::max(1, machine.threads); }
};

/// Times the kernels on 3x3 convolutions, each beside oneDNN's int8 convolution held to the same instruction
/// set. kInvalidArgument for shapes and pairs that are none.
void bench_kernels(const KernelBenchOptions& options);

}  // namespace bitstrata::cli
