#include "quant/weights.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace bitstrata::quant {
namespace {

float mean_magnitude(std::span<const float> w) {
  double sum = 0;
  for (float x : w) sum += std::fabs(x);
  return w.empty() ? 0.0f : static_cast<float>(sum / static_cast<double>(w.size()));
}

float max_magnitude(std::span<const float> w) {
  float most = 0;
  for (float x : w) most = std::max(most, std::fabs(x));
  return most;
}

uint8_t unit_code(float r, int bits) {
  const float top = static_cast<float>((1 << bits) - 1);
  return static_cast<uint8_t>(std::nearbyintf(top * std::clamp(r, 0.0f, 1.0f)));
}

/// A scale must be positive and finite; an all-zero channel gets the smallest one that keeps reciprocals
/// finite.
float usable(float scale) {
  return std::max(scale, 1e-12f);
}

struct Group {  // the weights that share one scale
  std::span<const float> w;
  uint8_t* codes;
  float param;
};

float quantize_sign(const Group& g, Policy policy) {
  for (size_t i = 0; i < g.w.size(); ++i) g.codes[i] = g.w[i] >= 0 ? 1 : 0;
  return policy == Policy::kLsq ? g.param : mean_magnitude(g.w);
}

float quantize_sawb(const Group& g, int bits) {
  const float clip = usable(sawb_clip(bits, g.w));
  for (size_t i = 0; i < g.w.size(); ++i) {
    g.codes[i] = unit_code(std::clamp(g.w[i] / clip, -1.0f, 1.0f) / 2.0f + 0.5f, bits);
  }
  return clip / static_cast<float>((1 << bits) - 1);
}

float quantize_lsq(const Group& g, int bits) {
  const float low = -static_cast<float>(1 << (bits - 1)), high = -low - 1.0f;
  for (size_t i = 0; i < g.w.size(); ++i) {
    g.codes[i] = static_cast<uint8_t>(std::nearbyintf(std::clamp(g.w[i] / g.param, low, high)) - low);
  }
  return g.param;
}

float quantize_wrpn(const Group& g, int bits) {
  const float top = static_cast<float>((1 << (bits - 1)) - 1);
  for (size_t i = 0; i < g.w.size(); ++i) {
    g.codes[i] = static_cast<uint8_t>(std::nearbyintf(std::clamp(g.w[i] / g.param, -1.0f, 1.0f) * top) + top);
  }
  return g.param / top;
}

uint8_t dorefa_code(float w, int bits, float unit, float max_tanh) {
  return unit_code(std::tanh(w / unit) / (2.0f * max_tanh) + 0.5f, bits);
}

float quantize_dorefa(const Group& g, int bits, float unit, float max_tanh) {
  for (size_t i = 0; i < g.w.size(); ++i) g.codes[i] = dorefa_code(g.w[i], bits, unit, max_tanh);
  return g.param / static_cast<float>((1 << bits) - 1);
}

/// Weights looked at for a unit: enough that more do not change it.
constexpr size_t kUnitSample = size_t{1} << 16;

float choose_unit(int bits, std::span<const float> weights) {
  const size_t stride = (weights.size() + kUnitSample - 1) / kUnitSample;
  double squares = 0;
  for (float w : weights) squares += static_cast<double>(w) * w;
  const auto rms = static_cast<float>(std::sqrt(squares / static_cast<double>(weights.size())));
  const IntegerGrid grid = grid_of(Policy::kDorefa, bits);
  float best = 1;
  double most = 0;  // of the weights' energy that the codes hold at their least-squares gain
  for (float factor : {1.0f, 1.25f, 1.5f, 1.75f, 2.0f, 2.5f, 3.0f, 4.0f, 6.0f, 10.0f, 20.0f, 64.0f}) {
    const float unit = factor * rms;
    if (!(unit > 0)) break;
    const float max_tanh = usable(std::tanh(max_magnitude(weights) / unit));
    double dot = 0, norm = 0;
    for (size_t i = 0; i < weights.size(); i += stride) {
      const double q = grid.at(dorefa_code(weights[i], bits, unit, max_tanh));
      dot += q * weights[i];
      norm += q * q;
    }
    if (dot > 0 && dot * dot / norm > most) {
      most = dot * dot / norm;
      best = unit;
    }
  }
  return best;
}

void check(int bits, std::span<const float> weights, int oc, size_t groups) {
  if (bits < 1 || bits > 8) fail(ErrorCode::kInvalidArgument, "weight bits: found {}, expected 1 to 8", bits);
  if (oc < 1 || weights.empty() || weights.size() % static_cast<size_t>(oc) != 0) {
    fail(ErrorCode::kInvalidArgument,
         "weights: found {} elements for {} output channels, expected a positive multiple", weights.size(),
         oc);
  }
  if (groups != 1 && groups != static_cast<size_t>(oc)) {
    fail(ErrorCode::kInvalidArgument, "weight quantizer: found parameters of {} groups, expected 1 or {}",
         groups, oc);
  }
  for (float w : weights) {
    if (!std::isfinite(w))
      fail(ErrorCode::kBadInput, "weights: found a value that is not finite; did training diverge?");
  }
}

}  // namespace

