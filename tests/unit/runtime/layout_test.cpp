#include "runtime/layout.h"

#include <gtest/gtest.h>

#include <numeric>

namespace bitstrata::runtime {
namespace {

TEST(Layout, RankThreeIsChannelsLast) {
  EXPECT_EQ(physical_strides({2, 3, 4}), (std::vector<int64_t>{1, 8, 2}));
  EXPECT_EQ(physical_strides({2, 3, 4, 5}), (std::vector<int64_t>{60, 20, 5, 1}));
  EXPECT_EQ(physical_strides({7}), (std::vector<int64_t>{1}));
}

TEST(Layout, SameOrder) {
  EXPECT_TRUE(same_order({4, 1, 1}, {4}));
  EXPECT_TRUE(same_order({1, 2, 3}, {6}));
  EXPECT_TRUE(same_order({4, 2, 3}, {4, 6, 1}));
  EXPECT_FALSE(same_order({4, 2, 3}, {24}));
  EXPECT_FALSE(same_order({4, 2, 3}, {2, 4, 3}));
}

TEST(Layout, StridedCopyMatchesItsDefinition) {
  struct Case {
    Dims sizes;
    std::vector<int64_t> from, to;
    int64_t from_offset, to_offset;
  };
  const Case cases[] = {
      {{1}, {1}, {1}, 0, 0},
      {{2, 3, 4}, {12, 4, 1}, {1, 8, 2}, 0, 0},   // row-major to channels-last
      {{2, 3, 4}, {1, 8, 2}, {12, 4, 1}, 0, 0},   // and back
      {{2, 3, 4}, {12, 4, 1}, {12, 4, 1}, 0, 0},  // one run
      {{3, 2}, {-4, 1}, {5, 1}, 8, 2},            // reversed rows
      {{2, 1, 3, 1, 2}, {30, 9, 5, 9, -2}, {6, 9, 2, 9, 1}, 2, 0},
  };
  std::vector<int> source(100);
  std::iota(source.begin(), source.end(), 1000);
  for (const Case& c : cases) {
    std::vector<int> expected(100, -1), found(100, -1);
    std::vector<int64_t> at(c.sizes.size(), 0);
    for (int64_t i = 0; i < program::elements(c.sizes); ++i) {
      int64_t from = c.from_offset, to = c.to_offset, rest = i;
      for (size_t axis = c.sizes.size(); axis-- > 0;) {
        from += rest % c.sizes[axis] * c.from[axis];
        to += rest % c.sizes[axis] * c.to[axis];
        rest /= c.sizes[axis];
      }
      expected[static_cast<size_t>(to)] = source[static_cast<size_t>(from)];
    }
    StridedCopy(c.sizes, c.from, c.to, c.from_offset, c.to_offset).run(source.data(), found.data());
    EXPECT_EQ(found, expected);
  }
}

}  // namespace
}  // namespace bitstrata::runtime
