#include "train/mixture_quantizer.h"

#include <cmath>
#include <limits>

#include "core/error.h"
#include "quant/weights.h"
#include "train/activation_quantizer.h"
#include "train/mixture_loops.h"
#include "train/parts.h"
#include "train/weight_quantizer.h"

namespace bitstrata::train {
namespace {

using quant::Policy;
using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

bool fusable(const Tensor& x) {
  return x.device().is_cpu() && x.scalar_type() == torch::kFloat;
}

void check_candidates(size_t candidates, const Tensor& shares) {
  if (candidates < 1 || candidates > kMaxCandidates || shares.numel() != static_cast<int64_t>(candidates))
    fail(ErrorCode::kInternal, "mixture: found {} shares of {} candidates, expected 1 to {} of each",
         shares.numel(), candidates, kMaxCandidates);
}

/// Elements of a small tensor.
std::vector<float> floats(const Tensor& tensor) {
  const Tensor flat = tensor.detach().to(torch::kCPU, torch::kFloat).contiguous();
  return {flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel()};
}

ActivationMixPass make_pass(const Tensor& shares, const Tensor& growth,
                            const std::vector<CodeRange>& candidates) {
  ActivationMixPass pass;
  const std::vector<float> share = floats(shares);
  const float grown = growth.item<float>();
  pass.count = static_cast<int>(candidates.size());
  pass.shared_range = candidates.size() > 1;
  pass.high = candidates[0].scale * grown * static_cast<float>(candidates[0].high);
  pass.total_share = 0;
  for (size_t j = 0; j < candidates.size(); ++j) {
    const float scale = candidates[j].scale * grown;
    const auto low = static_cast<float>(candidates[j].low), high = static_cast<float>(candidates[j].high);
    pass.candidates[j] = {1.0f / scale, low, high, share[j] * scale, share[j]};
    pass.total_share += share[j];
    // Ranges that differ by rounding alone: values between their ends have the same codes either way.
    if (low != 0 || std::fabs(scale * high - pass.high) > 1e-5f * pass.high) pass.shared_range = false;
  }
  return pass;
}

struct MixActivations : torch::autograd::Function<MixActivations> {
  static Tensor forward(AutogradContext* context, const Tensor& input, const Tensor& shares,
                        const Tensor& growth, const std::vector<CodeRange>& candidates) {
    const Tensor x = dense(input);
    context->save_for_backward({x, shares, growth});
    std::vector<double> scales;
    std::vector<int64_t> codes;
    for (const CodeRange& c : candidates) {
      scales.push_back(c.scale);
      codes.insert(codes.end(), {c.low, c.high});
    }
    context->saved_data["scales"] = scales;
    context->saved_data["codes"] = codes;
    return mix_activations_value(x, shares, growth, candidates);
  }

  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const std::vector<double> scales = context->saved_data["scales"].toDoubleVector();
    const std::vector<int64_t> codes = context->saved_data["codes"].toIntVector();
    std::vector<CodeRange> candidates;
    for (size_t j = 0; j < scales.size(); ++j)
      candidates.push_back({static_cast<float>(scales[j]), static_cast<int>(codes[2 * j]),
                            static_cast<int>(codes[2 * j + 1])});
    const Tensor g = laid_out_as(saved[0], gradients[0]);
    ActivationMixGradients result =
        mix_activations_backward(g, saved[0], saved[1], saved[2], candidates, torch::empty_like(g));
    return {result.x, result.shares, result.growth, {}};
  }
};

}  // namespace

Tensor mix_activations_value(const Tensor& input, const Tensor& shares, const Tensor& growth,
                             const std::vector<CodeRange>& candidates) {
  const Tensor x = dense(input.detach());
  const ActivationMixPass pass = make_pass(shares, growth, candidates);
  Tensor y = torch::empty_like(x);
  const float* from = x.data_ptr<float>();
  float* to = y.data_ptr<float>();
  for_parts(x.numel(), [&](int64_t, int64_t begin, int64_t end) {
    activation_mix_forward(pass, from + begin, to + begin, end - begin);
  });
  return y;
}

