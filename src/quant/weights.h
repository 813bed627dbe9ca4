#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "quant/policy.h"

namespace bitstrata::quant {

/// The integer that a weight code stands for: mul * u + offset, u in [0, 2^bits).
/// (2, -(2^b - 1)) is the odd grid of DoReFa, SAWB and sign; (1, -2^(b-1)) LSQ's two's complement; (1,
/// -(2^(b-1) - 1)) WRPN's.
struct IntegerGrid {
  int mul = 1;
  int offset = 0;
  int at(int u) const noexcept { return mul * u + offset; }
  bool operator==(const IntegerGrid&) const = default;
};

/// Quantized weights of one layer: value[o][i] = scale[o] * grid.at(codes[o * per_channel_elems + i]).
struct QuantizedWeights {
  int bits = 8;
  IntegerGrid grid;
  std::vector<uint8_t> codes;  ///< [oc, per_channel_elems] row-major, each in [0, 2^bits)
  std::vector<float> scale;    ///< [oc], > 0
};

/// The grid of `policy` at `bits` (1 bit: the sign grid for every policy).
IntegerGrid grid_of(Policy policy, int bits);

/// Whether the policy's parameters end with a unit (below): DoReFa's and PACT's do.
constexpr bool has_unit(Policy policy) {
  return policy == Policy::kDorefa || policy == Policy::kPact;
}

/// Quantizes `weights` [oc, n / oc] with policy and bits in [1, 8]. `params` has one entry per group, which
/// is the layer or an output channel, so 1 or oc of them; statistics are taken per group too. Codes:
/// methods.md table 0.1. LSQ: step size > 0 (at 1 bit the magnitude). DoReFa, PACT: gain > 0 that the
/// unit-range weights are multiplied with (1 in the DoReFa paper, mean|w| in PDQAT, here a calibrated
/// constant), and behind all gains one entry more, the unit > 0 of the weights: tanh is taken of w / unit (1
/// in the paper, whose weights are small and find their own size in long training). WRPN: the clip, 1 in the
/// paper. SAWB and sign weights of DoReFa, PACT, SAWB, WRPN: unused, their scale is a statistic of the
/// weights. Errors: kInvalidArgument for sizes that do not fit or params that are not finite and > 0;
/// kBadInput for non-finite weights.
QuantizedWeights quantize_weights(Policy policy, int bits, std::span<const float> weights, int oc,
                                  std::span<const float> params);

/// Start values for `params` from trained float weights: LSQ 2 mean|w| / sqrt(Qp) (methods.md sheet 5);
/// DoReFa, PACT: the least-squares gain <w, q> / <q, q> against the unit-gain codes, with the unit, between
/// rms(w) and 64 rms(w), at which these come closest to the weights: DoReFa's grid reaches as far as the
/// largest weight, so that at few bits most weights would share one level, while tanh of a smaller unit draws
/// the large ones in. WRPN: max|w|. One entry per group, oc when per_channel.
std::vector<float> initial_params(Policy policy, int bits, std::span<const float> weights, int oc,
                                  bool per_channel);

/// SAWB's clip c1 * rms - c2 * mean|w| for one group of weights (methods.md sheet 3, the 2^b-level table);
/// max|w| where the table has no entry or the formula is not positive.
float sawb_clip(int bits, std::span<const float> weights);

}  // namespace bitstrata::quant
