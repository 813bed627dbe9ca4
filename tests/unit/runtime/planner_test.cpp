#include "runtime/planner.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/random.h"

namespace bitstrata::runtime {
namespace {

void expect_no_overlap(const std::vector<Block>& blocks, size_t total) {
  for (size_t i = 0; i < blocks.size(); ++i) {
    const Block& a = blocks[i];
    EXPECT_EQ(a.offset_bytes % kAlignmentBytes, 0);
    EXPECT_LE(a.offset_bytes + a.size_bytes, total);
    for (size_t j = 0; j < i; ++j) {
      const Block& b = blocks[j];
      if (a.last < b.first || b.last < a.first || a.size_bytes == 0 || b.size_bytes == 0) continue;
      EXPECT_TRUE(a.offset_bytes + a.size_bytes <= b.offset_bytes ||
                  b.offset_bytes + b.size_bytes <= a.offset_bytes)
          << i << " and " << j;
    }
  }
}

TEST(Planner, BlocksInUseTogetherNeverOverlap) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Random random(seed, 1);
    std::vector<Block> blocks;
    for (int i = 0; i < 60; ++i) {
      const size_t first = random.below(40);
      blocks.push_back({random.below(5) == 0 ? 0 : random.below(5000), first, first + random.below(8)});
    }
    expect_no_overlap(blocks, plan_memory(blocks));
  }
}

TEST(Planner, ReusesMemoryOfAChain) {
  // Step i reads block i - 1 and writes block i: two of them live at a time.
  std::vector<Block> blocks;
  for (size_t i = 0; i < 10; ++i) blocks.push_back({1000, i, i + 1});
  EXPECT_EQ(plan_memory(blocks), 2 * aligned(1000));
  expect_no_overlap(blocks, 2 * aligned(1000));
}

TEST(Planner, PicksTheSmallestGap) {
  // Five blocks that touch; when the second and the fourth are gone, a small block goes where the smaller one
  // was.
  std::vector<Block> blocks = {{640, 0, 1}, {512, 0, 0}, {448, 0, 1}, {384, 0, 0}, {320, 0, 1}, {100, 1, 1}};
  const size_t total = plan_memory(blocks);
  EXPECT_EQ(total, 640 + 512 + 448 + 384 + 320);
  EXPECT_EQ(blocks[5].offset_bytes, 640 + 512 + 448);
}

TEST(Planner, RefusesAbsurdSizes) {
  std::vector<Block> blocks = {{size_t{1} << 62, 0, 0}, {size_t{1} << 62, 0, 0}};
  EXPECT_THROW(plan_memory(blocks), Error);
}

}  // namespace
}  // namespace bitstrata::runtime