ActivationMixGradients mix_activations_backward(const Tensor& g, const Tensor& x, const Tensor& shares,
                                                const Tensor& growth,
                                                const std::vector<CodeRange>& candidates, const Tensor& gx) {
  const ActivationMixPass pass = make_pass(shares, growth, candidates);
  const int64_t n = x.numel();
  const size_t count = candidates.size(), row = count + 1;
  std::vector<double> parts(static_cast<size_t>(part_count(n)) * row, 0.0), sums(row, 0.0);
  const float *from = x.data_ptr<float>(), *incoming = g.data_ptr<float>();
  float* to = gx.data_ptr<float>();
  for_parts(n, [&](int64_t part, int64_t begin, int64_t end) {
    activation_mix_backward(pass, from + begin, incoming + begin, to + begin, end - begin,
                            &parts[static_cast<size_t>(part) * row]);
  });
  for (size_t i = 0; i < parts.size(); ++i) sums[i % row] += parts[i];
  // A candidate's value is s * code beyond its range and s * code - x more than x inside it: the derivative
  // of the mixture by log growth is the mixture itself less what passes of x.
  const double grown = growth.item<float>();
  std::vector<double> by_share(count);
  double by_log_growth = -sums[count];
  for (size_t j = 0; j < count; ++j) {
    by_share[j] = sums[j] * (static_cast<double>(candidates[j].scale) * grown);
    by_log_growth += by_share[j] * pass.candidates[j].share;
  }
  return {gx, torch::tensor(by_share, shares.options().requires_grad(false)).reshape(shares.sizes()),
          torch::full_like(growth, by_log_growth / grown)};
}

Tensor mix_activations(const Tensor& x, const Tensor& shares, const Tensor& growth,
                       const std::vector<CodeRange>& candidates) {
  check_candidates(candidates.size(), shares);
  if (!fusable(x)) return mix_activations_composed(x, shares, growth, candidates);
  return MixActivations::apply(x, shares, growth, candidates);
}

Tensor mix_activations_composed(const Tensor& x, const Tensor& shares, const Tensor& growth,
                                const std::vector<CodeRange>& candidates) {
  check_candidates(candidates.size(), shares);
  Tensor sum;
  for (size_t j = 0; j < candidates.size(); ++j) {
    const CodeRange& c = candidates[j];
    const Tensor value = shares[static_cast<int64_t>(j)] * fake_quantize(x, growth * c.scale, c.low, c.high);
    sum = sum.defined() ? sum + value : value;
  }
  return sum;
}

