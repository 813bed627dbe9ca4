#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kernels/conv.h"

/// How fast each kernel does a layer's work on this machine.
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

/// The kernels that accept a problem under a cap and are not hopeless by their estimate. Not empty, unless no
/// kernel of the family `only` accepts it. Errors: as kernels::validate.
std::vector<const kernels::KernelEntry*> kernels_worth_timing(const kernels::ConvProblem& problem, Isa cap,
                                                              const kernels::Family* only = nullptr);

/// Kernels ready to run on random codes: problem.max_batch images on problem.max_threads threads. Not
/// thread-safe.
class KernelTrial {
 public:
  /// codes: as for KernelEntry::make. plain_end: kernels that can write codes themselves do so, as in a layer
  /// whose end is a kernels::Requantization. entries: of kernels_worth_timing().
  KernelTrial(const kernels::ConvProblem& problem, std::span<const uint8_t> codes, Isa cap, bool plain_end,
              std::span<const kernels::KernelEntry* const> entries);
  ~KernelTrial();
  size_t size() const noexcept;
  const kernels::KernelEntry& entry(size_t index) const noexcept;
  /// One batch through kernel `index`, scaled and requantised to codes.
  void run(size_t index) const noexcept;
  /// Brings the input into the caches, where the layer before leaves it.
  void read_input() const noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Times the kernels worth it, fastest first. beside_bytes: so many bytes are read between two runs, as the
/// weights of a network's other layers are, so that a layer whose weights come from memory in the network has
/// them come from there here too; 0: none.
std::vector<KernelTime> time_kernels(const kernels::ConvProblem& problem, std::span<const uint8_t> codes,
                                     Isa cap, bool plain_end, int64_t beside_bytes = 0);

}  // namespace bitstrata::runtime
