#include "search/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"

namespace bitstrata::search {
namespace {

/// One plus the cosine, halved: 1 at 0, 0 at 1.
double half_cosine(double part) {
  return 0.5 * (1 + std::cos(std::numbers::pi * part));
}

}  // namespace

int64_t steps_of(double epochs, int64_t steps_per_epoch) {
  if (!(epochs >= 0 && epochs <= 1e6))
    fail(ErrorCode::kInvalidArgument, "search: found {} epochs, expected 0 to 1000000", epochs);
  if (steps_per_epoch < 1)
    fail(ErrorCode::kInvalidArgument,
         "search: found {} steps in an epoch, expected at least one; is the data empty?", steps_per_epoch);
  return static_cast<int64_t>(std::ceil(epochs * static_cast<double>(steps_per_epoch)));
}

double hybrid_rate(int64_t step, int64_t total, double low, double high, double constant_part,
                   double bump_part) {
  const double at = static_cast<double>(step) - constant_part * static_cast<double>(total);
  const double length = bump_part * static_cast<double>(total);
  if (at < 0 || at >= length) return low;
  return low + (high - low) * half_cosine(at / length);
}

double cosine_rate(int64_t step, int64_t total, double high) {
  return high * half_cosine(static_cast<double>(step) / static_cast<double>(std::max<int64_t>(1, total)));
}

double stepped_rate(int64_t step, int64_t total, double rate) {
  for (const int percent : {50, 75, 90}) {
    if (step * 100 >= total * percent) rate *= 0.1;
  }
  return rate;
}

double geometric(int64_t step, int64_t total, double start, double end) {
  const double part = static_cast<double>(step) / static_cast<double>(std::max<int64_t>(1, total - 1));
  return start * std::pow(end / start, std::min(1.0, part));
}

}  // namespace bitstrata::search
