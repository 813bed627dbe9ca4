#pragma once

#include <cstdint>

namespace bitstrata::train {

inline constexpr int kMaxCandidates = 8;

/// Constants of one pass over an activation that is a mixture of candidate quantizers; see mix_activations.
struct ActivationMixPass {
  struct Candidate {
    float inverse = 1, low = 0, high = 0;  ///< code: clip(rint(x * inverse), low, high)
    float weight = 0;                      ///< share * scale: what a code counts in the mixture
    float share = 0;
  };
  int count = 0;
  Candidate candidates[kMaxCandidates];
  /// All candidates clip x to one range [low, high]: clipping x once then replaces clipping every code.
  bool shared_range = false;
  float low = 0, high = 0;
  float total_share = 1;
};

/// y[i] = sum_j weight_j * code_j(x[i]). Vectorised for the best instruction set of this CPU, like all below.
void activation_mix_forward(const ActivationMixPass& pass, const float* x, float* y, int64_t n);

/// gx[i] = g[i] * (sum of the shares whose range holds x[i]). Adds sum_i g[i] * code_j(x[i]) to sums[j] for
/// each candidate j and sum_i gx[i] * x[i] to sums[count]. gx may be g.
void activation_mix_backward(const ActivationMixPass& pass, const float* x, const float* g, float* gx,
                             int64_t n, double* sums);

/// One candidate quantizer over weights that share its scale: z = clip(w / divisor, low, high), code =
/// rint((z * gain + shift) * top), or code = (w >= 0) for signs; value = (code / top * mul + add) * scale.
struct WeightMixPass {
  bool sign = false;
  float divisor = 1, low = -1, high = 1, gain = 1, shift = 0, top = 1;
  float mul = 1, add = 0, scale = 1;
  bool masked = false;  ///< no gradient to w outside [low, high]
};

/// out[i] += share * value(w[i]).
void weight_mix_forward(const WeightMixPass& pass, float share, const float* w, float* out, int64_t n);

struct WeightMixSums {
  double code = 0;    ///< of g * code
  double inside = 0;  ///< of g * w / divisor where w is inside the range
};

/// gw[i] += slope * g[i], where the range lets it pass.
WeightMixSums weight_mix_backward(const WeightMixPass& pass, float slope, const float* w, const float* g,
                                  float* gw, int64_t n);

}  // namespace bitstrata::train
