// ConvKernel::stream: every output pixel handed on exactly once, with the values that run() stores.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>

#include "core/error.h"
#include "tests/unit/kernels/kernel_test.h"

namespace bitstrata::kernels::test {
namespace {

using program::Window;

/// Copies what it is handed and counts how often each pixel came, and calls that broke the contract.
struct Collector {
  const ConvProblem& problem;
  int images, threads;
  std::vector<int32_t> acc;
  std::vector<std::atomic<int>> times;
  std::atomic<int> broken{0};
  std::vector<std::atomic<bool>> busy;

  Collector(const ConvProblem& p, int n, int team)
      : problem(p),
        images(n),
        threads(team),
        acc(acc_count(p, n)),
        times(acc.size() / static_cast<size_t>(p.oc)),
        busy(static_cast<size_t>(team)) {}

  PixelSink sink() { return {this, take}; }

  static void take(const void* self, int image, int64_t first, int count, const int32_t* pixels,
                   int thread) noexcept {
    auto& c = *static_cast<Collector*>(const_cast<void*>(self));
    const int64_t image_pixels = int64_t{c.problem.oh} * c.problem.ow;
    const bool valid = image >= 0 && image < c.images && first >= 0 && count > 0 &&
                       first + count <= image_pixels && thread >= 0 && thread < c.threads;
    if (!valid) {
      ++c.broken;
      return;
    }
    // A thread's number belongs to it alone while it is in here.
    if (c.busy[static_cast<size_t>(thread)].exchange(true)) ++c.broken;
    const size_t at = static_cast<size_t>(image * image_pixels + first);
    for (size_t i = at; i < at + static_cast<size_t>(count); ++i) ++c.times[i];
    std::copy_n(pixels, static_cast<size_t>(count) * c.problem.oc, c.acc.begin() + at * c.problem.oc);
    c.busy[static_cast<size_t>(thread)] = false;
  }
};

class EveryStream : public KernelTest {
 protected:
  void SetUp() override {
    KernelTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    const ConvProblem p = usual_problem();
    if (!entry_->make(p, random_codes(weight_count(p), 2, 1), cap_)->streams()) GTEST_SKIP() << "no stream()";
  }

  /// False when the kernel refuses the problem.
  bool check(ConvProblem p, int n, int threads, int max_threads) {
    p.max_threads = max_threads;
    validate(p);
    if (!entry_->refuses(p, cap_).empty()) return false;
    const auto kernel = entry_->make(p, random_codes(weight_count(p), p.w_bits, 1), cap_);
    if (!kernel->streams()) return false;
    const auto src = random_codes(src_count(p, n), p.a_bits, 2);
    const auto expected = run_guarded(*kernel, p, src, n, threads);
    GuardedBuffer in(src.size()), scratch((kernel->scratch_bytes(n) + 63) / 64 * 64);
    std::memcpy(in.as<uint8_t>(), src.data(), src.size());
    Collector collector(p, n, std::min(threads, max_threads));
    kernel->stream(in.as<uint8_t>(), n, collector.sink(), scratch.as<void>(), threads);
    EXPECT_EQ(collector.broken, 0) << describe(p);
    EXPECT_TRUE(std::all_of(collector.times.begin(), collector.times.end(),
                            [](const auto& times) { return times == 1; }))
        << describe(p) << " n " << n << " threads " << threads;
    EXPECT_TRUE(collector.acc == expected) << describe(p) << " n " << n << " threads " << threads;
    return true;
  }
};

TEST_P(EveryStream, EveryPixelOnceWithTheValuesOfRun) {
  const Window windows[] = {square(1, 1, 0),
                            square(3, 1, 1),
                            square(5, 1, 2),
                            square(3, 2, 1),
                            square(3, 1, 3, 2),
                            square(1, 3, 0),
                            {2, 1, 3, 1, 2, 1, 3, 0, 0, 1},
                            {3, 3, 1, 1, 1, 1, 5, 0, 4, 2}};
  int done = 0;
  for (const Window& window : windows) {
    for (auto [ih, iw] : {std::array{1, 1}, {3, 70}, {30, 5}, {17, 17}}) {
      if (ih + window.pad_top + window.pad_bottom < window.dilation_h * (window.kernel_h - 1) + 1) continue;
      if (iw + window.pad_left + window.pad_right < window.dilation_w * (window.kernel_w - 1) + 1) continue;
      for (int n : {1, 3}) {
        for (int threads : {1, 2, 7}) {
          const ConvProblem p = make_problem(9, ih, iw, 21, window, 1, 2, 2, Grid::kOdd, -1);
          done += check(p, n, threads, threads == 7 ? 3 : 7);
        }
      }
    }
  }
  EXPECT_GT(done, 40);  // of 192, those with windows that the family takes
}

// One band, so that threads share the output channels.
TEST_P(EveryStream, FewerBandsThanThreads) {
  int done = 0;
  for (int threads : {1, 2, 4})
    done += check(make_problem(6, 9, 9, 130, square(3, 1, 1), 1, 4, 4), 1, threads, 4);
  for (auto [ic, oc, groups] : {std::array{100, 70, 1}, {8, 3, 1}, {64, 96, 4}, {12, 12, 12}}) {
    for (int n : {1, 3}) {
      for (int threads : {1, 2, 4}) {
        done += check(make_problem(ic, 1, 1, oc, square(1, 1, 0), groups, 3, 2), n, threads, 4);
        done += check(make_problem(ic, 2, 3, oc, square(3, 2, 1), groups, 1, 4, Grid::kTwosComplement), n,
                      threads, 4);
        done += check(make_problem(ic, 2, 3, oc, square(3, 1, 1), groups, 4, 4), n, threads, 4);
      }
    }
  }
  EXPECT_GT(done, 0);
}

INSTANTIATE_TEST_SUITE_P(Conv, EveryStream, testing::ValuesIn(kernel_names([](const KernelEntry& entry) {
                           return entry.family != Family::kReference && entry.family != Family::kDirect &&
                                  !is_linear(entry);
                         })),
                         test_name);

}  // namespace
}  // namespace bitstrata::kernels::test
