// What the Winograd kernels do differently: tiles, bounded sums, transformed operands at their extremes.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "tests/unit/kernels/kernel_test.h"

namespace bitstrata::kernels::test {
namespace {

class WinogradKernel : public KernelTest {};

// Tiles of 2x2 outputs that reach over the image, chunks of tiles that end within a row of them, and parts of
// vectors, in bytes (4 bits) and in 16 bits.
TEST_P(WinogradKernel, PartsOfTiles) {
  for (auto [ih, iw] : {std::array{1, 1}, {1, 6}, {2, 2}, {3, 5}, {5, 4}, {9, 13}, {17, 17}, {6, 130}, {3, 131}}) {
    for (int ic : {1, 3, 6, 33}) {
      for (int oc : {1, 16, 33, 65}) {
        for (Grid grid : {Grid::kOdd, Grid::kTwosComplement}) {
          ConvProblem p = make_problem(ic, ih, iw, oc, square(3, 1, 1), 1, max_w(), max_a(), grid, -5);
          p.max_threads = 2;
          EXPECT_TRUE(check_random(p, 2, 2));
          p.w_bits = p.a_bits = 4;
          p.grid = grid_of(grid, 4);
          EXPECT_TRUE(check_random(p, 1, 1));
        }
      }
    }
  }
}

// Four times the sums have to fit 32 bits: the most channels for which they do, at both extremes.
TEST_P(WinogradKernel, TakesSumsBelowAQuarterOfTheRange) {
  const int w = max_w(), a = max_a(), top = (1 << w) - 1, max_value = (1 << a) - 1;
  const int most = ((1 << 29) - 1) / (9 * (1 << (w - 1)) * max_value);
  if (most > 3000) GTEST_SKIP() << "sums of its operands are small";
  for (int weight : {0, top}) {
    const auto problem = [&](int ic) {
      return make_problem(ic, 3, 3, 5, square(3, 1, 1), 1, w, a, Grid::kTwosComplement);
    };
    const auto all = [&](const ConvProblem& p) {
      return check(p, std::vector<uint8_t>(weight_count(p), static_cast<uint8_t>(weight)),
                   std::vector<uint8_t>(src_count(p, 1), static_cast<uint8_t>(max_value)));
    };
    EXPECT_TRUE(all(problem(most)));
    EXPECT_FALSE(all(problem(most + 1)));
  }
}

// Transformed operands at their extremes in every position of the tile: windows and weights whose signs
// follow those of the transforms, of as many channels as fill a 16-bit sum and one more, side by side or with
// others of weight 0 between them.
TEST_P(WinogradKernel, SumsReachTheirBounds) {
  for (int w : {1, 2, 3, 4, max_w()}) {
    for (int a : {1, 2, 4, 6, max_a()}) {
      for (int variant = 0; variant < 32; ++variant) {
        const int signs = variant % 16, distance = w > 1 && variant >= 16 ? 5 : 1;
        const int room = 32767 / (2 * 9 * (1 << (w - 1)) * 4 * ((1 << a) - 1));
        const int ic = distance * std::clamp(4 * (room + 1), 4, 64);
        const ConvProblem p = make_problem(ic, 4, 4, 3, square(3, 1, 0), 1, w, a, Grid::kTwosComplement);
        std::vector<uint8_t> weights(weight_count(p)), src(src_count(p, 1));
        const auto bit = [&](int at, int y, int x) {
          return ((at & 1) * y + (at >> 1 & 1) * x + (at >> 2 & 1)) % 2 == 0;
        };
        for (int i = 0; i < static_cast<int>(weights.size()); ++i) {
          const int extreme = bit(signs, i % 9 / 3, i % 3) ? 0 : (1 << w) - 1;
          weights[i] = static_cast<uint8_t>(i / 9 % ic % distance == 0 ? extreme : 1 << (w - 1));
        }
        for (size_t i = 0; i < src.size(); ++i) {
          const int pixel = static_cast<int>(i) / ic, y = pixel / 4, x = pixel % 4;
          src[i] = bit(signs >> 1, y > 1 ? 1 : 0, x > 1 ? 1 : 0) ? static_cast<uint8_t>((1 << a) - 1) : 0;
        }
        EXPECT_TRUE(check(p, weights, src));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Conv, WinogradKernel, testing::ValuesIn(kernel_names([](const KernelEntry& entry) {
                           return entry.name.starts_with("conv_u8s8_winograd");
                         })),
                         test_name);

}  // namespace
}  // namespace bitstrata::kernels::test
