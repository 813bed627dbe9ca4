#pragma once

#include <cstddef>
#include <vector>

namespace bitstrata::runtime {

inline constexpr size_t kAlignmentBytes = 64;

constexpr size_t aligned(size_t bytes) noexcept {
  return (bytes + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
}

/// A piece of the arena that is in use during the steps first..last, both included.
struct Block {
  size_t size_bytes = 0;
  size_t first = 0, last = 0;
  size_t offset_bytes = 0;  ///< result of plan_memory
};

/// Places the blocks so that none that are in use at the same step overlap, largest first, each into the
/// smallest gap that holds it. Offsets are multiples of kAlignmentBytes. Returns the bytes of the whole
/// arena. kUnsupported above 2^46 bytes.
size_t plan_memory(std::vector<Block>& blocks);

}  // namespace bitstrata::runtime
