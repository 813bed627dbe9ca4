#include "kernels/float_conv.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "tests/unit/kernels/support.h"

namespace bitstrata::kernels::test {
namespace {

std::vector<float> random_floats(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = std::uniform_real_distribution<float>(-1, 1)(random);
  return values;
}

/// Largest distance to a float64 loop, and whether it stays within what float32 sums of this length may lose.
void expect_close(const FloatConvProblem& p, int n, int threads, bool with_bias) {
  const auto& w = p.window;
  const int group_ic = p.ic / p.groups, group_oc = p.oc / p.groups, taps = w.kernel_h * w.kernel_w;
  const auto weights = random_floats(size_t{1} * p.oc * group_ic * taps, 1);
  const auto bias = random_floats(with_bias ? p.oc : 0, 2);
  const auto src = random_floats(size_t{1} * n * p.ih * p.iw * p.ic, 3);
  const FloatConv conv(p, weights, bias, resolve_isa(""));
  const size_t dst_count = size_t{1} * n * p.oh * p.ow * p.oc;
  GuardedBuffer in(src.size() * 4), out(dst_count * 4), scratch((conv.scratch_bytes() + 63) / 64 * 64);
  std::memcpy(in.as<float>(), src.data(), src.size() * 4);
  conv.run(in.as<float>(), n, out.as<float>(), scratch.as<void>(), threads);
  const double tolerance = 1.2e-7 * group_ic * taps;
  const float* actual = out.as<float>();
  for (int b = 0; b < n; ++b) {
    for (int y = 0; y < p.oh; ++y) {
      for (int x = 0; x < p.ow; ++x) {
        for (int o = 0; o < p.oc; ++o) {
          double sum = with_bias ? bias[o] : 0;
          for (int c = 0; c < group_ic; ++c) {
            for (int tap = 0; tap < taps; ++tap) {
              const int iy = y * w.stride_h - w.pad_top + tap / w.kernel_w * w.dilation_h;
              const int ix = x * w.stride_w - w.pad_left + tap % w.kernel_w * w.dilation_w;
              if (iy < 0 || iy >= p.ih || ix < 0 || ix >= p.iw) continue;
              sum += double{weights[(size_t{1} * o * group_ic + c) * taps + tap]} *
                     src[((size_t{1} * b * p.ih + iy) * p.iw + ix) * p.ic + o / group_oc * group_ic + c];
            }
          }
          ASSERT_NEAR(*actual++, sum, tolerance + 1e-6)
              << conv.implementation() << " " << b << " " << y << " " << x << " " << o;
        }
      }
    }
  }
}

FloatConvProblem problem(int ic, int ih, int iw, int oc, const program::Window& window, int groups = 1) {
  const ConvProblem p = make_problem(ic, ih, iw, oc, window, groups, 1, 1);
  return {p.ic, p.ih, p.iw, p.oc, p.oh, p.ow, p.groups, p.window};
}

TEST(FloatConv, MatchesADoubleLoop) {
  for (int n : {1, 2, 5}) {
    for (int threads : {1, 2}) {
      for (bool with_bias : {false, true}) {
        for (FloatConvProblem p :
             {problem(3, 9, 8, 16, {7, 7, 2, 2, 1, 1, 3, 3, 3, 3}), problem(16, 6, 6, 5, {1, 1, 1, 1}),
              problem(17, 7, 5, 19, {3, 2, 1, 2, 2, 1, 2, 0, 1, 1}),
              problem(32, 6, 6, 32, {3, 3, 1, 1, 1, 1, 1, 1, 1, 1}, 32),
              problem(6, 6, 6, 9, {3, 3, 1, 1, 1, 1, 1, 1, 1, 1}, 3)}) {
          p.max_batch = 4;
          p.max_threads = 2;
          expect_close(p, n, threads, with_bias);
        }
      }
    }
  }
}

TEST(FloatLinear, MatchesADoubleLoop) {
  const int in = 37, out = 11, positions = 3, n = 2;
  const auto weights = random_floats(in * out, 1), bias = random_floats(out, 2),
             src = random_floats(n * positions * in, 3);
  const FloatLinear linear(in, out, positions, weights, bias, resolve_isa(""), 2);
  GuardedBuffer dst(n * positions * out * 4), scratch((linear.scratch_bytes() + 63) / 64 * 64);
  linear.run(src.data(), n, dst.as<float>(), scratch.as<void>(), 1);
  for (int r = 0; r < n * positions; ++r) {
    for (int o = 0; o < out; ++o) {
      double sum = bias[o];
      for (int i = 0; i < in; ++i) sum += double{weights[o * in + i]} * src[r * in + i];
      ASSERT_NEAR(dst.as<float>()[r * out + o], sum, 1e-5);
    }
  }
}

TEST(FloatConv, RefusesSizesThatDoNotFit) {
  const FloatConvProblem p = problem(4, 5, 5, 4, {3, 3, 1, 1, 1, 1, 1, 1, 1, 1});
  EXPECT_THROW(FloatConv(p, std::vector<float>(143), {}, resolve_isa("")), Error);
  EXPECT_THROW(FloatConv(p, std::vector<float>(144), std::vector<float>(3), resolve_isa("")), Error);
}

}  // namespace
}  // namespace bitstrata::kernels::test
