#pragma once

#include <array>
#include <iterator>
#include <limits>
#include <vector>

#include "search/space.h"

/// The multiple-choice knapsack of solve() and its Lagrangian relaxation: limits become prices of what is
/// used of them.
namespace bitstrata::search::knapsack {

constexpr size_t kMaxCosts = std::size(kAllCosts);
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// One number per limited cost, as shares of its limit; entries past the number of limits are 0.
using Shares = std::array<double, kMaxCosts>;

struct Option {
  BitPair bits;
  double damage = 0;
  Shares shares{};
};

/// A free layer, or the layers of one tie group.
struct Item {
  std::vector<size_t> layers;
  std::vector<Option> options;
};

struct Problem {
  size_t costs = 0;  ///< number of limited costs
  std::vector<CostKind> kinds;
  Shares room{};  ///< what the layers together may use of each limit
  std::vector<Item> items;
};

/// A linear lower bound on what a partial plan can become: damage_weight * damage + prices * (shares - room),
/// the open items each at their least.
struct Bound {
  double damage_weight = 1;
  Shares prices{};
  double constant = 0;
  std::vector<double> open;  ///< open[i]: least sum of items i and after
};

inline double dot(const Shares& a, const Shares& b) {
  double sum = 0;
  for (size_t k = 0; k < kMaxCosts; ++k) sum += a[k] * b[k];
  return sum;
}

/// Damages weigh `damage_weight`: 1 to bound damage, 0 to bound the shares alone.
Bound make_bound(const Problem& problem, double damage_weight, const Shares& prices);

/// Least Lagrangian at these prices, and in `excess` how far its plan is over the room: a subgradient.
double lagrangian(const Problem& problem, const Shares& prices, Shares& excess);

/// The prices of the tightest Lagrangian bound. `spread` is the difference between the largest and the least
/// damage of all items together.
Shares best_prices(const Problem& problem, double spread);

}  // namespace bitstrata::search::knapsack
