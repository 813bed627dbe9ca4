#include <gtest/gtest.h>

#include <hwy/targets.h>
#include <cmath>

#include "quant/weights.h"
#include "tests/unit/compile/sample_graphs.h"
#include "train/activation_quantizer.h"
#include "train/calibrate.h"
#include "train/mixture_convolution.h"
#include "train/mixture_quantizer.h"
#include "train/network.h"
#include "train/operations.h"

namespace bitstrata::train {
namespace {

using quant::Policy;
using torch::Tensor;

Tensor parameter(const Tensor& values) {
  return values.detach().clone(torch::MemoryFormat::Preserve).set_requires_grad(true);
}

/// Widths of one clip, as PACT has them.
std::vector<CodeRange> shared_range(const std::vector<int>& widths, float clip) {
  std::vector<CodeRange> ranges;
  for (int b : widths) ranges.push_back({clip / static_cast<float>((1 << b) - 1), 0, (1 << b) - 1});
  return ranges;
}

/// Ranges of their own, as calibration of signed data finds them.
const std::vector<CodeRange> kOwnRanges = {{0.013f, -120, 135}, {0.21f, -8, 7}, {0.5f, -3, 4}, {1.9f, -1, 0}};

struct Pass {
  Tensor y, gx, shares, growth;  ///< the value and gradients
};

template <typename Function>
Pass run(const Function& mix, const Tensor& x, const Tensor& shares, float growth,
         const std::vector<CodeRange>& candidates, const Tensor& g) {
  const Tensor leaf = parameter(x), q = parameter(shares), k = parameter(torch::full({1}, growth));
  const Tensor y = mix(leaf, q, k, candidates);
  y.backward(g);
  return {y.detach(), leaf.grad(), q.grad(), k.grad()};
}

TEST(MixActivations, AllOfOneShareIsThatQuantizerToTheLastBit) {
  torch::manual_seed(3);
  const Tensor x = torch::randn({3, 5, 11, 13}) * 2;
  for (const auto& candidates :
       {shared_range({5, 4, 3, 2, 1}, 2.7f), shared_range({8, 7, 6}, 3.3f), kOwnRanges}) {
    const Tensor growth = torch::full({1}, 1.17f);
    for (size_t j = 0; j < candidates.size(); ++j) {
      Tensor shares = torch::zeros({static_cast<int64_t>(candidates.size())});
      shares[static_cast<int64_t>(j)] = 1;
      const CodeRange& c = candidates[j];
      EXPECT_TRUE(torch::equal(mix_activations(x, shares, growth, candidates),
                               fake_quantize(x, growth * c.scale, c.low, c.high)))
          << j;
    }
  }
}

TEST(MixActivations, OneCandidateIsThePlainQuantizerAndItsGradientsAreTheStatedOnes) {
  torch::manual_seed(8);
  const Tensor x = torch::randn({5000}) * 2, g = torch::randn({5000});
  for (const auto& [low, high] :
       {std::pair{0, 15}, {0, 1}, {-1, 0}, {-8, 7}, {-3, 252}, {-255, 0}, {0, 255}}) {
    const float growth = 4.1f / static_cast<float>(high - low);
    const Pass pass = run(mix_activations, x, torch::ones({1}), growth, {{1, low, high}}, g);
    double expected = 0;
    for (int64_t i = 0; i < 5000; ++i) {
      const float r = x[i].item<float>() * (1.0f / growth), gi = g[i].item<float>();
      const bool inside = r > static_cast<float>(low) && r < static_cast<float>(high);
      ASSERT_EQ(pass.y[i].item<float>(),
                std::clamp(std::nearbyintf(r), static_cast<float>(low), static_cast<float>(high)) * growth);
      ASSERT_EQ(pass.gx[i].item<float>(), inside ? gi : 0.0f);
      expected += gi * (inside ? std::nearbyintf(r) - r
                               : static_cast<float>(r <= static_cast<float>(low) ? low : high));
    }
    EXPECT_NEAR(pass.growth.item<double>(), expected,
                1e-6 * (g.abs() * std::max(-low, high)).sum().item<double>());
    EXPECT_TRUE(torch::equal(pass.growth,
                             run(mix_activations, x, torch::ones({1}), growth, {{1, low, high}}, g).growth));
  }
}

TEST(MixActivations, TakesTensorsThatAreNotDense) {
  const Tensor base = torch::randn({6, 8}), x = base.slice(1, 1, 7, 2).t(), s = torch::full({1}, 0.25f);
  EXPECT_TRUE(
      torch::equal(mix_activations(x, torch::ones({1}), s, {{1, -4, 3}}), fake_quantize(x, s, -4, 3)));
}

TEST(MixActivations, FusedEqualsComposedInEverySizeLayoutRangeAndThreadCount) {
  torch::manual_seed(1);
  const int threads_before = torch::get_num_threads();
  for (int threads : {1, 2}) {
    torch::set_num_threads(threads);
    for (const std::vector<int64_t>& dims :
         {std::vector<int64_t>{1}, {7}, {1000}, {100000}, {2, 3, 5, 7}, {4, 16, 40, 39}}) {
      for (bool channels_last : {false, true}) {
        if (channels_last && dims.size() != 4) continue;
        Tensor x = torch::randn(dims) * 2;
        if (channels_last) x = x.contiguous(torch::MemoryFormat::ChannelsLast);
        const Tensor g = torch::randn(dims);  // never channels-last: layouts of x and its gradient may differ
        for (const auto& candidates :
             {shared_range({5, 4, 3, 2, 1}, 2.3f), shared_range({8, 7, 6, 5, 4, 3, 2, 1}, 3.1f),
              shared_range({2}, 2.0f), std::vector<CodeRange>{{0.3f, -8, 7}}, kOwnRanges}) {
          const Tensor shares = torch::softmax(torch::randn({static_cast<int64_t>(candidates.size())}), 0);
          const Pass a = run(mix_activations, x, shares, 0.9f, candidates, g),
                     b = run(mix_activations_composed, x, shares, 0.9f, candidates, g);
          ASSERT_TRUE(torch::allclose(a.y, b.y, 1e-6, 1e-6)) << dims;
          ASSERT_TRUE(torch::allclose(a.gx, b.gx, 1e-6, 1e-6)) << dims;
          // Relative to the sum of the terms' magnitudes, since terms cancel.
          const double size = (g.abs() * 3).sum().item<double>();
          ASSERT_LT((a.shares - b.shares).abs().max().item<double>(), 1e-6 * size) << dims;
          ASSERT_NEAR(a.growth.item<double>(), b.growth.item<double>(), 1e-6 * size) << dims;
        }
      }
    }
  }
  torch::set_num_threads(threads_before);
}

TEST(MixActivations, GradientsAreThoseOfThePaper) {
  torch::manual_seed(2);
  const double alpha = 1.5;
  const std::vector<int> widths = {4, 2, 1};
  const Tensor x = torch::randn({3000}) * 1.5, g = torch::randn({3000}),
               shares = torch::tensor({0.5f, 0.2f, 0.3f});
  const Pass pass = run(mix_activations, x, shares, 1.0f, shared_range(widths, static_cast<float>(alpha)), g);
  std::vector<double> by_share(3, 0.0);
  double by_growth = 0;
  for (int64_t i = 0; i < 3000; ++i) {
    const double xi = x[i].item<float>(), gi = g[i].item<float>(), t = std::clamp(xi, 0.0, alpha) / alpha;
    ASSERT_NEAR(pass.gx[i].item<float>(), xi > 0 && xi < alpha ? gi : 0, 1e-6);
    for (size_t j = 0; j < widths.size(); ++j) {
      const double top = (1 << widths[j]) - 1, q = std::nearbyint(t * top) / top;
      by_share[j] += gi * alpha * q;
      // d X^b / d alpha is 1 above alpha and quantize_b(X_t) - X_t below.
      by_growth += gi * shares[static_cast<int64_t>(j)].item<float>() * alpha * (xi >= alpha ? 1 : q - t);
    }
  }
  for (size_t j = 0; j < widths.size(); ++j)
    EXPECT_NEAR(pass.shares[static_cast<int64_t>(j)].item<float>(), by_share[j], 2e-3) << j;
  EXPECT_NEAR(pass.growth.item<float>(), by_growth, 2e-3);
}

/// Runs body() once per instruction set of this machine that loops were compiled for.
template <typename Body>
void for_targets(const Body& body) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    SCOPED_TRACE(hwy::TargetName(target));
    body();
  }
  hwy::SetSupportedTargetsForTest(0);
}

