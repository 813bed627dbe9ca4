#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <vector>

namespace bitstrata::cli {

/// Quantile of the sample by rank, without interpolation. values: not empty.
inline double quantile(std::vector<double> values, double fraction) {
  const auto rank = static_cast<size_t>(fraction * static_cast<double>(values.size() - 1) + 0.5);
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(rank), values.end());
  return values[rank];
}

/// Calls `work` repeatedly: first for a fifth of `seconds` unmeasured, then until `seconds` and at least
/// `least` calls are measured. Returns the time of every measured call in milliseconds.
template <typename Work>
std::vector<double> measure_ms(Work&& work, double seconds, size_t least) {
  using Clock = std::chrono::steady_clock;
  const auto elapsed = [](Clock::time_point since) {
    return std::chrono::duration<double>(Clock::now() - since).count();
  };
  const auto warm_up = Clock::now();
  do work();
  while (elapsed(warm_up) < seconds / 5);

  std::vector<double> times;
  const auto start = Clock::now();
  while (times.size() < least || elapsed(start) < seconds) {
    const auto call = Clock::now();
    work();
    times.push_back(elapsed(call) * 1e3);
  }
  return times;
}

}  // namespace bitstrata::cli
