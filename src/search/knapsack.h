#pragma once

#include <vector>

#include "search/space.h"

namespace bitstrata::search {

/// damage[layer][i]: predicted damage of candidates(layer)[i]; any finite number.
using DamageTable = std::vector<std::vector<double>>;

/// A solved plan.
struct Solution {
  Assignment assignment;
  double damage = 0;
  bool feasible = false;  ///< false: no plan meets all limits, this is the one with the smallest violation
  double gap = 0;         ///< how far the optimum may be below (its damage, or its violation); 0: proven to be the optimum
};

/// The assignment of least total damage within all limits of the space: a multiple-choice knapsack with tie groups (methods.md 0.3). Branch and bound
/// over undominated partial plans, no rounding of costs; Lagrangian relaxations of all limits at once bound what can still come of a partial plan.
/// Exact unless more than 16384 partial plans stay within the bounds at once, which `gap` then tells. Among equal damages the one of lower cost wins
/// (sum of the shares of the limits used; weight bits where there is no limit).
/// kInvalidArgument when the table or the ties do not fit the space or the table holds a value that is not finite.
Solution solve(const Space& space, const DamageTable& damage);

}  // namespace bitstrata::search
