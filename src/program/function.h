#pragma once

#include <algorithm>
#include <cmath>

#include "program/program.h"

namespace bitstrata::program {

/// Value of a scalar function in float64; `a` is Elu's alpha and Power's exponent, unused otherwise. Lookup tables and float steps
/// both round this to float32.
inline double apply(Function function, double x, double a) noexcept {
  switch (function) {
    case Function::kNone: return x;
    case Function::kSigmoid: return 1.0 / (1.0 + std::exp(-x));
    case Function::kTanh: return std::tanh(x);
    case Function::kExp: return std::exp(x);
    case Function::kLog: return std::log(x);
    case Function::kSqrt: return std::sqrt(x);
    case Function::kErf: return std::erf(x);
    case Function::kSoftplus: return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x)));
    case Function::kElu: return x >= 0 ? x : a * std::expm1(x);
    case Function::kSilu: return x / (1.0 + std::exp(-x));
    case Function::kGelu: return 0.5 * x * (1.0 + std::erf(x * M_SQRT1_2));
    case Function::kAbs: return std::fabs(x);
    case Function::kNegate: return -x;
    case Function::kReciprocal: return 1.0 / x;
    case Function::kPower: return std::pow(x, a);
  }
  return x;
}

}  // namespace bitstrata::program
