#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/kernel_trial.h"

/// Which kernel each quantized layer runs on: measured on this machine, remembered per CPU model.
namespace bitstrata::runtime {

/// Remembered times. The file is a cache: one that is missing, damaged, of another version or of another CPU
/// is as good as empty, and one that cannot be written is not an error. Not thread-safe.
class KernelTimes {
 public:
  /// file: where times are kept; empty: nowhere.
  explicit KernelTimes(std::filesystem::path file);
  /// Remembered, or measured now and remembered, unless the times show that the machine was busy. Parameters:
  /// as for time_kernels; other_bytes: packed weights of the network's other layers.
  const std::vector<KernelTime>& of(const kernels::ConvProblem& problem, std::span<const uint8_t> codes,
                                    Isa cap, bool plain_end, int64_t other_bytes = 0);
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
