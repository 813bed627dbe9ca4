#include "search/schedule.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace bitstrata::search {
namespace {

TEST(Schedule, StepsOfFractionsRoundUp) {
  EXPECT_EQ(steps_of(0.1, 25), 3);
  EXPECT_EQ(steps_of(2, 25), 50);
  EXPECT_EQ(steps_of(0, 25), 0);
  EXPECT_THROW(steps_of(-1, 25), Error);
  EXPECT_THROW(steps_of(1, 0), Error);
  EXPECT_THROW(steps_of(1e300, 2), Error);
}

TEST(Schedule, HybridIsConstantThenABumpThenConstant) {
  // 20 epochs of one step: 5 constant, 10 of bump, 5 constant (papers.md 1.4).
  for (const int64_t step : {0, 4, 15, 19}) EXPECT_EQ(hybrid_rate(step, 20, 0.1, 1, 0.25, 0.5), 0.1) << step;
  EXPECT_EQ(hybrid_rate(5, 20, 0.1, 1, 0.25, 0.5), 1);
  EXPECT_NEAR(hybrid_rate(10, 20, 0.1, 1, 0.25, 0.5), 0.55, 1e-12);
  for (int64_t step = 6; step < 15; ++step) {
    EXPECT_LT(hybrid_rate(step, 20, 0.1, 1, 0.25, 0.5), hybrid_rate(step - 1, 20, 0.1, 1, 0.25, 0.5));
  }
}

TEST(Schedule, CosineSteppedGeometric) {
  EXPECT_EQ(cosine_rate(0, 10, 2), 2);
  EXPECT_NEAR(cosine_rate(5, 10, 2), 1, 1e-12);
  EXPECT_GT(cosine_rate(9, 10, 2), 0);
  EXPECT_EQ(stepped_rate(49, 100, 1), 1);
  EXPECT_NEAR(stepped_rate(50, 100, 1), 0.1, 1e-15);
  EXPECT_NEAR(stepped_rate(90, 100, 1), 0.001, 1e-15);
  EXPECT_EQ(geometric(0, 11, 1, 100), 1);
  EXPECT_NEAR(geometric(5, 11, 1, 100), 10, 1e-12);
  EXPECT_NEAR(geometric(10, 11, 1, 100), 100, 1e-12);
}

}  // namespace
}  // namespace bitstrata::search
