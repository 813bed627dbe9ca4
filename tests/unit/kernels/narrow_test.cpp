// The layout of the narrow kernels' rows, and how far their 16-bit sums go.
#include <gtest/gtest.h>

#include "kernels/narrow_layout.h"
#include "tests/unit/kernels/kernel_test.h"

namespace bitstrata::kernels::test {
namespace {

using program::Window;

// Every operand of every output pixel's part of the window is where offsets say.
TEST(NarrowLayout, FindsEveryOperandOfTheWindow) {
  const Window windows[] = {
      square(1, 1, 0), square(3, 1, 1),    square(7, 2, 3),    square(5, 3, 2),
      square(1, 2, 0), square(3, 1, 2, 2), square(3, 2, 3, 3), {1, 4, 1, 2, 1, 3, 0, 5, 0, 1}};
  for (const Window& window : windows) {
    for (int channels : {1, 2, 3, 4, 6, 16, 20}) {
      for (int bytes : {1, 2}) {
        const ConvProblem p = make_problem(channels, 16, 16, 1, window, 1, 8, 8);
        const NarrowLayout layout = narrow_layout(window, p.ow, channels, bytes);
        const int padded_w = p.iw + window.pad_left + window.pad_right;
        const std::vector<uint8_t> row = random_codes(size_t(padded_w) * channels * bytes + 4, 8, 1);
        std::vector<uint8_t> planes(layout.bytes);
        for (const NarrowLayout::Run& run : layout.runs) {
          const NarrowPlanes part{row.data() + run.first_byte,
                                  layout.stride_bytes,
                                  run.count,
                                  run.words,
                                  planes.data() + run.first_plane * layout.plane_bytes,
                                  layout.plane_bytes};
          for (int i = 0; i < run.count; ++i) narrow_plane(part, i);
        }
        std::vector<int> found(size_t(window.kernel_w) * channels);
        for (size_t i = 0; i < layout.operands.size(); ++i) {
          const int operand = layout.operands[i];
          if (operand < 0) continue;
          ++found.at(operand);
          const int kx = operand / channels, c = operand % channels, per_word = 4 / bytes;
          for (int x = 0; x < p.ow; ++x) {
            const size_t at = layout.offsets[i / per_word] + 4 * size_t(x) + i % per_word * bytes;
            const int ix = x * window.stride_w + kx * window.dilation_w;
            for (int b = 0; b < bytes; ++b)
              ASSERT_EQ(planes.at(at + b), row[(size_t(ix) * channels + c) * bytes + b]) << describe(p);
          }
        }
        EXPECT_EQ(found, std::vector<int>(found.size(), 1)) << describe(p);
      }
    }
  }
}

TEST(NarrowLayout, SharesPlanesBetweenColumnsOfTheWindow) {
  EXPECT_EQ(narrow_layout(square(3, 1, 1), 32, 16, 1).bytes, 4u * 4 * 34);
  EXPECT_EQ(narrow_layout(square(7, 2, 3), 112, 3, 1).bytes, 3u * 4 * 115);
}

NarrowTarget pairs() {
  NarrowTarget target;
  target.lanes = 2;
  target.products_per_step = 2;
  target.max_sum = 32767;
  return target;
}

NarrowExact exact_of(std::vector<uint8_t> weights, int kernel_h, int row_steps) {
  return narrow_exact(pairs(), weights, kernel_h, row_steps, 255);
}

// 32767 / 255 is 128: what the weights of one sign may add up to.
TEST(NarrowExact, FollowsTheWeights) {
  const auto ones = [](int kernel_h, int row_steps) {
    return exact_of(std::vector<uint8_t>(size_t(8) * kernel_h * row_steps, 1), kernel_h, row_steps);
  };
  const auto expect = [](NarrowExact exact, int rows, int steps) {
    EXPECT_EQ(exact.rows, rows);
    EXPECT_EQ(exact.steps, steps);
  };
  expect(ones(3, 21), 3, 21);
  expect(ones(3, 22), 2, 22);
  expect(ones(3, 33), 1, 33);
  expect(ones(3, 64), 1, 64);
  expect(ones(3, 65), 1, 33);
  expect(ones(1, 300), 1, 60);

  std::vector<uint8_t> weights(8 * 6, 0);
  expect(exact_of(weights, 2, 3), 2, 3);
  weights[1] = weights[9] = 64;  // one sum of one lane, the first row
  expect(exact_of(weights, 2, 3), 2, 3);
  weights[17] = 1;
  expect(exact_of(weights, 2, 3), 1, 2);
  weights[17] = 0xFF;  // -1 does not lengthen what is above zero
  expect(exact_of(weights, 2, 3), 2, 3);
  weights[0] = 65;  // 129 in one step
  expect(exact_of(weights, 2, 3), 0, 0);
  weights[0] = 0x80;
  expect(exact_of(weights, 2, 3), 1, 2);
}

class NarrowKernels : public KernelTest {};

// Codes are highest where one channel's weights are above, or below, zero, so that its sums go as far as
// these weights let them.
TEST_P(NarrowKernels, SumsGoAsFarAsTheirWeightsLetThem) {
  for (int kernel : {1, 3, 7}) {
    for (int ic : {3, 16, 100}) {
      for (auto [w, a] : {std::array{2, 8}, {4, 4}, {4, 8}, {5, 8}, {6, 6}, {7, 7}, {8, 5}, {8, 8}}) {
        for (Grid grid : kAllGrids) {
          const ConvProblem p = make_problem(ic, kernel, kernel, 19, square(kernel, 1, 0), 1, w, a, grid);
          const std::vector<uint8_t> weights = random_codes(weight_count(p), w, 5);
          for (size_t o : {0, 7, 18}) {
            for (int sign : {-1, 1}) {
              std::vector<uint8_t> src(src_count(p, 1), 0);
              for (size_t i = 0; i < src.size(); ++i) {
                const size_t pixel = i / ic, c = i % ic;
                const int weight = p.grid.at(weights[(o * ic + c) * kernel * kernel + pixel]);
                if (weight * sign > 0) src[i] = static_cast<uint8_t>((1 << a) - 1);
              }
              EXPECT_TRUE(check(p, weights, src));
            }
          }
        }
      }
    }
  }
}

// Every number of pixels and channels that leaves part of a tile or a vector unused.
TEST_P(NarrowKernels, PartsOfTiles) {
  for (int width = 1; width <= 35; ++width) {
    for (int oc : {1, 7, 8, 9, 15, 16, 17, 24, 31, 33, 48, 64, 65}) {
      for (auto [w, a] : {std::array{3, 3}, {6, 8}, {8, 8}})
        EXPECT_TRUE(check_random(make_problem(5, 2, width, oc, square(3, 1 + width % 2, 1), 1, w, a)));
    }
  }
}

// Pixels whose columns of the window lie in padding, at either end of a row and at both.
TEST_P(NarrowKernels, PaddingAtBothEndsOfRows) {
  const Window windows[] = {square(3, 1, 1),
                            square(5, 1, 2),
                            square(3, 2, 1),
                            square(3, 1, 2, 2),
                            square(1, 1, 3),
                            {3, 3, 1, 1, 1, 1, 0, 0, 1, 2},
                            {3, 3, 1, 1, 1, 1, 1, 2, 0, 0}};
  for (const Window& window : windows) {
    for (int width = 3; width <= 18; ++width) {
      for (int zero : {0, -1}) {
        EXPECT_TRUE(
            check_random(make_problem(64, 3, width, 33, window, 1, 4, 4, Grid::kTwosComplement, zero)));
        EXPECT_TRUE(
            check_random(make_problem(72, 3, width, 32, window, 1, 8, 8, Grid::kTwosComplement, zero)));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Conv, NarrowKernels, testing::ValuesIn(kernel_names([](const KernelEntry& entry) {
                           return entry.name.starts_with("conv_u8s8_narrow");
                         })),
                         test_name);

}  // namespace
}  // namespace bitstrata::kernels::test
