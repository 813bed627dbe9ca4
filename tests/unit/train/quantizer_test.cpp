#include <gtest/gtest.h>

#include <cmath>

#include "quant/weights.h"
#include "train/activation_quantizer.h"
#include "train/weight_quantizer.h"

namespace bitstrata::train {
namespace {

using quant::Policy;
using torch::Tensor;

const std::vector<float> kActivations = {-0.3f, 0.0f, 0.4f, 1.1f, 2.6f, 9.0f};
const std::vector<float> kWeights = {-0.9f, -0.35f, -0.1f, 0.05f, 0.2f, 0.6f};

Tensor parameter(const Tensor& values) {
  return values.detach().clone(torch::MemoryFormat::Preserve).set_requires_grad(true);
}

void expect_near(const Tensor& found, const std::vector<float>& expected, double tolerance) {
  ASSERT_EQ(found.numel(), static_cast<int64_t>(expected.size()));
  const Tensor flat = found.detach().contiguous().reshape({-1});
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(flat[static_cast<int64_t>(i)].item<float>(), expected[i], tolerance) << i;
}

/// Gradients of PACT's clip `a`, one element of the tensor at a time.
std::vector<float> clip_gradients(double a, int bits, ScaleGradient mode) {
  std::vector<float> gradients;
  for (float x : kActivations) {
    const Tensor clip = parameter(torch::full({1}, a));
    const int high = (1 << bits) - 1;
    fake_quantize(torch::full({1}, x), clip / static_cast<double>(high), 0, high, mode).sum().backward();
    gradients.push_back(clip.grad().item<float>());
  }
  return gradients;
}

TEST(FakeQuantize, MatchesGoldenVectorsOfPact) {
  const Tensor x = parameter(torch::tensor(kActivations)), clip = parameter(torch::full({1}, 2.0f));
  const Tensor y = fake_quantize(x, clip / 3.0, 0, 3, ScaleGradient::kClipped);
  expect_near(y, {0, 0, .666667f, 1.333333f, 2, 2}, 1e-6);
  y.sum().backward();
  // 0 lies on the border: this implementation counts it as clipped, as LSQ does.
  expect_near(x.grad(), {0, 0, 1, 1, 0, 0}, 0);
  EXPECT_FLOAT_EQ(clip.grad().item<float>(), 2);
  EXPECT_EQ(clip_gradients(2, 2, ScaleGradient::kClipped), (std::vector<float>{0, 0, 0, 0, 1, 1}));
  const std::vector<float> improved = {0, 0, .133333f, .116667f, 1, 1},
                           found = clip_gradients(2, 2, ScaleGradient::kLsq);
  for (size_t i = 0; i < improved.size(); ++i) EXPECT_NEAR(found[i], improved[i], 1e-6) << i;
  expect_near(
      fake_quantize(torch::tensor(kActivations), torch::full({1}, 2.0f / 15), 0, 15, ScaleGradient::kNone),
      {0, 0, .4f, 1.066667f, 2, 2}, 1e-6);
}

struct Pass {
  Tensor y, gx, gs;
};

template <typename Function>
Pass run(const Function& quantizer, const Tensor& x, float scale, int low, int high, ScaleGradient mode,
         const Tensor& g) {
  const Tensor leaf = parameter(x), s = parameter(torch::full({1}, scale));
  const Tensor y = quantizer(leaf, s, low, high, mode);
  y.backward(g);
  return {y.detach(), leaf.grad(), s.grad()};
}

TEST(FakeQuantize, FusedEqualsComposedInEverySizeLayoutRangeAndThreadCount) {
  torch::manual_seed(1);
  const int threads_before = torch::get_num_threads();
  for (int threads : {1, 2}) {
    torch::set_num_threads(threads);
    for (const std::vector<int64_t>& dims :
         {std::vector<int64_t>{1}, {7}, {1000}, {100000}, {2, 3, 5, 7}, {4, 16, 40, 39}}) {
      for (bool channels_last : {false, true}) {
        if (channels_last && dims.size() != 4) continue;
        Tensor x = torch::randn(dims) * 3;
        if (channels_last) x = x.contiguous(torch::MemoryFormat::ChannelsLast);
        const Tensor g = torch::randn(dims);  // never channels-last: layouts of x and its gradient may differ
        for (const auto& [low, high] :
             {std::pair{0, 15}, {0, 1}, {-1, 0}, {-8, 7}, {-3, 252}, {-255, 0}, {0, 255}}) {
          for (ScaleGradient mode : {ScaleGradient::kNone, ScaleGradient::kClipped, ScaleGradient::kLsq}) {
            const float scale = 4.1f / static_cast<float>(high - low);
            const Pass a = run(fake_quantize, x, scale, low, high, mode, g),
                       b = run(fake_quantize_composed, x, scale, low, high, mode, g);
            ASSERT_TRUE(torch::equal(a.y, b.y)) << dims << low << " " << high;
            ASSERT_TRUE(torch::equal(a.gx, b.gx)) << dims << low << " " << high;
            ASSERT_EQ(a.gs.defined(), b.gs.defined());
            if (mode == ScaleGradient::kNone) continue;
            // Relative to the sum of the terms' magnitudes, since terms cancel.
            const double size = (g.abs() * std::max(-low, high)).sum().item<double>();
            ASSERT_NEAR(a.gs.item<double>(), b.gs.item<double>(), 1e-6 * size) << dims << low << " " << high;
          }
        }
      }
    }
  }
  torch::set_num_threads(threads_before);
}

TEST(FakeQuantize, GradientsAreTheStatedOnesAndTheSumIsReproducible) {
  const Tensor x = torch::randn({5000}) * 2, g = torch::randn({5000});
  const float s = 0.3f;
  const Pass pass = run(fake_quantize, x, s, -3, 4, ScaleGradient::kLsq, g);
  double expected = 0;
  for (int64_t i = 0; i < 5000; ++i) {
    const float r = x[i].item<float>() * (1.0f / s), gi = g[i].item<float>();
    const bool inside = r > -3 && r < 4;
    ASSERT_EQ(pass.gx[i].item<float>(), inside ? gi : 0.0f);
    expected += gi * (inside ? std::nearbyintf(r) - r : (r <= -3 ? -3 : 4));
  }
  EXPECT_NEAR(pass.gs.item<double>(), expected, 1e-3);
  EXPECT_TRUE(torch::equal(pass.gs, run(fake_quantize, x, s, -3, 4, ScaleGradient::kLsq, g).gs));
}

TEST(FakeQuantize, TakesTensorsThatAreNotDense) {
  const Tensor base = torch::randn({6, 8}), x = base.slice(1, 1, 7, 2).t();
  const Tensor y = fake_quantize(x, torch::full({1}, 0.25f), -4, 3, ScaleGradient::kNone);
  EXPECT_TRUE(
      torch::equal(y, fake_quantize_composed(x, torch::full({1}, 0.25f), -4, 3, ScaleGradient::kNone)));
}

TEST(ScaleGradient, LeavesTheValueAloneToTheLastBit) {
  for (int i = 1; i < 2000; ++i) {
    const Tensor p = parameter(torch::full({1}, 0.001f * static_cast<float>(i)));
    const Tensor scaled = scale_gradient(p, 0.0137);
    ASSERT_EQ(scaled.item<float>(), p.item<float>());
    scaled.sum().backward();
    ASSERT_FLOAT_EQ(p.grad().item<float>(), 0.0137f);
  }
}

TEST(FakeQuantizeWeights, MatchesGoldenGradientsOfLsq) {
  const struct {
    int bits;
    float step, scale;
  } cases[] = {{2, .733333f, .408248f}, {3, .423390f, .235702f}, {4, .277174f, .154303f}};
  for (const auto& c : cases) {
    // Each weight alone contributes its ds to the step's gradient.
    const std::vector<float> ds = {.227273f, .477273f, .136364f, -.068182f, -.272727f, .181818f};
    for (int64_t i = 0; i < 6; ++i) {
      const Tensor w = parameter(torch::tensor(kWeights).reshape({1, 6})),
                   step = parameter(torch::full({1}, c.step));
      Tensor g = torch::zeros({1, 6});
      g[0][i] = 1;
      fake_quantize_weights(Policy::kLsq, c.bits, w, step).backward(g);
      const float r = kWeights[static_cast<size_t>(i)] / c.step;
      const float expected = c.bits == 2 ? ds[static_cast<size_t>(i)] : std::nearbyintf(r) - r;
      EXPECT_NEAR(step.grad().item<float>(), expected * c.scale, 2e-6) << c.bits << " bits, " << i;
      EXPECT_TRUE(torch::equal(w.grad(), g)) << "all weights lie inside";
    }
  }
}

Tensor random_weights() {
  torch::manual_seed(5);
  return torch::randn({6, 4, 3, 3}) * 0.4;
}

Tensor initial_params(Policy policy, int bits, const Tensor& w, bool per_channel) {
  const Tensor flat = w.contiguous();
  return torch::tensor(quant::initial_params(
      policy, bits, {flat.data_ptr<float>(), static_cast<size_t>(flat.numel())}, 6, per_channel));
}

TEST(FakeQuantizeWeights, ValuesAreThoseThatArePacked) {
  const Tensor w = random_weights();
  for (Policy policy : quant::kAllPolicies) {
    for (int bits = 1; bits <= 8; ++bits) {
      for (bool per_channel : {false, true}) {
        const Tensor params = initial_params(policy, bits, w, per_channel);
        const std::vector<float> list(params.data_ptr<float>(), params.data_ptr<float>() + params.numel());
        const auto q = quant::quantize_weights(
            policy, bits, {w.data_ptr<float>(), static_cast<size_t>(w.numel())}, 6, list);
        const Tensor found =
            fake_quantize_weights(policy, bits, w.contiguous(torch::MemoryFormat::ChannelsLast), params)
                .contiguous();
        ASSERT_EQ(found.sizes(), w.sizes());
        for (size_t i = 0; i < q.codes.size(); ++i) {
          const float packed = q.scale[i / 36] * static_cast<float>(q.grid.at(q.codes[i]));
          ASSERT_NEAR(found.data_ptr<float>()[i], packed, 1e-6)
              << to_string(policy) << " " << bits << " bits, per channel " << per_channel << ", " << i;
        }
      }
    }
  }
}

TEST(FakeQuantizeWeights, GradientsOfWeightsAreTheStraightThroughOnes) {
  const Tensor w = random_weights(), g = torch::randn(w.sizes());
  const auto gradient = [&](Policy policy, int bits, const Tensor& params) {
    const Tensor leaf = parameter(w);
    fake_quantize_weights(policy, bits, leaf, params).backward(g);
    return leaf.grad();
  };
  for (bool per_channel : {false, true}) {
    for (int bits : {1, 2, 4, 8}) {
      const auto shaped = [&](const Tensor& p) { return p.reshape({-1, 1, 1, 1}); };
      // SAWB+ and every sign: the identity.
      EXPECT_TRUE(torch::equal(
          gradient(Policy::kSawb, bits, initial_params(Policy::kSawb, bits, w, per_channel)), g));
      if (bits == 1) {
        for (Policy policy : quant::kAllPolicies)
          EXPECT_TRUE(torch::equal(gradient(policy, 1, initial_params(policy, 1, w, per_channel)), g))
              << to_string(policy);
        continue;
      }
      const Tensor step = initial_params(Policy::kLsq, bits, w, per_channel), r = w / shaped(step);
      const double qn = 1 << (bits - 1);
      EXPECT_TRUE(torch::allclose(gradient(Policy::kLsq, bits, step),
                                  g * (r >= -qn).logical_and(r <= qn - 1).to(torch::kFloat), 1e-5, 1e-7))
          << bits;
      const Tensor clip = initial_params(Policy::kWrpn, bits, w, per_channel) * 0.6;
      EXPECT_TRUE(torch::allclose(gradient(Policy::kWrpn, bits, clip),
                                  g * (w.abs() <= shaped(clip)).to(torch::kFloat), 1e-5, 1e-7))
          << bits;
      // DoReFa without its rounding: gain * tanh(w) / max |tanh|, through the maximum too.
      const Tensor gain = initial_params(Policy::kDorefa, bits, w, per_channel), leaf = parameter(w),
                   t = torch::tanh(leaf);
      (t / t.abs().max() * shaped(gain)).backward(g);
      // The largest weight also collects the rounded values' share through the maximum, which smooth and
      // rounded forms weigh alike.
      EXPECT_TRUE(torch::allclose(gradient(Policy::kDorefa, bits, gain), leaf.grad(), 1e-4, 1e-5)) << bits;
    }
  }
}

TEST(FakeQuantizeWeights, OnlyStepsOfLsqLearn) {
  const Tensor w = random_weights();
  for (Policy policy : quant::kAllPolicies) {
    for (int bits : {1, 3}) {
      const Tensor params = parameter(initial_params(policy, bits, w, true)), leaf = parameter(w);
      fake_quantize_weights(policy, bits, leaf, params).sum().backward();
      EXPECT_EQ(params.grad().defined() && params.grad().abs().sum().item<float>() > 0,
                policy == Policy::kLsq)
          << to_string(policy);
      EXPECT_EQ(learns_weight_params(policy), policy == Policy::kLsq);
    }
  }
}

}  // namespace
}  // namespace bitstrata::train
