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
std::vector<float> clip_gradients(double a, int bits) {
  std::vector<float> gradients;
  for (float x : kActivations) {
    const Tensor clip = parameter(torch::full({1}, a));
    const int high = (1 << bits) - 1;
    fake_quantize(torch::full({1}, x), clip / static_cast<double>(high), 0, high).sum().backward();
    gradients.push_back(clip.grad().item<float>());
  }
  return gradients;
}

TEST(FakeQuantize, MatchesGoldenVectorsOfPact) {
  const Tensor x = parameter(torch::tensor(kActivations));
  const Tensor y = fake_quantize(x, torch::full({1}, 2.0f / 3), 0, 3);
  expect_near(y, {0, 0, .666667f, 1.333333f, 2, 2}, 1e-6);
  y.sum().backward();
  // 0 lies on the border: this implementation counts it as clipped, as LSQ does.
  expect_near(x.grad(), {0, 0, 1, 1, 0, 0}, 0);
  const std::vector<float> improved = {0, 0, .133333f, .116667f, 1, 1}, found = clip_gradients(2, 2);
  for (size_t i = 0; i < improved.size(); ++i) EXPECT_NEAR(found[i], improved[i], 1e-6) << i;
  expect_near(fake_quantize(torch::tensor(kActivations), torch::full({1}, 2.0f / 15), 0, 15),
              {0, 0, .4f, 1.066667f, 2, 2}, 1e-6);
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
      // DoReFa without its rounding: gain * tanh(w / unit) / max |tanh|, through the maximum too.
      const Tensor params = initial_params(Policy::kDorefa, bits, w, per_channel), leaf = parameter(w);
      const Tensor gain = params.narrow(0, 0, params.numel() - 1);
      const Tensor t = torch::tanh(leaf / params[params.numel() - 1]);
      (t / t.abs().max() * shaped(gain)).backward(g);
      // The largest weight also collects the rounded values' share through the maximum, which smooth and
      // rounded forms weigh alike.
      EXPECT_TRUE(torch::allclose(gradient(Policy::kDorefa, bits, params), leaf.grad(), 1e-4, 1e-5)) << bits;
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
