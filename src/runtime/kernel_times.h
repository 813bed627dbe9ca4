#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
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

/// Least time of each of `works`, in microseconds: they take turns in rounds, so that what disturbs the
/// machine for a while disturbs all of them, and run for `round_us` and at least twice in each.
std::vector<double> least_us(std::span<const std::function<void()>> works, int rounds, double round_us);

/// The kernels that accept a problem under a cap and are not hopeless by their estimate, ready to run on
/// random codes: problem.max_batch images on problem.max_threads threads. Not thread-safe.
class KernelTrial {
 public:
  /// codes: as for KernelEntry::make. plain_end: kernels that can write codes themselves do so, as in a layer
  /// whose end is a kernels::Requantization. only: this family alone. Errors: as kernels::validate.
  KernelTrial(const kernels::ConvProblem& problem, std::span<const uint8_t> codes, Isa cap, bool plain_end,
              const kernels::Family* only = nullptr);
  ~KernelTrial();
  /// Not 0, unless no kernel of the family accepts the problem.
  size_t size() const noexcept;
  const kernels::KernelEntry& entry(size_t index) const noexcept;
  /// One batch through kernel `index`, scaled and requantised to codes.
  void run(size_t index) const noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Times all kernels of a trial, fastest first.
std::vector<KernelTime> time_kernels(const KernelTrial& trial);

/// Remembered times. The file is a cache: one that is missing, damaged, of another version or of another CPU
/// is as good as empty, and one that cannot be written is not an error. Not thread-safe.
class KernelTimes {
 public:
  /// file: where times are kept; empty: nowhere.
  explicit KernelTimes(std::filesystem::path file);
  /// Remembered, or measured now and remembered, unless the times show that the machine was busy.
  const std::vector<KernelTime>& of(const kernels::ConvProblem& problem, std::span<const uint8_t> codes,
                                    Isa cap, bool plain_end);
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
