#pragma once

#include <string_view>

namespace bitstrata::quant {

/// Quantizer policies: how weights and activations become codes in training (spec: methods.md sheets 1, 2, 3, 5, 7).
enum class Policy {
  kDorefa,  ///< tanh-normalised weights; activations clipped at a fixed, calibrated range
  kPact,    ///< DoReFa weights; activations clipped at a learned range
  kSawb,    ///< statistics-aware weight binning; PACT activations
  kLsq,     ///< learned step sizes for weights and activations
  kWrpn,    ///< linearly clipped symmetric weights; activations as DoReFa
};

inline constexpr Policy kAllPolicies[] = {Policy::kDorefa, Policy::kPact, Policy::kSawb, Policy::kLsq, Policy::kWrpn};

/// "dorefa", "pact", "sawb", "lsq", "wrpn".
const char* to_string(Policy policy) noexcept;

/// Parses a name; kInvalidArgument listing the names when unknown.
Policy parse_policy(std::string_view name);

}  // namespace bitstrata::quant
