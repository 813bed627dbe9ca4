#include "quant/policy.h"

#include <string>

#include "core/error.h"

namespace bitstrata::quant {

const char* to_string(Policy policy) noexcept {
  switch (policy) {
    case Policy::kDorefa: return "dorefa";
    case Policy::kPact: return "pact";
    case Policy::kSawb: return "sawb";
    case Policy::kLsq: return "lsq";
    case Policy::kWrpn: return "wrpn";
  }
  return "lsq";
}

Policy parse_policy(std::string_view name) {
  std::string names;
  for (Policy policy : kAllPolicies) {
    if (name == to_string(policy)) return policy;
    names += (names.empty() ? "" : ", ") + std::string(to_string(policy));
  }
  fail(ErrorCode::kInvalidArgument, "unknown quantizer policy '{}': expected one of {}", printable(std::string(name)), names);
}

}  // namespace bitstrata::quant
