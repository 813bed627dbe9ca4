#include "data/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

namespace bitstrata::data {
namespace {

TEST(ParallelFor, CoversEveryItemOnce) {
  for (const size_t count : {0ul, 1ul, 7ul, 1000ul}) {
    for (const size_t grain : {0ul, 1ul, 3ul, 5000ul}) {
      for (const int threads : {0, 1, 2, 9}) {
        std::vector<std::atomic<int>> visits(count);
        parallel_for(count, grain, threads, [&](size_t begin, size_t end) {
          for (size_t i = begin; i < end; ++i) ++visits[i];
        });
        for (const auto& each : visits) ASSERT_EQ(each, 1);
      }
    }
  }
}

TEST(ParallelFor, TheLowestFailureIsReported) {
  for (int repeat = 0; repeat < 50; ++repeat) {
    try {
      parallel_for(100, 1, 8, [](size_t begin, size_t) {
        if (begin >= 20 && begin % 2 == 0) throw std::runtime_error(std::to_string(begin));
      });
      ADD_FAILURE();
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "20");
    }
  }
}

}  // namespace
}  // namespace bitstrata::data
