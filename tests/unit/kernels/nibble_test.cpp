// The fully connected kernels with two weights per byte against the reference, on every instruction set of
// this machine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "tests/unit/kernels/kernel_test.h"

namespace bitstrata::kernels::test {
namespace {

const program::Window kDense{};

class NibbleKernel : public KernelTest {
 protected:
  ConvProblem usual_problem() const override { return make_problem(16, 1, 1, 16, kDense, 1, 4, 8); }
  std::string refusal(const ConvProblem& p) const { return entry_->refuses(p, cap_); }
  void check(const ConvProblem& p, const std::vector<uint8_t>& weights, const std::vector<uint8_t>& src,
             int n = 1, int threads = 1) {
    EXPECT_TRUE(KernelTest::check(p, weights, src, n, threads));
  }
  void check_random(const ConvProblem& p, int n = 1, int threads = 1) {
    EXPECT_TRUE(KernelTest::check_random(p, n, threads));
  }
};

TEST_P(NibbleKernel, BitsGridsAndZeroPoints) {
  for (int w = 1; w <= 4; ++w) {
    for (int a = 1; a <= 8; ++a) {
      for (Grid grid : kAllGrids) {
        for (int zero : {0, -1, -((1 << a) - 1)}) {
          check_random(make_problem(37, 1, 1, 21, kDense, 1, w, a, grid, zero));
        }
      }
    }
  }
}

TEST_P(NibbleKernel, PartsOfStepsBlocksAndTiles) {
  for (int ic : {1, 3, 7, 8, 9, 15, 16, 17, 200}) {
    for (int oc : {1, 3, 4, 5, 15, 16, 17, 31, 33, 63, 64, 65, 80, 130}) {
      for (int rows : {1, 2, 3, 4}) {
        check_random(make_problem(ic, 1, rows, oc, kDense, 1, 3, 5, Grid::kTwosComplement, -2));
      }
    }
  }
}

TEST_P(NibbleKernel, BatchesAndThreads) {
  for (int n : {1, 2, 3, 5, 9}) {
    for (int threads : {1, 2, 3}) {
      ConvProblem p = make_problem(1030, 1, 2, 301, kDense, 1, 4, 4, Grid::kOdd, -3);
      p.max_batch = 4;
      check_random(p, n, threads);
      p.max_threads = 2;
      check_random(p, n, threads);
    }
  }
}

// Every operand at its extreme, in reductions that end next to where 16-bit sums are full.
TEST_P(NibbleKernel, WidensBeforeSixteenBitsOverflow) {
  for (int w = 1; w <= 4; ++w) {
    for (int a = 1; a <= 8; ++a) {
      const int top = (1 << w) - 1, largest = (1 << a) - 1;
      for (int room : {32767 / (4 * top * largest), 65535 / (2 * top * largest)}) {
        for (int steps : {room, room + 1, room + 2, 2 * room + 2}) {
          if (steps > 3000) continue;
          const ConvProblem p = make_problem(8 * steps, 1, 2, 5, kDense, 1, w, a);
          check(p, std::vector<uint8_t>(weight_count(p), static_cast<uint8_t>(top)),
                std::vector<uint8_t>(src_count(p, 1), static_cast<uint8_t>(largest)));
        }
      }
    }
  }
}

TEST_P(NibbleKernel, RunsTheCodeAskedForOnHalfTheBytes) {
  const ConvProblem p = make_problem(512, 1, 1, 1024, kDense, 1, 4, 4);
  const auto kernel = entry_->make(p, random_codes(weight_count(p), 4, 1), entry_->isa);
  const char* expected = entry_->isa == Isa::kScalar   ? "scalar"
                         : entry_->isa == Isa::kNeon   ? "highway NEON"
                         : entry_->isa == Isa::kAvx2   ? "highway AVX2"
                         : entry_->isa == Isa::kAvx512 ? "highway AVX3"
                                                       : "highway AVX3_DL";
  EXPECT_EQ(kernel->implementation(), expected);
  EXPECT_EQ(kernel->weight_bytes(), 512u * 1024 / 2 + 1024 * sizeof(int32_t));
}

TEST_P(NibbleKernel, RefusesWhatItIsNotMadeFor) {
  EXPECT_THAT(refusal(make_problem(16, 1, 1, 16, kDense, 1, 5, 4)), testing::HasSubstr("5 weight bits"));
  EXPECT_THAT(refusal(make_problem(16, 1, 5, 16, kDense, 1, 4, 4)), testing::HasSubstr("4 rows"));
  EXPECT_THAT(refusal(make_problem(16, 1, 1, 16, kDense, 2, 4, 4)), testing::HasSubstr("fully connected"));
  // As many outputs as inputs, but every second one of them is padding.
  EXPECT_THAT(refusal(make_problem(16, 2, 2, 16, {1, 1, 2, 2, 1, 1, 0, 0, 1, 1}, 1, 4, 4)),
              testing::HasSubstr("fully connected"));
  EXPECT_THAT(refusal(make_problem(16, 3, 3, 16, {3, 3}, 1, 4, 4)), testing::HasSubstr("fully connected"));
}

TEST_P(NibbleKernel, RunsConcurrently) {
  ConvProblem p = make_problem(700, 1, 1, 333, kDense, 1, 4, 6, Grid::kOdd, -2);
  p.max_threads = 2;
  const auto weights = random_codes(weight_count(p), p.w_bits, 3);
  const auto kernel = entry_->make(p, weights, entry_->isa);
  const auto reference = conv_kernels().back().make(p, weights, Isa::kScalar);
  std::vector<std::thread> threads;
  std::vector<int> wrong(2, 0);
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      const auto src = random_codes(src_count(p, 1), p.a_bits, 10 + t);
      const auto expected = run_guarded(*reference, p, src, 1, 1);
      for (int i = 0; i < 20; ++i) wrong[t] += run_guarded(*kernel, p, src, 1, 1 + i % 2) != expected;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, (std::vector<int>{0, 0}));
}

INSTANTIATE_TEST_SUITE_P(Linear, NibbleKernel, testing::ValuesIn(kernel_names(is_linear)), test_name);

}  // namespace
}  // namespace bitstrata::kernels::test
