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
};

/// The assignment of least total damage within all limits of the space: a multiple-choice knapsack with tie groups (methods.md 0.3). Exact: branch and
/// bound over undominated partial plans, no rounding of costs. Among equal damages the one of lower cost wins.
/// kInvalidArgument when the table does not fit the space or holds a value that is not finite.
Solution solve(const Space& space, const DamageTable& damage);

}  // namespace bitstrata::search