IntegerGrid grid_of(Policy policy, int bits) {
  if (bits == 1) return {2, -1};
  switch (policy) {
    case Policy::kLsq:
      return {1, -(1 << (bits - 1))};
    case Policy::kWrpn:
      return {1, -((1 << (bits - 1)) - 1)};
    case Policy::kDorefa:
    case Policy::kPact:
    case Policy::kSawb:
      return {2, -((1 << bits) - 1)};
  }
  return {};
}

float sawb_clip(int bits, std::span<const float> weights) {
  struct Entry {
    int bits;
    double c1, c2;
  };
  constexpr Entry kTable[] = {
      {2, 3.12, 2.064}, {3, 7.509, 6.892}, {4, 12.68, 12.80}, {5, 17.74, 18.64}, {8, 31.76, 35.04}};
  double squares = 0, magnitudes = 0;
  for (float w : weights) {
    squares += static_cast<double>(w) * w;
    magnitudes += std::fabs(w);
  }
  const double n = static_cast<double>(std::max<size_t>(weights.size(), 1));
  for (const Entry& entry : kTable) {
    if (entry.bits != bits) continue;
    const double clip = entry.c1 * std::sqrt(squares / n) - entry.c2 * (magnitudes / n);
    if (clip > 0) return static_cast<float>(clip);
  }
  return max_magnitude(weights);
}

QuantizedWeights quantize_weights(Policy policy, int bits, std::span<const float> weights, int oc,
                                  std::span<const float> params) {
  const size_t unit_params = has_unit(policy) ? 1 : 0;
  if (params.size() <= unit_params)
    fail(ErrorCode::kInvalidArgument,
         "weight quantizer: found {} parameters of {}, expected at least {}{}; calibrate again",
         params.size(), to_string(policy), unit_params + 1, has_unit(policy) ? ", a gain and a unit" : "");
  const size_t groups = params.size() - unit_params;
  check(bits, weights, oc, groups);
  for (float p : params) {
    if (!(p > 0) || !std::isfinite(p))
      fail(ErrorCode::kInvalidArgument, "weight quantizer: found parameter {}, expected > 0", p);
  }
  QuantizedWeights result{bits, grid_of(policy, bits), std::vector<uint8_t>(weights.size()), {}};
  const size_t channels = static_cast<size_t>(oc);
  const size_t group_elems = weights.size() / groups;
  const bool dorefa = bits > 1 && has_unit(policy);
  const float unit = params.back();
  // DoReFa normalises by the largest tanh of the whole layer, whatever the gain's granularity (dorefa.py;
  // methods.md sheet 1).
  const float max_tanh = dorefa ? usable(std::tanh(max_magnitude(weights) / unit)) : 0.0f;
  for (size_t i = 0; i < groups; ++i) {
    const Group g{weights.subspan(i * group_elems, group_elems), result.codes.data() + i * group_elems,
                  params[i]};
    float scale = 0;
    if (bits == 1)
      scale = quantize_sign(g, policy);
    else if (dorefa)
      scale = quantize_dorefa(g, bits, unit, max_tanh);
    else if (policy == Policy::kSawb)
      scale = quantize_sawb(g, bits);
    else if (policy == Policy::kLsq)
      scale = quantize_lsq(g, bits);
    else
      scale = quantize_wrpn(g, bits);
    result.scale.insert(result.scale.end(), channels / groups, usable(scale));
  }
  return result;
}

std::vector<float> initial_params(Policy policy, int bits, std::span<const float> weights, int oc,
                                  bool per_channel) {
  check(bits, weights, oc, 1);
  const size_t groups = per_channel ? static_cast<size_t>(oc) : 1, group_elems = weights.size() / groups;
  std::vector<float> params(groups, 1.0f);
  if (has_unit(policy)) {
    params.push_back(bits == 1 ? 1.0f : choose_unit(bits, weights));
    if (bits == 1) return params;
    const QuantizedWeights unit = quantize_weights(policy, bits, weights, oc, params);
    for (size_t g = 0; g < groups; ++g) {
      double dot = 0, norm = 0;
      for (size_t i = g * group_elems; i < (g + 1) * group_elems; ++i) {
        const double q = static_cast<double>(unit.grid.at(unit.codes[i])) / ((1 << bits) - 1);
        dot += q * weights[i];
        norm += q * q;
      }
      params[g] = dot > 0 ? static_cast<float>(dot / norm)
                          : usable(mean_magnitude(weights.subspan(g * group_elems, group_elems)));
    }
    return params;
  }
  for (size_t g = 0; g < groups; ++g) {
    const auto w = weights.subspan(g * group_elems, group_elems);
    if (policy == Policy::kLsq) {
      const float qp = bits == 1 ? 1.0f : static_cast<float>((1 << (bits - 1)) - 1);
      params[g] = usable((bits == 1 ? 1.0f : 2.0f) * mean_magnitude(w) / std::sqrt(qp));
    } else if (policy == Policy::kWrpn) {
      params[g] = usable(max_magnitude(w));
    }
  }
  return params;
}

}  // namespace bitstrata::quant