TEST(MixActivations, EveryTargetEqualsTheScalarLoop) {
  torch::manual_seed(4);
  const Tensor x = torch::randn({4099}) * 2, g = torch::randn({4099});
  const float growth = 1.1f;
  for (const auto& candidates : {shared_range({5, 4, 3, 2, 1}, 2.3f), kOwnRanges}) {
    const Tensor shares = torch::softmax(torch::randn({static_cast<int64_t>(candidates.size())}), 0);
    Tensor y = torch::zeros_like(x);
    for (int64_t i = 0; i < x.numel(); ++i) {
      float sum = 0;
      for (size_t j = 0; j < candidates.size(); ++j) {
        const float scale = candidates[j].scale * growth, inverse = 1.0f / scale;
        const float code =
            std::clamp(std::nearbyintf(x[i].item<float>() * inverse), static_cast<float>(candidates[j].low),
                       static_cast<float>(candidates[j].high));
        sum += code * (shares[static_cast<int64_t>(j)].item<float>() * scale);
      }
      y[i] = sum;
    }
    const Pass composed = run(mix_activations_composed, x, shares, growth, candidates, g);
    for_targets([&] {
      const Pass pass = run(mix_activations, x, shares, growth, candidates, g);
      EXPECT_TRUE(torch::equal(pass.y, y));
      EXPECT_TRUE(torch::allclose(pass.gx, composed.gx, 1e-6, 1e-6));
      EXPECT_TRUE(torch::allclose(pass.shares, composed.shares, 1e-4, 1e-3));
      EXPECT_TRUE(torch::allclose(pass.growth, composed.growth, 1e-4, 1e-3));
    });
  }
}