namespace {

struct WeightShape {
  int64_t groups = 1, elems = 0;  ///< weights that share a scale
};

/// Scales of all candidates [candidates, groups]: steps, gains, clips or magnitudes, as the policy and the
/// width have it. params: without units.
Tensor candidate_scales(Policy policy, const std::vector<int>& bits, const Tensor& weights,
                        const Tensor& params, const WeightShape& shape) {
  if (policy == Policy::kLsq) {
    std::vector<float> factors;
    for (int b : bits) {
      const double qp = b == 1 ? 1.0 : std::ldexp(1.0, b - 1) - 1;
      factors.push_back(static_cast<float>(1.0 / std::sqrt(static_cast<double>(shape.elems) * qp)));
    }
    const Tensor scaled = params * torch::tensor(factors).unsqueeze(1);
    return params.detach() + (scaled - scaled.detach());
  }
  Tensor scales = params.detach().clone();
  float* scale = scales.data_ptr<float>();
  const Tensor w = weights.detach().contiguous();  // sums in the order in which deployed weights lie
  for (size_t i = 0; i < bits.size(); ++i, scale += shape.groups) {
    if (bits[i] == 1) {
      scales[static_cast<int64_t>(i)].copy_(w.abs().reshape({shape.groups, -1}).mean(1));
    } else if (policy == Policy::kSawb) {
      for (int64_t g = 0; g < shape.groups; ++g) {
        const std::span group(w.data_ptr<float>() + g * shape.elems, static_cast<size_t>(shape.elems));
        scale[g] = std::max(1e-12f, quant::sawb_clip(bits[i], group));
      }
    }
  }
  return scales;
}

bool reads_unit(Policy policy, int bits) {
  return bits > 1 && quant::has_unit(policy);
}

/// The weights in [0, 1] that DoReFa's candidates round, [candidates, weights as they lie in memory]; empty
/// when there are none. units: [candidates].
Tensor unit_weights(Policy policy, const std::vector<int>& bits, const Tensor& weights, const Tensor& units) {
  if (std::none_of(bits.begin(), bits.end(), [&](int b) { return reads_unit(policy, b); }))
    return torch::empty({0});
  const Tensor flat = weights.as_strided({weights.numel()}, {1});
  std::vector<Tensor> read;
  for (size_t i = 0; i < bits.size(); ++i) {
    const Tensor t = torch::tanh(flat / units[static_cast<int64_t>(i)]);
    read.push_back(t / (2 * t.abs().max()) + 0.5);
  }
  return torch::stack(read);
}

WeightMixPass weight_pass(Policy policy, int bits, float scale) {
  WeightMixPass pass;
  pass.scale = scale;
  if (bits == 1) {
    pass.sign = true;
  } else if (policy == Policy::kLsq) {
    pass.divisor = scale;
    pass.high = static_cast<float>((1 << (bits - 1)) - 1);
    pass.low = -pass.high - 1;
    pass.masked = true;
  } else if (policy == Policy::kWrpn) {
    pass.top = static_cast<float>((1 << (bits - 1)) - 1);
    pass.divisor = scale;
    pass.masked = true;
  } else {
    pass.top = static_cast<float>((1 << bits) - 1);
    if (policy == Policy::kSawb) {
      pass.divisor = scale;
      pass.gain = pass.shift = 0.5f;
    } else {  // reads tanh(w) in [0, 1]
      pass.low = 0;
    }
  }
  if (pass.sign || policy == Policy::kSawb || reads_unit(policy, bits)) {  // from 0..top to [-scale, scale]
    pass.mul = 2;
    pass.add = -1;
  }
  return pass;
}

struct MixWeights : torch::autograd::Function<MixWeights> {
  /// unit: of unit_weights().
  static Tensor forward(AutogradContext* context, const Tensor& weights, const Tensor& unit,
                        const Tensor& shares, const Tensor& scales, int64_t policy,
                        const std::vector<int64_t>& bits) {
    Tensor out = torch::zeros_like(weights);
    const std::vector<float> share = floats(shares);
    for_candidates(
        weights, scales, policy, bits,
        [&](size_t i, int64_t begin, int64_t elems, const WeightMixPass& pass, bool from_unit, int64_t) {
          const float* from = (from_unit ? unit[static_cast<int64_t>(i)] : weights).data_ptr<float>();
          weight_mix_forward(pass, share[i], from + begin, out.data_ptr<float>() + begin, elems);
        });
    context->save_for_backward({weights, unit, shares, scales});
    context->saved_data["policy"] = policy;
    context->saved_data["bits"] = bits;
    return out;
  }

