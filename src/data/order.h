#pragma once

// Inside the module: random orders and the streams of random numbers they draw from.

#include <cstdint>
#include <utility>
#include <vector>

#include "core/random.h"

namespace bitstrata::data {

/// What random numbers are drawn for; each purpose has streams of its own under one seed.
enum class Purpose : uint64_t {
  kHoldout = 0x64617461'01,
  kShuffle = 0x64617461'02,
  kAugment = 0x64617461'03
};

/// The stream of one purpose at a position (class, epoch, or epoch and sample).
constexpr uint64_t stream(Purpose purpose, uint64_t a, uint64_t b = 0) noexcept {
  return mix64(mix64(static_cast<uint64_t>(purpose) ^ mix64(a)) ^ b);
}

/// Fisher-Yates: every order equally likely.
inline void shuffle(std::vector<int64_t>& items, Random random) {
  for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[random.below(i)]);
}

}  // namespace bitstrata::data
