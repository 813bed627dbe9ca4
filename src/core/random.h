#pragma once

#include <cstdint>

namespace bitstrata {

/// SplitMix64 finaliser: a fixed bijection of 64-bit words with good avalanche (Steele, Lea, Flood 2014).
constexpr uint64_t mix64(uint64_t x) noexcept {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

/// Counter-based random numbers: the n-th draw depends only on (seed, stream, n), never on who drew before, so work that is
/// resumed or split over threads draws the same numbers. `stream` names the purpose and position, e.g. mix64(epoch) ^ image.
class Random {
 public:
  constexpr Random(uint64_t seed, uint64_t stream) noexcept : key_(mix64(seed) ^ mix64(mix64(stream))) {}
  /// Next 64 uniform bits.
  constexpr uint64_t bits() noexcept { return mix64(key_ + 0x632be59bd9b4e019ull * counter_++); }
  /// Uniform in [0, 1).
  constexpr double uniform() noexcept { return static_cast<double>(bits() >> 11) * 0x1.0p-53; }
  /// Uniform in [0, n), n > 0.
  constexpr uint64_t below(uint64_t n) noexcept {
    __extension__ using uint128 = unsigned __int128;
    return static_cast<uint64_t>((static_cast<uint128>(bits()) * n) >> 64);
  }

 private:
  uint64_t key_;
  uint64_t counter_ = 0;
};

}  // namespace bitstrata
