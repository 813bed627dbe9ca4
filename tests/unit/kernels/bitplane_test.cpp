// What bit planes do differently from shape to shape: words of full pixels count differing bits, others
// common ones; runs of bytes; tiles and what is left of a row; words left over by steps of eight.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "tests/unit/kernels/kernel_test.h"

namespace bitstrata::kernels::test {
namespace {

using program::Window;

class EveryBitplaneKernel : public KernelTest {
 protected:
  void check(const ConvProblem& p) { EXPECT_TRUE(check_random(p)); }
  void check(const ConvProblem& p, const std::vector<uint8_t>& weights, const std::vector<uint8_t>& src) {
    EXPECT_TRUE(KernelTest::check(p, weights, src));
  }
};

// From 1 to 41 words in a row, and 72 to 288 in a window: more than byte counters hold.
TEST_P(EveryBitplaneKernel, ReductionsOfEveryLength) {
  for (int ic = 1; ic <= 41 * 32; ic += ic < 96 ? 5 : 32) {
    check(make_problem(ic, 1, 2, 17, square(1, 1, 0), 1, 1, 2));
    check(make_problem(ic / 32 * 32 + 32, 1, 2, 17, square(1, 1, 0), 1, 2, 1));
  }
  for (int ic : {250, 256, 506, 512, 1000, 1024}) {
    for (int extreme : {0, 1}) {
      const ConvProblem p = make_problem(ic, 3, 3, 9, square(3, 1, 1), 1, 1, 1, Grid::kTwosComplement);
      check(p, std::vector<uint8_t>(weight_count(p), 1),
            std::vector<uint8_t>(src_count(p, 1), static_cast<uint8_t>(extreme)));
      check(p, std::vector<uint8_t>(weight_count(p), 0),
            std::vector<uint8_t>(src_count(p, 1), static_cast<uint8_t>(extreme)));
    }
  }
}

TEST_P(EveryBitplaneKernel, RowsOfEveryWidth) {
  for (int iw = 1; iw <= 26; ++iw) {
    for (int ic : {16, 64}) {
      for (int oc : {16, 40}) check(make_problem(ic, 2, iw, oc, square(3, 1, 1), 1, 2, 1));
    }
  }
}

// Kernel widths, strides and dilations by channels: windows whose taps make one run of bytes, and others.
TEST_P(EveryBitplaneKernel, RunsOfBytes) {
  for (int kernel_w : {1, 2, 3, 5, 7}) {
    for (int stride : {1, 2, 3}) {
      for (int dilation : {1, 2}) {
        for (int ic : {1, 8, 12, 16, 24, 32, 40, 64}) {
          const Window window{2, kernel_w, 1, stride, 1, dilation, 1, 3, 0, 4};
          check(make_problem(ic, 3, 13, 10, window, 1, 2, 2, Grid::kTwosComplement, -1));
        }
      }
    }
  }
}

TEST_P(EveryBitplaneKernel, GridsAndZeroPointsOfFullWords) {
  for (int w : {1, 2, 4, 7, 8}) {
    for (int a : {1, 2, 4, 8}) {
      for (Grid grid : kAllGrids) {
        for (int zero : {0, -1, -((1 << a) - 1)}) {
          check(make_problem(64, 3, 3, 18, square(3, 1, 1), 1, w, a, grid, zero));
          check(make_problem(32, 2, 3, 9, square(2, 1, 1), 1, w, a, grid, zero));
          check(make_problem(128, 3, 4, 36, square(3, 2, 1), 2, w, a, grid, zero));
        }
      }
    }
  }
}

// Twice the result passes 2^31, or nearly.
TEST_P(EveryBitplaneKernel, ResultsThatCannotBeDoubled) {
  for (int ic : {32768, 33408, 65536}) {
    for (int code : {0, 255}) {
      const ConvProblem p = make_problem(ic, 1, 1, 3, square(1, 1, 0), 1, 8, 8, Grid::kTwosComplement);
      check(p, std::vector<uint8_t>(weight_count(p), static_cast<uint8_t>(code)),
            std::vector<uint8_t>(src_count(p, 1), 255));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Conv, EveryBitplaneKernel,
                         testing::ValuesIn(kernel_names([](const KernelEntry& entry) {
                           return entry.family == Family::kBitplane;
                         })),
                         test_name);

}  // namespace
}  // namespace bitstrata::kernels::test