/// What needs no gradient gets none, and the rest is as if all did.
TEST(MixConvolve, SkipsGradientsThatNobodyNeeds) {
  torch::manual_seed(7);
  program::Window window;
  window.kernel_h = window.kernel_w = 3;
  const Tensor x = torch::randn({2, 4, 6, 6}), w = torch::randn({5, 4, 3, 3}), b = torch::randn({5}),
               one = torch::ones({1}), scale = torch::full({1}, 0.2f);
  const auto backward = [&](const std::vector<Tensor>& t) {
    mix_convolve(t[0], one, t[1], {{1, -8, 7}}, t[2], t[3], window, 1).square().sum().backward();
  };
  const std::vector<Tensor> plain = {x, scale, w, b};
  std::vector<Tensor> all;
  for (const Tensor& t : plain) all.push_back(parameter(t));
  backward(all);
  for (size_t i = 0; i < plain.size(); ++i) {
    std::vector<Tensor> some = plain;
    some[i] = parameter(plain[i]);
    backward(some);
    EXPECT_TRUE(torch::equal(some[i].grad(), all[i].grad())) << i;
    for (size_t k = 0; k < plain.size(); ++k) EXPECT_EQ(some[k].grad().defined(), k == i) << i << k;
  }
}

TEST(MixConvolve, EqualsTheConvolutionOfTheMixture) {
  torch::manual_seed(6);
  program::Window window;
  window.kernel_h = window.kernel_w = 3;
  window.stride_h = 2;
  window.pad_top = window.pad_bottom = window.pad_left = window.pad_right = 1;
  ASSERT_TRUE(can_mix_convolve(window));
  for (int groups : {1, 4}) {
    for (const auto& candidates : {shared_range({4, 2, 1}, 2.0f), shared_range({3}, 2.0f), kOwnRanges}) {
      const Tensor x = (torch::randn({3, 8, 9, 7}) * 2).contiguous(torch::MemoryFormat::ChannelsLast),
                   w = torch::randn({12, 8 / groups, 3, 3}), bias = torch::randn({12});
      const Tensor shares = torch::softmax(torch::randn({static_cast<int64_t>(candidates.size())}), 0),
                   growth = torch::full({1}, 1.1f);
      std::vector<std::vector<Tensor>> outcomes;
      for (bool fused : {false, true}) {
        const Tensor a = parameter(x), b = parameter(w), c = parameter(bias), q = parameter(shares),
                     k = parameter(growth);
        const Tensor y = fused ? mix_convolve(a, q, k, candidates, b, c, window, groups)
                               : convolve(mix_activations(a, q, k, candidates), b, c, window, groups);
        y.square().sum().backward();
        outcomes.push_back({y.detach(), a.grad(), b.grad(), c.grad(), q.grad(), k.grad()});
      }
      for (size_t i = 0; i < 6; ++i) {
        const double size = outcomes[0][i].abs().max().item<double>();
        EXPECT_LT((outcomes[0][i] - outcomes[1][i]).abs().max().item<double>(), 1e-6 * size) << i;
      }
    }
  }
  window.pad_top = 0;
  EXPECT_FALSE(can_mix_convolve(window));
}

