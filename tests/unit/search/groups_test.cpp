#include "search/groups.h"

#include "core/error.h"
#include "tests/unit/search/fakes.h"

namespace bitstrata::search {
namespace {

TEST(Groups, FreeLayersAreTheirOwn) {
  const Space space = make_test_space(3, {8, 4, 2});
  const std::vector<Group> groups = make_groups(space);
  ASSERT_EQ(groups.size(), 3u);
  for (size_t g = 0; g < 3; ++g) {
    EXPECT_EQ(groups[g].layers, std::vector<size_t>{g});
    EXPECT_EQ(groups[g].ladder, space.candidates(g));
  }
}

TEST(Groups, TiedLayersShareTheirCommonCandidates) {
  Space space = make_test_space(4, {8, 4, 2});
  space.layers[3].weight_bits = space.layers[3].activation_bits = {8, 2};
  space.ties = {{3, 1}};
  const std::vector<Group> groups = make_groups(space);
  ASSERT_EQ(groups.size(), 3u);
  EXPECT_EQ(groups[1].layers, (std::vector<size_t>{1, 3}));
  EXPECT_EQ(groups[1].candidates, (std::vector<BitPair>{{8, 8}, {2, 2}}));
}

TEST(Groups, UntiedLadderGoesDownInBoth) {
  Space space = make_test_space(1, {8, 4, 2}, false);
  space.layers[0].activation_bits = {8, 6};
  EXPECT_EQ(make_groups(space)[0].ladder, (std::vector<BitPair>{{8, 8}, {4, 6}, {2, 6}}));
}

TEST(Groups, RefuseBadTies) {
  Space space = make_test_space(3, {8, 4});
  space.ties = {{0, 1}, {1, 2}};
  EXPECT_THROW(make_groups(space), Error);
  space.ties = {{0, 3}};
  EXPECT_THROW(make_groups(space), Error);
  space.ties = {{}};
  EXPECT_THROW(make_groups(space), Error);
  space.ties = {{0, 1}};
  space.layers[0].weight_bits = space.layers[0].activation_bits = {2};
  EXPECT_THROW(make_groups(space), Error);
  EXPECT_THROW(make_groups(Space{}), Error);
}

}  // namespace
}  // namespace bitstrata::search
