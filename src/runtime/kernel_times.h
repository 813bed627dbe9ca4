#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/conv.h"

/// Which kernel each quantized layer runs on: measured on this machine, remembered per CPU model.
namespace bitstrata::runtime {

/// Time of one kernel on one problem.
struct KernelTime {
  const kernels::KernelEntry* entry = nullptr;
  double us = 0;  ///< microseconds per batch, scale and requantisation to codes included
  bool operator==(const KernelTime&) const = default;
};

/// Times the kernels that accept `problem` under the cap and that are not hopeless by their estimate: on
/// problem.max_batch images and problem.max_threads threads, minimum of some runs spread over some
/// milliseconds per kernel. codes: as for KernelEntry::make. Returns them fastest first, never empty. What
/// else runs on the machine disturbs the result. Errors: as kernels::validate.
std::vector<KernelTime> time_kernels(const kernels::ConvProblem& problem, std::span<const uint8_t> codes,
                                     Isa cap, const kernels::Family* only = nullptr);

/// Remembered times. The file is a cache: one that is missing, damaged, of another version or of another CPU
/// is as good as empty, and one that cannot be written is not an error. Not thread-safe.
class KernelTimes {
 public:
  /// file: where times are kept; empty: nowhere.
  explicit KernelTimes(std::filesystem::path file);
  /// Remembered, or measured now and remembered.
  const std::vector<KernelTime>& of(const kernels::ConvProblem& problem, std::span<const uint8_t> codes,
                                    Isa cap);
  /// Writes what was measured since, together with what other processes wrote meanwhile.
  void save() noexcept;

 private:
  using Table = std::map<std::string, std::vector<KernelTime>>;
  Table read() const;

  std::filesystem::path file_;
  Table table_, measured_;
};

/// Where times are kept unless the user says otherwise: the environment's BITSTRATA_KERNEL_TIMES ("off":
/// nullopt, no measuring), otherwise a file named after the CPU in $XDG_CACHE_HOME/bitstrata or
/// ~/.cache/bitstrata; an empty path (measure, but keep nothing) without a home.
std::optional<std::filesystem::path> default_kernel_times();

}  // namespace bitstrata::runtime