Tensor initial_params(Policy policy, const std::vector<int>& bits, const Tensor& w, bool per_channel) {
  const Tensor flat = w.contiguous();
  std::vector<Tensor> rows;
  for (int b : bits) {
    rows.push_back(torch::tensor(
        quant::initial_params(policy, b, {flat.data_ptr<float>(), static_cast<size_t>(flat.numel())},
                              static_cast<int>(w.size(0)), per_channel)));
  }
  return torch::stack(rows);
}

struct WeightPass {
  Tensor value, weights, shares, params;
};

template <typename Function>
WeightPass run_weights(const Function& mix, Policy policy, const std::vector<int>& bits, const Tensor& w,
                       const Tensor& shares, const Tensor& params, const Tensor& g) {
  const Tensor leaf = parameter(w), p = parameter(shares), s = parameter(params);
  const Tensor value = mix(policy, bits, leaf, p, s);
  value.backward(g);
  return {value.detach(), leaf.grad(), p.grad(), s.grad()};
}

void expect_close(const Tensor& a, const Tensor& b, double tolerance, const char* what) {
  EXPECT_LT((a - b).abs().max().item<double>(), tolerance * std::max(1.0, b.abs().max().item<double>()))
      << what;
}

TEST(MixWeights, FusedEqualsComposedForEveryPolicyAndTarget) {
  torch::manual_seed(5);
  for (const std::vector<int64_t>& dims : {std::vector<int64_t>{6, 5, 3, 3}, {10, 67}, {16, 16, 3, 3}}) {
    Tensor w = torch::randn(dims) * 0.3;
    if (dims.size() == 4) w = w.contiguous(torch::MemoryFormat::ChannelsLast);
    const Tensor g = torch::randn(dims);
    for (Policy policy : quant::kAllPolicies) {
      for (const std::vector<int>& bits :
           {std::vector<int>{5, 4, 3, 2, 1}, {8, 6}, {1, 7}, {1}, {2}, {3}, {4}, {5}, {6}, {7}, {8}}) {
        for (bool per_channel : {false, true}) {
          SCOPED_TRACE(testing::Message()
                       << to_string(policy) << ", " << bits.size() << " widths, per channel " << per_channel);
          const Tensor shares = torch::softmax(torch::randn({static_cast<int64_t>(bits.size())}), 0);
          const Tensor params = initial_params(policy, bits, w, per_channel) * 0.83;
          const WeightPass b = run_weights(mix_weights_composed, policy, bits, w, shares, params, g);
          for_targets([&] {
            const WeightPass a = run_weights(mix_weights, policy, bits, w, shares, params, g);
            expect_close(a.value, b.value, 2e-6, "value");
            if (bits.size() == 1) {
              EXPECT_TRUE(torch::equal(a.value, b.value)) << "the plain quantizer";
            }
            expect_close(a.weights, b.weights, 1e-5, "weights");
            // Relative to the sum of the terms' magnitudes, since terms cancel.
            const double size = (g * b.value / shares.max()).abs().sum().item<double>();
            EXPECT_LT((a.shares - b.shares).abs().max().item<double>(), 1e-6 * size);
            ASSERT_EQ(a.params.defined() && a.params.abs().sum().item<float>() > 0, policy == Policy::kLsq);
            if (policy == Policy::kLsq) expect_close(a.params, b.params, 1e-5, "params");
          });
        }
      }
    }
  }
}

TEST(MixWeights, IsDeterministic) {
  const Tensor w = torch::randn({8, 4, 3, 3}), g = torch::randn(w.sizes()),
               shares = torch::full({3}, 1.0f / 3);
  const Tensor params = initial_params(Policy::kLsq, {4, 2, 1}, w, true);
  const WeightPass a = run_weights(mix_weights, Policy::kLsq, {4, 2, 1}, w, shares, params, g),
                   b = run_weights(mix_weights, Policy::kLsq, {4, 2, 1}, w, shares, params, g);
  EXPECT_TRUE(torch::equal(a.value, b.value) && torch::equal(a.weights, b.weights) &&
              torch::equal(a.params, b.params));
}