  static tensor_list backward(AutogradContext* context, tensor_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &weights = saved[0], &unit = saved[1], &shares = saved[2], &scales = saved[3];
    const std::vector<int64_t> bits = context->saved_data["bits"].toIntVector();
    const int64_t policy = context->saved_data["policy"].toInt();
    const Tensor g = laid_out_as(weights, gradients[0]);
    Tensor gw = torch::zeros_like(weights), gu = torch::zeros_like(unit);
    Tensor by_scale = torch::zeros_like(scales);
    const std::vector<float> share = floats(shares);
    const std::vector<double> group_sums = sums_of_groups(g, scales.size(1));
    std::vector<double> by_share(bits.size(), 0.0);
    for_candidates(
        weights, scales, policy, bits,
        [&](size_t i, int64_t begin, int64_t elems, const WeightMixPass& pass, bool from_unit,
            int64_t group) {
          const auto row = static_cast<int64_t>(i);
          const float* from = (from_unit ? unit[row] : weights).data_ptr<float>();
          float* to = (from_unit ? gu[row] : gw).data_ptr<float>();
          const float slope = from_unit ? share[i] * pass.mul * pass.scale : share[i];
          const WeightMixSums sums =
              weight_mix_backward(pass, slope, from + begin, g.data_ptr<float>() + begin, to + begin, elems);
          const double all = group_sums[static_cast<size_t>(group)];
          by_share[i] += (sums.code / pass.top * pass.mul + all * pass.add) * pass.scale;
          // Only LSQ's scales learn: codes are -1 and 1, or steps.
          by_scale.data_ptr<float>()[static_cast<int64_t>(i) * scales.size(1) + group] =
              static_cast<float>(share[i] * (pass.sign ? 2 * sums.code - all : sums.code - sums.inside));
        });
    return {gw, gu, torch::tensor(by_share, shares.options().requires_grad(false)), by_scale, {}, {}};
  }

 private:
  /// Calls body(candidate, first element, elements, pass, reads unit, group) for every candidate of every
  /// group.
  template <typename Body>
  static void for_candidates(const Tensor& weights, const Tensor& scales, int64_t policy,
                             const std::vector<int64_t>& bits, const Body& body) {
    const int64_t groups = scales.size(1), elems = weights.numel() / groups;
    const float* scale = scales.data_ptr<float>();
    for (int64_t g = 0; g < groups; ++g) {
      for (size_t i = 0; i < bits.size(); ++i) {
        const auto p = static_cast<Policy>(policy);
        const int b = static_cast<int>(bits[i]);
        body(i, g * elems, elems, weight_pass(p, b, scale[static_cast<int64_t>(i) * groups + g]),
             reads_unit(p, b), g);
      }
    }
  }

  static std::vector<double> sums_of_groups(const Tensor& g, int64_t groups) {
    const int64_t elems = g.numel() / groups;
    std::vector<double> sums(static_cast<size_t>(groups), 0.0);
    for (int64_t i = 0; i < g.numel(); ++i) sums[static_cast<size_t>(i / elems)] += g.data_ptr<float>()[i];
    return sums;
  }
};

}  // namespace

Tensor mix_weights(Policy policy, const std::vector<int>& bits, const Tensor& weights, const Tensor& shares,
                   const Tensor& params) {
  check_candidates(bits.size(), shares);
  if (!fusable(weights)) return mix_weights_composed(policy, bits, weights, shares, params);
  const Tensor w = dense(weights);  // either layout has each output channel in one piece
  const int64_t groups = params.size(1) - (quant::has_unit(policy) ? 1 : 0);
  const WeightShape shape{groups, w.numel() / groups};
  const Tensor scales = candidate_scales(policy, bits, w, params.narrow(1, 0, groups), shape);
  const Tensor unit = unit_weights(policy, bits, w, params.detach().select(1, params.size(1) - 1));
  return MixWeights::apply(w, unit, shares, scales, static_cast<int64_t>(policy),
                           std::vector<int64_t>(bits.begin(), bits.end()));
}

Tensor mix_weights_composed(Policy policy, const std::vector<int>& bits, const Tensor& weights,
                            const Tensor& shares, const Tensor& params) {
  check_candidates(bits.size(), shares);
  Tensor sum;
  for (size_t i = 0; i < bits.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    const Tensor value = shares[at] * fake_quantize_weights(policy, bits[i], weights, params[at]);
    sum = sum.defined() ? sum + value : value;
  }
  return sum;
}

}  // namespace bitstrata::train
