#pragma once

#include <cstdint>

/// Schedules over the steps of a stage; `step` is in [0, total).
namespace bitstrata::search {

/// Steps in a number of epochs, a fraction of one allowed, rounded up. kInvalidArgument when epochs is not in
/// [0, 1e6] or an epoch has no steps.
int64_t steps_of(double epochs, int64_t steps_per_epoch);

/// CCQ's hybrid learning rate: `low` for the first `constant_part` of the stage, then one warm restart at
/// `high` that decays by a cosine to `low` over `bump_part`, then `low` (papers.md 1.4).
double hybrid_rate(int64_t step, int64_t total, double low, double high, double constant_part,
                   double bump_part);

/// Cosine from `high` to 0.
double cosine_rate(int64_t step, int64_t total, double high);

/// `rate` times 0.1 at 50 %, 75 % and 90 % of the stage (papers.md 2.4).
double stepped_rate(int64_t step, int64_t total, double rate);

/// Geometric from `start` to `end`, both positive.
double geometric(int64_t step, int64_t total, double start, double end);

}  // namespace bitstrata::search