/// Candidates 4, 2 and 1 of every layer with calibrated start quantizers; the first layer's input at 8 bits
/// alone.
std::vector<Network::LayerMixture> mixtures_of(const graph::Graph& graph, const Calibrator& calibrator,
                                               Policy policy) {
  std::vector<Network::LayerMixture> mixtures;
  for (int bits : {4, 2, 1}) {
    const auto plan = plan::uniform_plan(graph, bits, bits, policy, true);
    const auto quantizers = calibrator.quantizers(plan, quant::Calibration::kMse);
    for (size_t l = 0; l < plan.layers.size(); ++l) {
      if (bits == 4) mixtures.push_back({plan.layers[l].name, {}, {}, {}});
      const auto& layer = quantizers.layers.at(plan.layers[l].name);
      mixtures[l].weight_bits.push_back(bits);
      mixtures[l].weight_params.push_back(layer.weight_params);
      if (mixtures[l].inputs.empty() || plan.layers[l].activation_bits == bits)
        mixtures[l].inputs.push_back(layer.input);
    }
  }
  return mixtures;
}

/// Logits and the gradients of all parameters.
std::vector<Tensor> outcome(Network& network, const Tensor& x) {
  std::vector<Tensor> result;
  network.set_training(true);
  const Tensor y = network.forward(x);
  y.square().sum().backward();
  result.push_back(y.detach());
  for (const auto& group : {network.parameter_groups().weights, network.parameter_groups().others}) {
    for (const Tensor& p : group) result.push_back(p.grad());
  }
  return result;
}

TEST(NetworkMixture, AllOfOneShareIsTheNetworkChosenAtThoseBits) {
  for (const graph::Graph& graph :
       {compile::testing::residual_net(), compile::testing::mobile_net(), compile::testing::linear_net()}) {
    torch::manual_seed(1);
    std::vector<int64_t> dims{6};
    dims.insert(dims.end(), graph.values[0].dims.begin(), graph.values[0].dims.end());
    const Tensor x = torch::randn(dims);
    const Calibrator calibrator(graph, {x}, torch::kCPU);
    for (Policy policy : quant::kAllPolicies) {
      const plan::Plan start = plan::uniform_plan(graph, 4, 4, policy, true);
      Network mixed(graph, start, calibrator.quantizers(start, quant::Calibration::kMse));
      const auto mixtures = mixtures_of(graph, calibrator, policy);
      mixed.set_mixture(mixtures);
      {
        const torch::NoGradGuard no_grad;
        for (Tensor& log_scale : mixed.parameter_groups().log_scales) log_scale.uniform_(-0.3, 0.3);
      }
      for (size_t candidate = 0; candidate < 3; ++candidate) {
        const int bits = mixtures[0].weight_bits[candidate];
        std::vector<Network::LayerShares> shares;
        for (const auto& mixture : mixtures) {
          Tensor weight = torch::zeros({3}),
                 activation = torch::zeros({static_cast<int64_t>(mixture.inputs.size())});
          weight[static_cast<int64_t>(candidate)] = 1;
          activation[static_cast<int64_t>(std::min(candidate, mixture.inputs.size() - 1))] = 1;
          shares.push_back({weight, activation});
        }
        mixed.set_shares(shares);
        for (auto& group : {mixed.parameter_groups().weights, mixed.parameter_groups().others}) {
          for (Tensor p : group) p.mutable_grad() = Tensor();
        }
        const plan::Plan plan = plan::uniform_plan(graph, bits, bits, policy, true);
        Network plain(graph, plan, mixed.choose(plan));
        const auto a = outcome(mixed, x), b = outcome(plain, x);
        ASSERT_EQ(a.size(), b.size());
        for (size_t i = 0; i < a.size(); ++i) {
          const double size = std::max(1.0, b[i].abs().max().item<double>());
          EXPECT_LT((a[i] - b[i]).abs().max().item<double>(), 1e-4 * size)
              << to_string(policy) << " " << bits << " bits, tensor " << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace bitstrata::train
