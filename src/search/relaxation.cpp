#include "search/relaxation.h"

#include <algorithm>
#include <cmath>

namespace bitstrata::search::knapsack {
namespace {

double priced(const Bound& bound, const Option& option) {
  return bound.damage_weight * option.damage + dot(bound.prices, option.shares);
}

/// The prices of the tightest Lagrangian bound for one limit: bisection on the sign of the excess.
Shares bisect_price(const Problem& problem, double high) {
  Shares prices{}, excess{};
  lagrangian(problem, prices, excess);
  if (excess[0] <= 0) return prices;
  double low = 0;
  for (int round = 0; round < 200 && high - low > 1e-15 * high; ++round) {
    prices[0] = 0.5 * (low + high);
    lagrangian(problem, prices, excess);
    (excess[0] > 0 ? low : high) = prices[0];
  }
  prices[0] = high;
  return prices;
}

/// The same for several limits: the ellipsoid method, restarted on smaller and smaller balls around the best
/// prices so far, because long thin ellipsoids lose their precision.
Shares ellipsoid_prices(const Problem& problem, double radius) {
  const size_t n = problem.costs;
  const auto dims = static_cast<double>(n);
  Shares best{}, uphill{};
  double best_value = lagrangian(problem, best, uphill);
  for (int restart = 0; restart < 60; ++restart, radius *= 0.5) {
    Shares center = best;
    std::array<Shares, kMaxCosts> shape{};
    for (size_t k = 0; k < n; ++k) shape[k][k] = radius * radius;
    for (size_t round = 0; round < 40 * n; ++round) {
      Shares prices = center;
      for (double& price : prices) price = std::max(price, 0.0);
      const double value = lagrangian(problem, prices, uphill);
      if (value > best_value) {
        best_value = value;
        best = prices;
      }
      if (prices != center) {
        for (size_t k = 0; k < n; ++k) uphill[k] = prices[k] - center[k];
      }
      Shares step{};
      for (size_t k = 0; k < n; ++k) step[k] = dot(shape[k], uphill);
      const double length = std::sqrt(dot(step, uphill));
      if (!(length > 0) || !std::isfinite(length)) break;
      for (double& s : step) s /= length;
      for (size_t k = 0; k < n; ++k) {
        center[k] += step[k] / (dims + 1);
        for (size_t j = 0; j < n; ++j) {
          shape[k][j] = dims * dims / (dims * dims - 1) * (shape[k][j] - 2 / (dims + 1) * step[k] * step[j]);
        }
      }
    }
  }
  return best;
}

}  // namespace

Bound make_bound(const Problem& problem, double damage_weight, const Shares& prices) {
  Bound bound{damage_weight, prices, -dot(prices, problem.room), {}};
  bound.open.assign(problem.items.size() + 1, 0);
  for (size_t i = problem.items.size(); i-- > 0;) {
    double least = kInfinity;
    for (const Option& option : problem.items[i].options) least = std::min(least, priced(bound, option));
    bound.open[i] = bound.open[i + 1] + least;
  }
  return bound;
}

double lagrangian(const Problem& problem, const Shares& prices, Shares& excess) {
  double sum = -dot(prices, problem.room);
  for (size_t k = 0; k < kMaxCosts; ++k) excess[k] = -problem.room[k];
  for (const Item& item : problem.items) {
    const Option* best = nullptr;
    double least = kInfinity;
    for (const Option& option : item.options) {
      const double value = option.damage + dot(prices, option.shares);
      if (value < least) {
        least = value;
        best = &option;
      }
    }
    sum += least;
    for (size_t k = 0; k < kMaxCosts; ++k) excess[k] += best->shares[k];
  }
  return sum;
}

Shares best_prices(const Problem& problem, double spread) {
  return problem.costs == 1 ? bisect_price(problem, 1e6 * spread + 1)
                            : ellipsoid_prices(problem, 10 * spread + 1);
}

}  // namespace bitstrata::search::knapsack
