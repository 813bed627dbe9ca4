// Every kernel on every instruction set of this machine against the reference, which conv_reference in
// select_test.cpp checks by hand.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <thread>

#include "core/error.h"
#include "kernels/bitplane.h"
#include "kernels/onednn_cap.h"
#include "tests/unit/kernels/kernel_test.h"

namespace bitstrata::kernels::test {
namespace {

using program::Window;

class EveryKernel : public KernelTest {
 protected:
  /// Whether the family takes these windows and groups.
  bool takes(const ConvProblem& p) const {
    const Window& w = p.window;
    return !is_winograd() || (w.kernel_h == 3 && w.kernel_w == 3 && w.stride_h == 1 && w.stride_w == 1 &&
                              w.dilation_h == 1 && w.dilation_w == 1 && p.groups == 1);
  }
};

// Codes that a kernel writes itself are those of the written order of operations, at rounding ties too.
TEST_P(EveryKernel, FusedEndsRoundAsWritten) {
  int fused = 0, asked = 0, narrow_weights = 0;
  std::vector<ConvProblem> problems = {
      make_problem(16, 9, 7, 41, square(3, 1, 1), 1, 1, 1, Grid::kSymmetric, -1),
      make_problem(18, 6, 10, 33, square(3, 2, 1), 1, 1, 2, Grid::kSymmetric),
      make_problem(32, 5, 4, 70, square(3, 1, 1), 2, 2, 1, Grid::kOdd),
      make_problem(200, 1, 1, 37, square(1, 1, 0), 1, 2, 2, Grid::kTwosComplement),
      make_problem(64, 3, 3, 20, square(3, 1, 1), 1, 1, 6, Grid::kTwosComplement, -9),
      make_problem(16, 9, 7, 24, square(3, 1, 1), 1, 2, 3, Grid::kTwosComplement),
      make_problem(64, 6, 6, 32, square(3, 2, 1), 1, 4, 4, Grid::kTwosComplement),
      make_problem(32, 5, 5, 48, square(1, 1, 0), 1, 8, 8, Grid::kSymmetric)};
  // Groups whose channels fill vectors, and groups that leave part of one.
  for (int group_oc : {1, 8, 16, 17, 33, 48}) {
    problems.push_back(make_problem(32, 5, 4, 2 * group_oc, square(3, 1, 1), 2, 4, 4, Grid::kTwosComplement));
  }
  problems.push_back(make_problem(33, 5, 4, 33, square(3, 1, 1), 33, 8, 8, Grid::kTwosComplement));
  // What a kernel adds before it rounds, and parts of tiles and vectors.
  for (int oc : {1, 8, 17, 32, 41}) {
    problems.push_back(make_problem(3, 20, 20, oc, square(7, 2, 3), 1, 4, 8, Grid::kOdd, -3));
    problems.push_back(make_problem(6, 4, 13, 2 * oc, square(3, 1, 1), 2, 8, 8, Grid::kOdd));
  }
  for (ConvProblem& p : problems) {
    p.max_batch = p.max_threads = 2;
    if (!entry_->refuses(p, cap_).empty()) continue;
    const int n = 3;
    const auto weights = random_codes(weight_count(p), p.w_bits, 1);
    const auto src = random_codes(src_count(p, n), p.a_bits, 2);
    const auto acc = run_guarded(*conv_kernels().back().make(p, weights, Isa::kScalar), p, src, n, 1);
    for (const int max_code : {255, 15, 1}) {
      std::vector<float> mul, add;
      for (int o = 0; o < p.oc; ++o) {
        // A power of two gives exact halves, the others awkward roundings.
        mul.push_back(o % 3 == 0 ? 0.25f : 0.0371f * static_cast<float>(o % 5 - 2));
        add.push_back(o % 3 == 0 ? 0.5f : 0.3f * static_cast<float>(o % 7));
      }
      const float inverse = max_code == 15 ? 0.37f : 1.0f;
      const auto kernel = entry_->make(p, weights, cap_);
      ++asked;
      narrow_weights += p.w_bits <= 2;
      if (!kernel->fuse({mul, add, inverse, max_code})) continue;
      ++fused;
      GuardedBuffer in(src.size()), out(acc.size()), scratch((kernel->scratch_bytes(n) + 63) / 64 * 64);
      std::memcpy(in.as<uint8_t>(), src.data(), src.size());
      kernel->run_codes(in.as<uint8_t>(), n, out.as<uint8_t>(), scratch.as<void>(), max_code == 1 ? 1 : 2);
      for (size_t i = 0; i < acc.size(); ++i) {
        const size_t o = i % static_cast<size_t>(p.oc);
        float y = static_cast<float>(acc[i]) * mul[o];
        y = y + add[o];
        const float code = std::min(std::max(std::rint(y * inverse), 0.0f), static_cast<float>(max_code));
        ASSERT_EQ(out.as<uint8_t>()[i], static_cast<uint8_t>(code)) << describe(p) << " element " << i;
      }
    }
  }
  const bool lookup = entry_->family == Family::kLookup;
  EXPECT_EQ(fused > 0, is_narrow() || lookup || entry_->name.find("onednn") != std::string::npos);
  EXPECT_TRUE(!is_narrow() || fused == asked);
  EXPECT_TRUE(!lookup || fused == narrow_weights) << fused << " of " << narrow_weights;
}

TEST_P(EveryKernel, AllBitPairs) {
  for (int w = 1; w <= 8; ++w) {
    for (int a = 1; a <= 8; ++a) {
      EXPECT_EQ(check_random(make_problem(5, 4, 5, 19, square(3, 1, 1), 1, w, a)),
                w <= max_w() && a <= max_a())
          << w << " " << a;
    }
  }
}

TEST_P(EveryKernel, GridsAndZeroPoints) {
  for (int w : {1, 2, 3, max_w() - 3, max_w() - 1, max_w()}) {
    for (int a : {1, 2, 3, 5, max_a()}) {
      for (Grid grid : kAllGrids) {
        for (int zero : {0, -1, -(1 << (a - 1)), -((1 << a) - 1)}) {
          for (const Window& window :
               {Window{3, 2, 1, 1, 1, 1, 2, 0, 0, 1}, {3, 3, 1, 1, 1, 1, 2, 0, 0, 1}}) {
            const ConvProblem p = make_problem(7, 4, 3, 18, window, 1, w, a, grid, zero);
            EXPECT_EQ(check_random(p), takes(p));
          }
        }
      }
    }
  }
}

TEST_P(EveryKernel, Shapes) {
  const Window windows[] = {square(1, 1, 0),
                            square(3, 1, 1),
                            square(5, 1, 2),
                            square(3, 2, 1),
                            square(3, 1, 2, 2),
                            square(1, 2, 0),
                            {3, 3, 2, 2, 1, 1, 0, 0, 1, 1},
                            {1, 5, 1, 2, 1, 1, 0, 3, 0, 1},
                            {3, 1, 1, 1, 2, 1, 1, 0, 3, 0},
                            {2, 2, 3, 1, 1, 2, 0, 1, 2, 0},
                            {3, 3, 1, 1, 1, 1, 4, 4, 4, 4}};
  int done = 0, asked = 0;
  for (const Window& window : windows) {
    for (int ic : {1, 3, 5, 16, 17, 33, 64}) {
      for (int oc : {1, 5, 16, 33}) {
        for (auto [zero, w_bits] : {std::array{0, 3}, {-3, 3}, {-3, 1}, {0, 2}}) {
          // One of the shapes that the AVX2 int8 kernel refuses.
          if (entry_->name == "conv_u8s8_onednn__avx2" && window.kernel_w == 1 && window.stride_w == 2 &&
              ic < 8)
            continue;
          const ConvProblem p = make_problem(ic, 7, 6, oc, window, 1, w_bits, 2, Grid::kOdd, zero);
          asked += takes(p);
          done += check_random(p);
        }
      }
    }
  }
  EXPECT_EQ(done, asked);
}

TEST_P(EveryKernel, GroupsAndDepthwise) {
  int done = 0;
  for (const Window& window : {square(3, 1, 1), square(3, 2, 1), square(1, 1, 0), square(3, 1, 2, 2)}) {
    for (auto [ic, oc, groups] :
         {std::array{8, 8, 8}, {33, 33, 33}, {16, 32, 2}, {6, 9, 3}, {64, 64, 2}, {4, 8, 4}, {128, 64, 4}}) {
      for (int zero : {0, -1}) {
        done += check_random(make_problem(ic, 6, 7, oc, window, groups, 8, 8, Grid::kOdd, zero));
        done += check_random(make_problem(ic, 6, 7, oc, window, groups, 2, 3, Grid::kSymmetric, zero));
      }
    }
  }
  EXPECT_EQ(done > 0, !is_winograd());
}

// Operands that overflow 16-bit pair sums (maddubs) and 24-bit float sums where a kernel has either.
TEST_P(EveryKernel, WorstCaseOperands) {
  int done = 0;
  for (auto [w_bits, a_bits] :
       {std::array{8, 8}, {7, 8}, {8, 7}, {7, 7}, {6, 8}, {4, 8}, {1, 1}, {8, 1}, {1, 8}, {4, 4}}) {
    const int w = std::min(w_bits, max_w()), a = std::min(a_bits, max_a());
    for (Grid grid : kAllGrids) {
      for (int extreme : {0, (1 << w) - 1}) {
        for (int zero : {0, -((1 << a) - 1)}) {
          const ConvProblem p = make_problem(130, 4, 4, 17, square(3, 1, 1), 1, w, a, grid, zero);
          std::vector<uint8_t> weights(weight_count(p), static_cast<uint8_t>(extreme));
          std::vector<uint8_t> src(src_count(p, 1), static_cast<uint8_t>((1 << a) - 1));
          done += check(p, weights, src);
          // Bounds from weights have to hold in every part of the window.
          std::vector<uint8_t> second_half(weights.size());
          for (size_t i = 0; i < weights.size(); ++i) {
            const size_t at = i % p.reduction();
            second_half[i] = 2 * at < size_t{1} * p.reduction() ? 0 : weights[i];
          }
          done += check(p, second_half, src);
          weights[weights.size() / 2] ^= 1;  // odd sums
          src[src.size() / 2] ^= 1;
          done += check(p, weights, src);
        }
      }
    }
  }
  const ConvProblem depthwise = make_problem(32, 6, 6, 32, square(5, 1, 2), 32, 8, 8);
  done += check(depthwise, std::vector<uint8_t>(weight_count(depthwise), 255),
                std::vector<uint8_t>(src_count(depthwise, 1), 255));
  EXPECT_GE(done, 360);
}

TEST_P(EveryKernel, LongReductions) {
  const int w = max_w(), a = max_a();
  EXPECT_TRUE(check_random(make_problem(512, 3, 3, 20, square(3, 1, 1), 1, w, a)));
  EXPECT_TRUE(check_random(
      make_problem(512, 3, 3, 20, square(3, 1, 1), 1, w, a, Grid::kTwosComplement, -(1 << (a - 1)))));
  const ConvProblem linear = make_problem(4096, 1, 1, 40, square(1, 1, 0), 1, 4, 4);
  EXPECT_EQ(check_random(linear), takes(linear));
  const ConvProblem p = make_problem(512, 3, 3, 20, square(3, 1, 1), 1, w, a);
  EXPECT_TRUE(check(p, std::vector<uint8_t>(weight_count(p), static_cast<uint8_t>((1 << w) - 2)),
                    std::vector<uint8_t>(src_count(p, 1), static_cast<uint8_t>((1 << a) - 1))));
  // Its parts may exceed 2^31, its sums do not.
  const ConvProblem wide = make_problem(20000, 2, 2, 3, square(3, 1, 1), 1, 4, 6, Grid::kTwosComplement);
  const std::vector<uint8_t> lowest(weight_count(wide), 0), highest(src_count(wide, 1), 63);
  const bool taken = check(wide, lowest, highest);
  EXPECT_TRUE(taken || entry_->name.find("onednn") != std::string::npos) << "float sums may refuse it";
}

TEST_P(EveryKernel, BatchesAndThreads) {
  for (int n : {1, 2, 5}) {
    for (int threads : {1, 2}) {
      for (int zero : {0, -2}) {
        for (int w : {2, max_w()}) {
          for (int stride : {1, 2}) {
            ConvProblem p = make_problem(16, 5, 9, 24, square(3, stride, 1), 1, w, 2, Grid::kOdd, zero);
            p.max_batch = 4;
            EXPECT_EQ(check_random(p, n, threads), takes(p));
            p.max_threads = 2;
            EXPECT_EQ(check_random(p, n, threads), takes(p));
          }
          ConvProblem linear = make_problem(100, 1, 1, 70, square(1, 1, 0), 1, w, 2, Grid::kOdd, zero);
          linear.max_threads = 2;
          EXPECT_EQ(check_random(linear, n, threads), takes(linear));
        }
      }
    }
  }
}

TEST_P(EveryKernel, RunsConcurrently) {
  ConvProblem p = make_problem(32, 12, 12, 32, square(3, 1, 1), 1, max_w(), 4, Grid::kOdd, -2);
  p.max_threads = 2;
  const auto weights = random_codes(weight_count(p), p.w_bits, 3);
  const auto kernel = entry_->make(p, weights, cap_);
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

// Sums of 16 bits hold a number of products that follows from the largest operands. Reductions that end
// there, next to it and at its double, with every operand at its extreme.
TEST_P(EveryKernel, WidensBeforeSixteenBitsOverflow) {
  if (!is_narrow()) GTEST_SKIP() << "a property of the narrow kernels";
  int done = 0;
  for (int w = 1; w <= 8; ++w) {
    for (int a = 1; a <= 8; ++a) {
      const int max_value = (1 << a) - 1, top = (1 << w) - 1;
      for (int max_weight : {top, (top + 1) / 2}) {  // grid integers or codes, and centred codes
        for (int room : {32767 / (2 * max_weight * max_value), 65535 / (max_weight * max_value)}) {
          for (int steps : {room - 1, room, room + 1, 2 * room, 2 * room + 1}) {
            if (steps < 1) continue;
            const ConvProblem p = make_problem(4 * steps, 1, 1, 3, square(1, 1, 0), 1, w, a);
            std::vector<uint8_t> weights(weight_count(p), 0);                  // the lowest integer,
            std::fill_n(weights.begin(), 4 * steps, top);                      // the highest,
            for (size_t i = 1; i < size_t{4} * steps; i += 2) weights[i] = 0;  // and both in turn
            std::fill_n(weights.begin() + 4 * steps, 4 * steps, top);
            done += check(p, weights, std::vector<uint8_t>(src_count(p, 1), max_value));
          }
        }
      }
    }
  }
  EXPECT_GE(done, 1000);
}

// The largest weight of the layer counts, not that of its grid.
TEST_P(EveryKernel, UsesTheRoomThatSmallWeightsLeave) {
  if (!is_narrow()) GTEST_SKIP() << "a property of the narrow kernels";
  for (int largest : {0, 1, 3}) {
    const int room = 32767 / (2 * std::max(largest, 1) * 127);
    for (int steps : {room, room + 1, 2 * room + 1}) {
      const ConvProblem p = make_problem(4 * steps, 1, 1, 5, square(1, 1, 0), 1, 8, 7, Grid::kTwosComplement);
      for (int sign : {-1, 1}) {
        EXPECT_TRUE(check(p,
                          std::vector<uint8_t>(weight_count(p), static_cast<uint8_t>(128 + sign * largest)),
                          std::vector<uint8_t>(src_count(p, 1), 127)));
      }
    }
  }
}

// Where the largest weights leave 16-bit sums no room, operands are widened, in all the shapes and channels
// that leave part of a tile, of a vector or of a pair unused; with smaller weights they are not.
TEST_P(EveryKernel, WidensOperandsThatCouldSaturate) {
  if (!is_narrow()) GTEST_SKIP() << "a property of the narrow kernels";
  for (const Window& window : {square(3, 1, 1), square(3, 2, 1), square(1, 1, 0), square(3, 1, 2, 2)}) {
    for (int ic : {1, 2, 3, 5, 16}) {
      for (int oc : {1, 7, 16, 17, 31, 33, 65}) {
        for (int width : {1, 5, 13}) {
          for (Grid grid : kAllGrids) {
            EXPECT_TRUE(check_random(make_problem(ic, 3, width, oc, window, 1, 8, 8, grid, -3)));
            const ConvProblem p = make_problem(2 * ic, 3, width, 2 * oc, window, 2, 8, 8, grid);
            EXPECT_TRUE(check_random(p));
            EXPECT_TRUE(check(p, std::vector<uint8_t>(weight_count(p), 129),
                              std::vector<uint8_t>(src_count(p, 1), 255)));
          }
        }
      }
    }
  }
}

// Byte sums hold a number of table entries that follows from the largest code, 16-bit sums another.
// Reductions that end at the latter and next to it, with every operand at its extreme, in vectors of one
// pixel and of several.
TEST_P(EveryKernel, WidensTableEntriesBeforeTheyOverflow) {
  if (entry_->family != Family::kLookup) GTEST_SKIP() << "a property of the lookup kernels";
  for (int w = 1; w <= max_w(); ++w) {
    for (int a = 1; a <= max_a(); ++a) {
      for (int planes : {1, 3}) {
        const int entry = 4 * ((1 << a) - 1), flush = 255 / entry, room = 65535 / (planes * entry);
        for (int steps : {flush + 1, room / flush * flush, room, room + 1, 2 * room + 1}) {
          if (steps > 6000) continue;
          for (int extent : {1, 3}) {
            ConvProblem p = make_problem(4 * steps, 1, extent, 19, square(1, 1, 0), 1, w, a);
            EXPECT_TRUE(check(p, std::vector<uint8_t>(weight_count(p), static_cast<uint8_t>((1 << w) - 1)),
                              std::vector<uint8_t>(src_count(p, 1), static_cast<uint8_t>((1 << a) - 1))));
          }
        }
      }
    }
  }
}

// Every number of pixels and of channels that leaves a part of a tile or of a vector unused.
TEST_P(EveryKernel, PartsOfTiles) {
  if (entry_->family != Family::kLookup) GTEST_SKIP() << "tiles of the lookup kernels";
  for (int w = 1; w <= max_w(); ++w) {
    for (int width = 1; width <= 18; ++width) {
      for (int oc : {1, 7, 8, 9, 15, 16, 17, 24, 31, 33, 40, 63, 64, 65, 130}) {
        for (int a : {1, 2, 3}) {
          EXPECT_TRUE(check_random(make_problem(5, 2, width, oc, square(3, 1 + width % 2, 1), 1, w, a)));
        }
      }
    }
  }
}

int threads_of_this_process() {
  int count = 0;
  for ([[maybe_unused]] const auto& task : std::filesystem::directory_iterator("/proc/self/task")) ++count;
  return count;
}

// OpenMP keeps the helpers of a thread until that thread ends, so a fresh thread shows how many a run
// started.
TEST_P(EveryKernel, StartsNoMoreThreadsThanAllowed) {
  ConvProblem p = make_problem(64, 32, 32, 64, square(3, 1, 1), 1, max_w(), max_a(), Grid::kOdd, -2);
  p.max_threads = p.max_batch = 2;
  const auto kernel = entry_->make(p, random_codes(weight_count(p), p.w_bits, 3), cap_);
  const auto src = random_codes(src_count(p, 3), p.a_bits, 4);
  for (int allowed : {1, 2}) {
    int started = -1;
    std::thread([&] {
      const int before = threads_of_this_process();
      run_guarded(*kernel, p, src, 3, allowed);
      started = threads_of_this_process() - before;
    }).join();
    EXPECT_LE(started, allowed - 1) << entry_->name;
  }
}

// What ran is the code of the entry's instruction set, by its own account.
TEST_P(EveryKernel, RunsTheCodeAskedFor) {
  const ConvProblem p = make_problem(64, 8, 8, 64, square(3, 1, 1), 1, 4, 4);
  const auto kernel = entry_->make(p, random_codes(weight_count(p), 4, 1), cap_);
  const std::string actual = kernel->implementation();
  if (entry_->name.find("onednn") != std::string::npos) {
    EXPECT_EQ(cap_onednn(cap_), entry_->isa);
    const char* expected = entry_->isa == Isa::kAvx2     ? "avx2"
                           : entry_->isa == Isa::kAvx512 ? "avx512_core"
                           : entry_->isa == Isa::kVnni   ? "avx512_core"
                                                         : "amx";
    EXPECT_NE(actual.find(expected), std::string::npos) << actual;
    EXPECT_TRUE(entry_->isa >= Isa::kVnni || actual.find("vnni") == std::string::npos) << actual;
  } else {
    const char* expected = entry_->isa == Isa::kScalar   ? "scalar"
                           : entry_->isa == Isa::kNeon   ? "highway NEON"
                           : entry_->isa == Isa::kAvx2   ? "highway AVX2"
                           : entry_->isa == Isa::kAvx512 ? "highway AVX3"
                                                         : "highway AVX3_DL";
    EXPECT_EQ(actual, expected);
  }
}

class EveryDepthwiseKernel : public EveryKernel {};

TEST_P(EveryDepthwiseKernel, ShapesBitsGridsAndThreads) {
  const Window windows[] = {
      square(3, 1, 1), square(5, 2, 2), square(3, 1, 3, 3), {2, 3, 1, 2, 1, 1, 0, 4, 2, 3}, {1, 1, 3, 3}};
  for (const Window& window : windows) {
    for (int c : {1, 3, 16, 17, 33, 70}) {
      for (auto [w, a, zero] : {std::array{1, 1, 0}, {2, 3, -7}, {8, 8, -128}, {8, 8, 0}, {5, 4, -1}}) {
        for (Grid grid : kAllGrids) {
          for (int threads : {1, 2}) {
            ConvProblem p = make_problem(c, 9, 6, c, window, c, w, a, grid, zero);
            p.max_threads = 2;
            EXPECT_TRUE(check_random(p, 2, threads) || entry_->family == Family::kInt8 ||
                        entry_->family == Family::kLookup);
          }
        }
      }
    }
  }
  const ConvProblem extreme = make_problem(32, 6, 6, 32, square(5, 1, 2), 32, 8, 8);
  if (!entry_->refuses(extreme, cap_).empty()) return;
  check(extreme, std::vector<uint8_t>(weight_count(extreme), 255),
        std::vector<uint8_t>(src_count(extreme, 1), 255));
  const auto kernel = entry_->make(extreme, random_codes(weight_count(extreme), 8, 1), cap_);
  const char* expected = entry_->isa == Isa::kAvx512 ? "AVX3" : entry_->isa == Isa::kAvx2 ? "AVX2" : "";
  EXPECT_TRUE(entry_->family != Family::kDirect || kernel->implementation().ends_with(expected))
      << kernel->implementation();
}

bool is_reference(const KernelEntry& entry) {
  return entry.family == Family::kReference;
}

INSTANTIATE_TEST_SUITE_P(Conv, EveryKernel, testing::ValuesIn(kernel_names([](const KernelEntry& entry) {
                           return !is_reference(entry) && !is_linear(entry) &&
                                  entry.family != Family::kDirect;
                         })),
                         test_name);
INSTANTIATE_TEST_SUITE_P(Conv, EveryDepthwiseKernel,
                         testing::ValuesIn(kernel_names([](const KernelEntry& entry) {
                           return !is_reference(entry) && !is_linear(entry);
                         })),
                         test_name);

}  // namespace
}  // namespace bitstrata::kernels::test
