#pragma once

#include <filesystem>
#include <functional>
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
  /// file: where times are kept; empty: nowhere. preemptions: how often other processes took the CPU from
  /// this one so far.
  explicit KernelTimes(std::filesystem::path file, std::function<int64_t()> preemptions = own_preemptions);
  /// Remembered, or measured now and remembered, unless the times are out of all proportion. What was
  /// measured while other processes took the CPU is measured again by later processes, a few times at most,
  /// and the least of what they saw is kept. Parameters: as for time_kernels; other_bytes: packed weights of
  /// the network's other layers.
  const std::vector<KernelTime>& of(const kernels::ConvProblem& problem, std::span<const uint8_t> codes,
                                    Isa cap, bool plain_end, int64_t other_bytes = 0);
  /// Writes what was measured since, together with what other processes wrote meanwhile.
  void save() noexcept;

 private:
  struct Known {
    std::vector<KernelTime> times;
    int disturbed = 0;  ///< measurements so far, when the last one was disturbed too
  };
  using Table = std::map<std::string, Known>;
  Table read() const;
  static int64_t own_preemptions();

  std::filesystem::path file_;
  std::function<int64_t()> preemptions_;
  Table table_, measured_;
};

/// Where times are kept unless the user says otherwise: the environment's BITSTRATA_KERNEL_TIMES ("off":
/// nullopt, no measuring), otherwise a file named after the CPU in $XDG_CACHE_HOME/bitstrata or
/// ~/.cache/bitstrata; an empty path (measure, but keep nothing) without a home.
std::optional<std::filesystem::path> default_kernel_times();

}  // namespace bitstrata::runtime
