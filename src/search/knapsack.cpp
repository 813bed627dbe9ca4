#include "search/knapsack.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <tuple>

#include "core/error.h"
#include "search/relaxation.h"

namespace bitstrata::search {
namespace {

using namespace knapsack;

constexpr size_t kWidths[] = {64, 1024, 16384,
                              65536};  ///< of the search, widened until nothing had to be cut
bool dominates(const Option& a, const Option& b) {
  if (a.damage > b.damage) return false;
  for (size_t k = 0; k < kMaxCosts; ++k) {
    if (a.shares[k] > b.shares[k]) return false;
  }
  return true;
}

void drop_dominated(std::vector<Option>& options) {
  std::vector<Option> kept;
  for (size_t i = 0; i < options.size(); ++i) {
    bool dominated = false;
    for (size_t j = 0; j < options.size() && !dominated; ++j) {
      dominated =
          i != j && dominates(options[j], options[i]) && (j < i || !dominates(options[i], options[j]));
    }
    if (!dominated) kept.push_back(options[i]);
  }
  options = std::move(kept);
}

std::vector<std::vector<size_t>> groups_of(const Space& space) {
  std::vector<bool> tied(space.layers.size(), false);
  std::vector<std::vector<size_t>> groups;
  for (const std::vector<int>& tie : space.ties) {
    std::vector<size_t> group;
    for (int layer : tie) {
      if (layer < 0 || static_cast<size_t>(layer) >= tied.size() || tied[static_cast<size_t>(layer)]) {
        fail(ErrorCode::kInvalidArgument,
             "knapsack: layer {} of a tie group is not in the space or in two groups", layer);
      }
      tied[static_cast<size_t>(layer)] = true;
      group.push_back(static_cast<size_t>(layer));
    }
    if (!group.empty()) groups.push_back(std::move(group));
  }
  for (size_t layer = 0; layer < tied.size(); ++layer) {
    if (!tied[layer]) groups.push_back({layer});
  }
  return groups;
}

void check_table(const Space& space, const DamageTable& damage) {
  if (damage.size() != space.layers.size()) {
    fail(ErrorCode::kInvalidArgument, "knapsack: found damages of {} layers, the space has {}", damage.size(),
         space.layers.size());
  }
  for (size_t layer = 0; layer < damage.size(); ++layer) {
    if (damage[layer].empty() || damage[layer].size() != space.candidates(layer).size()) {
      fail(ErrorCode::kInvalidArgument,
           "knapsack: layer '{}': found {} damages, expected {}, and one at least",
           printable(space.layers[layer].name), damage[layer].size(), space.candidates(layer).size());
    }
    for (double value : damage[layer]) {
      if (!std::isfinite(value)) {
        fail(ErrorCode::kInvalidArgument, "knapsack: layer '{}': found damage {}, expected a finite number",
             printable(space.layers[layer].name), value);
      }
    }
  }
}

Problem make_problem(const Space& space, const DamageTable& damage) {
  check_table(space, damage);
  std::map<CostKind, double> limits;
  for (const Limit& limit : space.limits) {
    if (!(limit.at_most > 0))
      fail(ErrorCode::kInvalidArgument, "knapsack: limit of {}: found {}, expected > 0",
           to_string(limit.kind), limit.at_most);
    const auto [at, is_new] = limits.emplace(limit.kind, limit.at_most);
    if (!is_new) at->second = std::min(at->second, limit.at_most);
  }
  // Without a limit the weight bits decide between equal damages; the room is never used up.
  if (limits.empty())
    limits.emplace(CostKind::kWeightBits, 2 * space.cost(CostKind::kWeightBits, space.highest()) + 1);
  Problem problem;
  for (const auto& [kind, at_most] : limits) {
    const double fixed = kind == CostKind::kLatencyMs ? space.fixed_latency_ms : 0;
    // Half of what Space::feasible forgives: sums in another order must not cross its border.
    problem.room[problem.costs++] = 1 + 5e-13 - fixed / at_most;
    problem.kinds.push_back(kind);
  }
  for (std::vector<size_t>& layers : groups_of(space)) {
    Item item;
    for (const BitPair& bits : space.candidates(layers[0])) {
      Option option{bits, 0, {}};
      bool common = true;
      for (size_t layer : layers) {
        const auto pairs = space.candidates(layer);
        const auto found = std::find(pairs.begin(), pairs.end(), bits);
        if (found == pairs.end()) {
          common = false;
          break;
        }
        option.damage += damage[layer][static_cast<size_t>(found - pairs.begin())];
        for (size_t k = 0; k < problem.costs; ++k) {
          option.shares[k] += space.cost(problem.kinds[k], layer, bits) / limits.at(problem.kinds[k]);
        }
      }
      if (common) item.options.push_back(option);
    }
    if (item.options.empty()) {
      fail(ErrorCode::kInvalidArgument, "knapsack: the layers tied to '{}' have no candidate in common",
           printable(space.layers[layers[0]].name));
    }
    item.layers = std::move(layers);
    drop_dominated(item.options);
    problem.items.push_back(std::move(item));
  }
  return problem;
}

struct State {
  double damage = 0;
  Shares shares{};
  double bound = 0;
  uint32_t parent = 0;
  uint32_t option = 0;
};

/// Removes states that another one beats in damage and every cost at once. Ascending by damage afterwards.
void drop_dominated(std::vector<State>& states, size_t costs) {
  std::sort(states.begin(), states.end(), [](const State& a, const State& b) {
    return std::tie(a.damage, a.shares, a.parent, a.option) <
           std::tie(b.damage, b.shares, b.parent, b.option);
  });
  std::map<double, double> stairs;  // least second share seen up to each first share
  std::vector<State> kept;
  for (const State& state : states) {
    bool dominated = false;
    if (costs <= 2) {
      auto next = stairs.upper_bound(state.shares[0]);
      dominated = next != stairs.begin() && std::prev(next)->second <= state.shares[1];
      if (!dominated) {
        auto same = stairs.insert_or_assign(state.shares[0], state.shares[1]).first;
        for (++same; same != stairs.end() && same->second >= state.shares[1];) same = stairs.erase(same);
      }
    } else {
      // Dropping is a saving only, so a part of the pairs will do.
      const size_t first = kept.size() > 256 ? kept.size() - 256 : 0;
      for (size_t i = first; i < kept.size() && !dominated; ++i) {
        dominated = true;
        for (size_t k = 0; k < costs && dominated; ++k) dominated = kept[i].shares[k] <= state.shares[k];
      }
    }
    if (!dominated) kept.push_back(state);
  }
  states = std::move(kept);
}

/// What one search of limited width is to do.
struct Task {
  const Problem& problem;
  const std::vector<Bound>& bounds;
  bool within_room;  ///< minimise damage within the room; otherwise minimise the largest excess over it
  double incumbent;  ///< value of the best plan known
  double tolerance;  ///< of values, for rounding
};

struct Outcome {
  bool found = false;
  double value = kInfinity;
  std::vector<uint32_t> options;  ///< per item
  double least_cut = kInfinity;   ///< least bound of what was left out for want of width
};

double excess(const Problem& problem, const Shares& shares) {
  double worst = -kInfinity;
  for (size_t k = 0; k < problem.costs; ++k) worst = std::max(worst, shares[k] - problem.room[k]);
  return worst;
}

void keep_best(const Task& task, const std::vector<State>& states, Outcome& outcome, size_t& index) {
  const auto value = [&](const State& s) {
    return task.within_room ? s.damage : excess(task.problem, s.shares);
  };
  const auto used = [](const State& s) { return std::accumulate(s.shares.begin(), s.shares.end(), 0.0); };
  for (const State& state : states) outcome.value = std::min(outcome.value, value(state));
  const double equal = outcome.value + 1e-13 * std::abs(outcome.value);
  double least_used = kInfinity;
  for (size_t i = 0; i < states.size(); ++i) {
    if (value(states[i]) <= equal && used(states[i]) < least_used) {
      least_used = used(states[i]);
      index = i;
      outcome.found = true;
    }
  }
}

/// Goes through the items once, keeping at most `width` partial plans.
Outcome search(const Task& task, size_t width) {
  struct Step {
    uint32_t parent, option;
  };
  const auto& items = task.problem.items;
  std::vector<Bound> least_shares;
  for (size_t k = 0; k < task.problem.costs && task.within_room; ++k) {
    Shares unit{};
    unit[k] = 1;
    least_shares.push_back(make_bound(task.problem, 0, unit));
  }
  Outcome outcome;
  std::vector<std::vector<Step>> steps;
  std::vector<State> states(1), next;
  for (size_t i = 0; i < items.size(); ++i) {
    next.clear();
    for (size_t s = 0; s < states.size(); ++s) {
      for (size_t o = 0; o < items[i].options.size(); ++o) {
        const Option& option = items[i].options[o];
        State state{states[s].damage + option.damage, states[s].shares, -kInfinity, static_cast<uint32_t>(s),
                    static_cast<uint32_t>(o)};
        for (size_t k = 0; k < task.problem.costs; ++k) state.shares[k] += option.shares[k];
        bool open = true;
        for (const Bound& b : least_shares)
          open = open && dot(b.prices, state.shares) + b.open[i + 1] + b.constant <= 1e-15;
        for (size_t b = 0; b < task.bounds.size() && open; ++b) {
          const Bound& bound = task.bounds[b];
          const double value = bound.damage_weight * state.damage + dot(bound.prices, state.shares) +
                               bound.open[i + 1] + bound.constant;
          state.bound = std::max(state.bound, value);
          open = state.bound <= task.incumbent + task.tolerance;
        }
        if (open) next.push_back(state);
      }
    }
    drop_dominated(next, task.problem.costs);
    if (next.size() > width) {
      const auto end = next.begin() + static_cast<ptrdiff_t>(width);
      std::nth_element(next.begin(), end, next.end(), [](const State& a, const State& b) {
        return std::tie(a.bound, a.damage, a.shares, a.parent, a.option) <
               std::tie(b.bound, b.damage, b.shares, b.parent, b.option);
      });
      for (auto cut = end; cut != next.end(); ++cut)
        outcome.least_cut = std::min(outcome.least_cut, cut->bound);
      next.erase(end, next.end());
    }
    states.swap(next);
    steps.emplace_back();
    for (const State& state : states) steps.back().push_back({state.parent, state.option});
  }
  size_t index = 0;
  keep_best(task, states, outcome, index);
  if (!outcome.found) return outcome;
  outcome.options.resize(items.size());
  for (size_t i = items.size(); i-- > 0;) {
    outcome.options[i] = steps[i][index].option;
    index = steps[i][index].parent;
  }
  return outcome;
}

/// Bounds around the best prices: partial plans that used more or less than their part see other prices.
std::vector<Bound> bounds_around(const Problem& problem, const Shares& prices) {
  std::vector<Bound> bounds = {make_bound(problem, 1, prices)};
  const double factors[] = {0, 0.25, 0.5, 0.7, 0.85, 0.95, 1.05, 1.2, 1.4, 2, 4};
  for (double factor : factors) {
    Shares scaled = prices;
    for (double& price : scaled) price *= factor;
    bounds.push_back(make_bound(problem, 1, scaled));
  }
  for (size_t k = 0; k < problem.costs && problem.costs > 1; ++k) {
    for (double factor : factors) {
      Shares scaled = prices;
      scaled[k] *= factor;
      bounds.push_back(make_bound(problem, 1, scaled));
    }
  }
  return bounds;
}

/// Bounds on the largest excess: any average of the excesses.
std::vector<Bound> excess_bounds(const Problem& problem) {
  std::vector<Bound> bounds;
  for (size_t k = 0; k < problem.costs; ++k) {
    for (size_t j = k; j < problem.costs; ++j) {
      for (int part = 0; part < (j == k ? 1 : 16); ++part) {
        Shares mix{};
        mix[k] = 1 - part / 16.0;
        mix[j] += part / 16.0;
        bounds.push_back(make_bound(problem, 0, mix));
      }
    }
  }
  return bounds;
}

using Choice = std::vector<BitPair>;  ///< per item

Choice choice_of(const Problem& problem, const std::vector<uint32_t>& options) {
  Choice choice;
  for (size_t i = 0; i < options.size(); ++i) choice.push_back(problem.items[i].options[options[i]].bits);
  return choice;
}

/// Every item at the option that is cheapest in all costs at once, where all items have one.
std::optional<Choice> cheapest(const Problem& problem) {
  Choice choice;
  for (const Item& item : problem.items) {
    const auto is_least = [&](const Option& a) {
      return std::all_of(item.options.begin(), item.options.end(), [&](const Option& b) {
        return std::equal(a.shares.begin(), a.shares.end(), b.shares.begin(), std::less_equal<>());
      });
    };
    const auto found = std::find_if(item.options.begin(), item.options.end(), is_least);
    if (found == item.options.end()) return std::nullopt;
    choice.push_back(found->bits);
  }
  return choice;
}

/// The plan of least excess; stops at the first that has none.
Choice least_excess(Problem problem, double& gap) {
  for (Item& item : problem.items) {
    for (Option& option : item.options) option.damage = 0;
    drop_dominated(item.options);
  }
  const auto bounds = excess_bounds(problem);
  double lower = -kInfinity, value = kInfinity;
  for (const Bound& bound : bounds) lower = std::max(lower, bound.open[0] + bound.constant);
  Choice best;
  for (size_t width : kWidths) {
    const Outcome outcome = search({problem, bounds, false, value, 1e-12}, width);
    if (outcome.found && (best.empty() || outcome.value < value)) {
      value = outcome.value;
      best = choice_of(problem, outcome.options);
    }
    gap = std::max(0.0, value - std::max(lower, std::min(value, outcome.least_cut)));
    if (value <= 0 || gap <= 1e-12) gap = 0;
    if (gap == 0) break;
  }
  return best;
}

double damage_of(const Problem& problem, const Choice& choice) {
  double sum = 0;
  for (size_t i = 0; i < choice.size(); ++i) {
    for (const Option& option : problem.items[i].options) sum += option.bits == choice[i] ? option.damage : 0;
  }
  return sum;
}

/// Decided items first: their options cost much more at the prices than the best one, so few partial plans
/// stay open.
void order_items(Problem& problem, const Shares& prices) {
  const auto regret = [&](const Item& item) {
    double least = kInfinity, second = kInfinity;
    for (const Option& option : item.options) {
      const double value = option.damage + dot(prices, option.shares);
      second = std::min(second, std::max(value, least));
      least = std::min(least, value);
    }
    return second - least;
  };
  std::stable_sort(problem.items.begin(), problem.items.end(),
                   [&](const Item& a, const Item& b) { return regret(a) > regret(b); });
}

/// Drops options that no plan better than `value` can have.
void drop_hopeless(Problem& problem, const Shares& prices, double slack) {
  for (Item& item : problem.items) {
    double least = kInfinity;
    for (const Option& option : item.options)
      least = std::min(least, option.damage + dot(prices, option.shares));
    std::erase_if(item.options, [&](const Option& option) {
      return option.damage + dot(prices, option.shares) > least + slack;
    });
  }
}

/// The plan of least damage within the room. `best` is a plan within it, in the order of the items.
void least_damage(Problem& problem, Choice& best, double& gap) {
  double spread = 0, magnitude = 0;
  for (const Item& item : problem.items) {
    double low = kInfinity, high = -kInfinity;
    for (const Option& option : item.options) {
      low = std::min(low, option.damage);
      high = std::max(high, option.damage);
    }
    spread += high - low;
    magnitude += std::max(std::abs(low), std::abs(high));
  }
  double value = damage_of(problem, best);
  Shares excess_now{};
  const Shares prices = best_prices(problem, spread);
  const double lower = lagrangian(problem, prices, excess_now);
  const double tolerance = 1e-12 * (magnitude + dot(prices, problem.room));
  {
    std::map<size_t, BitPair> by_layer;
    for (size_t i = 0; i < best.size(); ++i) by_layer[problem.items[i].layers[0]] = best[i];
    order_items(problem, prices);
    for (size_t i = 0; i < best.size(); ++i) best[i] = by_layer[problem.items[i].layers[0]];
  }
  for (size_t width : kWidths) {
    const auto bounds = bounds_around(problem, prices);
    const Outcome outcome = search({problem, bounds, true, value, tolerance}, width);
    if (outcome.found && outcome.value <= value + 1e-13 * std::abs(value)) {
      value = std::min(value, outcome.value);
      best = choice_of(problem, outcome.options);
    }
    gap = outcome.least_cut == kInfinity
              ? 0
              : std::max(0.0, value - std::max(lower, std::min(value, outcome.least_cut)));
    if (gap <= tolerance) gap = 0;
    if (outcome.least_cut == kInfinity || gap == 0) break;
    drop_hopeless(problem, prices, value - lower + tolerance);
  }
}

}  // namespace

Solution solve(const Space& space, const DamageTable& damage) {
  Problem problem = make_problem(space, damage);
  Solution solution;
  const auto write = [&](const Choice& choice) {
    solution.assignment.assign(space.layers.size(), {});
    for (size_t i = 0; i < choice.size(); ++i) {
      for (size_t layer : problem.items[i].layers) solution.assignment[layer] = choice[i];
    }
  };
  const std::optional<Choice> lowest = cheapest(problem);
  Choice choice = lowest ? *lowest : least_excess(problem, solution.gap);
  write(choice);
  solution.feasible = space.feasible(solution.assignment);
  if (solution.feasible) {
    least_damage(problem, choice, solution.gap);
    write(choice);
  }
  for (size_t layer = 0; layer < damage.size(); ++layer) {
    const auto pairs = space.candidates(layer);
    const auto at = std::find(pairs.begin(), pairs.end(), solution.assignment[layer]) - pairs.begin();
    solution.damage += damage[layer][static_cast<size_t>(at)];
  }
  return solution;
}

}  // namespace bitstrata::search
