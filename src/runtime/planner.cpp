#include "runtime/planner.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/error.h"

namespace bitstrata::runtime {
namespace {

constexpr size_t kMaxArenaBytes = size_t{1} << 46;

/// Offset for `block` beside the blocks `placed`, which are ordered by offset.
size_t best_fit(const Block& block, const std::vector<const Block*>& placed) {
  const size_t size = aligned(block.size_bytes);
  size_t end = 0, best = 0, best_gap = std::numeric_limits<size_t>::max();
  for (const Block* other : placed) {
    if (other->last < block.first || block.last < other->first) continue;
    if (other->offset_bytes > end) {
      const size_t gap = other->offset_bytes - end;
      if (gap >= size && gap < best_gap) best = end, best_gap = gap;
    }
    end = std::max(end, other->offset_bytes + aligned(other->size_bytes));
  }
  return best_gap == std::numeric_limits<size_t>::max() ? end : best;
}

}  // namespace

size_t plan_memory(std::vector<Block>& blocks) {
  std::vector<size_t> order(blocks.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return blocks[a].size_bytes > blocks[b].size_bytes; });
  std::vector<const Block*> placed;
  size_t total = 0;
  for (size_t index : order) {
    Block& block = blocks[index];
    if (block.size_bytes == 0) continue;
    if (block.size_bytes > kMaxArenaBytes)
      fail(ErrorCode::kUnsupported, "the network needs more than 2^46 bytes of memory");
    block.offset_bytes = best_fit(block, placed);
    total = std::max(total, block.offset_bytes + aligned(block.size_bytes));
    if (total > kMaxArenaBytes)
      fail(ErrorCode::kUnsupported, "the network needs more than 2^46 bytes of memory");
    const auto position =
        std::upper_bound(placed.begin(), placed.end(), &block,
                         [](const Block* a, const Block* b) { return a->offset_bytes < b->offset_bytes; });
    placed.insert(position, &block);
  }
  return total;
}

}  // namespace bitstrata::runtime
