#include "search/knapsack.h"

#include <gmock/gmock.h>

#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "core/error.h"
#include "core/random.h"

namespace bitstrata::search {
namespace {

using testing::HasSubstr;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Layer make_layer(int64_t weights, int64_t macs, std::vector<int> bits) {
  Layer layer;
  layer.name = "l" + std::to_string(weights);
  layer.weights = weights;
  layer.macs = macs;
  layer.weight_bits = layer.activation_bits = std::move(bits);
  return layer;
}

/// Calls `visit` with every assignment that keeps the ties.
void for_all(const Space& space,
             const std::function<void(const Assignment&, const std::vector<size_t>&)>& visit) {
  std::vector<std::vector<BitPair>> pairs;
  for (size_t l = 0; l < space.layers.size(); ++l) pairs.push_back(space.candidates(l));
  std::vector<size_t> at(pairs.size(), 0);
  Assignment a(pairs.size());
  while (true) {
    for (size_t l = 0; l < at.size(); ++l) a[l] = pairs[l][at[l]];
    bool keeps = true;
    for (const auto& tie : space.ties) {
      for (int l : tie) keeps = keeps && a[static_cast<size_t>(l)] == a[static_cast<size_t>(tie[0])];
    }
    if (keeps) visit(a, at);
    size_t l = 0;
    while (l < at.size() && ++at[l] == pairs[l].size()) at[l++] = 0;
    if (l == at.size()) return;
  }
}

double total(const DamageTable& damage, const std::vector<size_t>& at) {
  double sum = 0;
  for (size_t l = 0; l < at.size(); ++l) sum += damage[l][at[l]];
  return sum;
}

/// What decides between equal damages.
double used(const Space& space, const Assignment& a) {
  std::map<CostKind, double> limits;
  for (const Limit& limit : space.limits)
    limits[limit.kind] =
        std::min(limit.at_most, limits.contains(limit.kind) ? limits[limit.kind] : kInfinity);
  if (limits.empty()) return space.cost(CostKind::kWeightBits, a);
  double sum = 0;
  for (const auto& [kind, at_most] : limits) sum += space.cost(kind, a) / at_most;
  return sum;
}

struct Instance {
  Space space;
  DamageTable damage;
};

Instance random_instance(uint64_t seed, bool integers) {
  Random random(seed, 77);
  Instance result;
  Space& space = result.space;
  space.tied = random.below(2) == 0;
  const size_t layers = 1 + random.below(space.tied ? 6 : 4);
  std::vector<int> bits;
  while (bits.empty()) {
    for (int b = 8; b >= 1; --b) {
      if (random.below(8) < (space.tied ? 4u : 3u)) bits.push_back(b);
    }
  }
  if (bits.size() > 4) bits.resize(4);
  space.fixed_latency_ms = random.below(2) == 0 ? 0.3 : 0;
  for (size_t l = 0; l < layers; ++l) {
    Layer layer = make_layer(1 + static_cast<int64_t>(random.below(500)),
                             1 + static_cast<int64_t>(random.below(5000)), bits);
    if (l == 0 && random.below(3) == 0) layer.activation_bits = {8};
    // Not even monotone in the bits.
    for (size_t i = 0; i < layer.weight_bits.size() * layer.activation_bits.size(); ++i)
      layer.latency_ms.push_back(0.1 + random.uniform());
    space.layers.push_back(std::move(layer));
  }
  if (layers >= 3 && random.below(2) == 0) {
    space.ties.push_back({1, static_cast<int>(layers) - 1});
    if (layers >= 5) space.ties.push_back({3, 2});
  }
  const uint64_t limits = random.below(4);
  for (uint64_t i = 0; i < limits; ++i) {
    const CostKind kind = kAllCosts[random.below(4)];
    const double low = space.cost(kind, space.lowest()), high = space.cost(kind, space.highest());
    const double at = low + (high - low) * (random.uniform() * 1.2 - 0.2);
    space.limits.push_back({kind, std::max(at, 0.05), ""});
  }
  for (size_t l = 0; l < layers; ++l) {
    result.damage.emplace_back();
    for (size_t c = 0; c < space.candidates(l).size(); ++c) {
      result.damage[l].push_back(integers ? static_cast<double>(random.below(6)) - 2
                                          : random.uniform() * static_cast<double>(c + 1) - 0.5);
    }
  }
  return result;
}

void expect_optimal(const Instance& instance, bool integers) {
  const Space& space = instance.space;
  double best = kInfinity, least_violation = kInfinity;
  for_all(space, [&](const Assignment& a, const std::vector<size_t>& at) {
    least_violation = std::min(least_violation, space.violation(a));
    if (space.feasible(a)) best = std::min(best, total(instance.damage, at));
  });
  const Solution solution = solve(space, instance.damage);
  EXPECT_EQ(solution.gap, 0);
  double least_used = kInfinity, found = kInfinity;
  for_all(space, [&](const Assignment& a, const std::vector<size_t>& at) {
    if (a == solution.assignment) found = total(instance.damage, at);
    if (space.feasible(a) && total(instance.damage, at) == best)
      least_used = std::min(least_used, used(space, a));
  });
  ASSERT_NE(found, kInfinity) << "no candidate, or breaks a tie";
  EXPECT_NEAR(solution.damage, found, 1e-12);
  EXPECT_EQ(solution.feasible, best < kInfinity);
  if (solution.feasible) {
    EXPECT_TRUE(space.feasible(solution.assignment));
    EXPECT_NEAR(solution.damage, best, 1e-12);
    if (integers) {
      EXPECT_NEAR(used(space, solution.assignment), least_used, 1e-9);
    }
  } else {
    EXPECT_NEAR(space.violation(solution.assignment), least_violation, 1e-9);
  }
}

TEST(Knapsack, EqualsBruteForceOnRandomInstances) {
  int infeasible = 0, tied = 0, several = 0;
  for (uint64_t seed = 0; seed < 600; ++seed) {
    SCOPED_TRACE(seed);
    const Instance instance = random_instance(seed, seed % 2 == 0);
    expect_optimal(instance, seed % 2 == 0);
    infeasible += solve(instance.space, instance.damage).feasible ? 0 : 1;
    tied += instance.space.ties.empty() ? 0 : 1;
    several += instance.space.limits.size() > 1 ? 1 : 0;
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(infeasible, 30);
  EXPECT_GT(tied, 100);
  EXPECT_GT(several, 100);
}

/// ResNet-18 without its first and last layer: the numbers of the notebook ILP.ipynb of
/// github.com/Zhen-Dong/HAWQ (MIT licence), layers numbered as there. Its answers with the limits halfway
/// between all-4-bit and all-8-bit are the published HAWQ-V3 configurations.
struct HawqResNet18 {
  static constexpr double kTrace[] = {0.06857826, 0.03162379, 0.03298575, 0.01205663, 0.02222431,
                                      0.00596336, 0.06931772, 0.00807129, 0.00372905, 0.00530698,
                                      0.00209011, 0.00737569, 0.00210454, 0.00151197, 0.00158041,
                                      0.00078146, 0.00451841, 0.00098745, 0.00072944};
  static constexpr double kError8[] = {0.0235, 0.0125, 0.0102, 0.0082, 0.0145, 0.0344, 0.0023,
                                       0.0287, 0.0148, 0.0333, 0.0682, 0.0027, 0.0448, 0.0336,
                                       0.0576, 0.1130, 0.0102, 0.0947, 0.0532};
  static constexpr double kError4[] = {6.7430,  3.9691,  3.3281,  2.6796,  4.7277, 10.5966, 0.6827,
                                       9.0942,  4.8857,  10.7599, 21.7546, 0.8603, 14.5324, 10.9651,
                                       18.7706, 36.4044, 3.1572,  29.6994, 17.4016};
  static constexpr int64_t kWeights[] = {36864,   36864,   36864,  36864,   73728,  147456, 8192,
                                         147456,  147456,  294912, 589824,  32768,  589824, 589824,
                                         1179648, 2359296, 131072, 2359296, 2359296};
  static constexpr int64_t kMacs[] = {115605504, 115605504, 115605504, 115605504, 57802752,
                                      115605504, 6422528,   115605504, 115605504, 57802752,
                                      115605504, 6422528,   115605504, 115605504, 57802752,
                                      115605504, 6422528,   115605504, 115605504};
  static constexpr double kMs4[] = {0.21094404, 0.21092674, 0.21104113, 0.21086851, 0.13642465,
                                    0.19167506, 0.02532183, 0.19148203, 0.19142914, 0.11395316,
                                    0.20556011, 0.01917474, 0.20566918, 0.20566509, 0.13185102,
                                    0.22287786, 0.01790088, 0.22304611, 0.22286099};
  static constexpr double kMs8[] = {0.36189111, 0.36211718, 0.31141909, 0.30454471, 0.19184896,
                                    0.38948934, 0.0334169,  0.38904905, 0.3892859,  0.19134735,
                                    0.34307431, 0.02802354, 0.34313329, 0.34310756, 0.21117103,
                                    0.37376585, 0.02896843, 0.37398187, 0.37405185};

  Space space;
  DamageTable damage;

  HawqResNet18() {
    for (size_t l = 0; l < std::size(kTrace); ++l) {
      Layer layer = make_layer(kWeights[l], kMacs[l], {8, 4});
      layer.latency_ms = {kMs8[l], 0, 0, kMs4[l]};
      space.layers.push_back(std::move(layer));
      damage.push_back({kTrace[l] * kError8[l], kTrace[l] * kError4[l]});
    }
    space.ties = {{4, 6}, {9, 11}, {14, 16}};
  }

  /// Solves with the limit halfway; returns the limit.
  double limit_halfway(CostKind kind) {
    const double limit = 0.5 * (space.cost(kind, space.lowest()) + space.cost(kind, space.highest()));
    space.limits = {{kind, limit, ""}};
    return limit;
  }

  /// The notebook counts the gain over 4 bits everywhere.
  double gain(const Solution& solution) const {
    double lowest = 0;
    for (const auto& row : damage) lowest += row[1];
    return lowest - solution.damage;
  }
};

std::vector<size_t> four_bit_layers(const Solution& solution) {
  std::vector<size_t> result;
  for (size_t l = 0; l < solution.assignment.size(); ++l) {
    if (solution.assignment[l] == BitPair{4, 4}) result.push_back(l);
  }
  return result;
}

TEST(KnapsackOnHawqResNet18, SizeLimit) {
  HawqResNet18 net;
  const double mib = 1024 * 1024;
  EXPECT_NEAR(net.limit_halfway(CostKind::kSizeBytes) / mib, 7.980469, 5e-7);
  const Solution solution = solve(net.space, net.damage);
  EXPECT_THAT(four_bit_layers(solution), testing::ElementsAre(15, 17, 18));
  EXPECT_NEAR(net.gain(solution), 1.233207, 5e-7);
  EXPECT_NEAR(net.space.cost(CostKind::kSizeBytes, solution.assignment) / mib, 7.265625, 5e-7);
}

TEST(KnapsackOnHawqResNet18, BitOpsLimit) {
  HawqResNet18 net;
  const double unit = 1024e6;  // the notebook counts millions of MACs, / 16 at 8 bits and / 64 at 4
  EXPECT_NEAR(net.limit_halfway(CostKind::kBitOps) / unit, 66.232320, 5e-7);
  const Solution solution = solve(net.space, net.damage);
  EXPECT_THAT(four_bit_layers(solution), testing::ElementsAre(3, 8, 12, 13, 14, 15, 16, 17, 18));
  EXPECT_NEAR(net.gain(solution), 1.092024, 5e-7);
  EXPECT_NEAR(net.space.cost(CostKind::kBitOps, solution.assignment) / unit, 65.028096, 5e-7);
}

TEST(KnapsackOnHawqResNet18, LatencyLimit) {
  HawqResNet18 net;
  EXPECT_NEAR(net.limit_halfway(CostKind::kLatencyMs), 4.246180, 5e-7);
  const Solution solution = solve(net.space, net.damage);
  EXPECT_THAT(four_bit_layers(solution), testing::ElementsAre(5, 8, 12, 13, 15, 17, 18));
  EXPECT_NEAR(net.gain(solution), 1.105039, 5e-7);
  EXPECT_NEAR(net.space.cost(CostKind::kLatencyMs, solution.assignment), 4.220095, 5e-7);
}

/// 60 untied layers of 36 pairs; the damage grows as the bits shrink, differently in every layer.
Instance large_instance(uint64_t seed, int64_t max_weights, int64_t max_macs) {
  Random random(seed, 5);
  Instance result;
  result.space.tied = false;
  for (size_t l = 0; l < 60; ++l) {
    const auto below = [&](int64_t n) {
      return 1 + static_cast<int64_t>(random.below(static_cast<uint64_t>(n)));
    };
    result.space.layers.push_back(make_layer(below(max_weights), below(max_macs), {8, 6, 4, 3, 2, 1}));
    const double weight = std::exp(4 * random.uniform()), activation = std::exp(4 * random.uniform());
    result.damage.emplace_back();
    for (const BitPair& bits : result.space.candidates(l)) {
      result.damage[l].push_back(weight * std::pow(4, -bits.weight) * (0.8 + 0.4 * random.uniform()) +
                                 activation * std::pow(4, -bits.activation) * (0.8 + 0.4 * random.uniform()));
    }
  }
  return result;
}

void limit_between(Space& space, CostKind kind, double part) {
  const double low = space.cost(kind, space.lowest()), high = space.cost(kind, space.highest());
  space.limits.push_back({kind, std::floor(low + part * (high - low)), ""});
}

/// Dynamic programming over every whole cost.
double optimum_by_whole_costs(const Instance& instance) {
  const Space& space = instance.space;
  const auto budget = static_cast<size_t>(space.limits[0].at_most);
  std::vector<double> best(budget + 1, 0), next;
  for (size_t l = 0; l < space.layers.size(); ++l) {
    next.assign(budget + 1, kInfinity);
    const auto pairs = space.candidates(l);
    for (size_t c = 0; c < pairs.size(); ++c) {
      const auto cost = static_cast<size_t>(space.cost(space.limits[0].kind, l, pairs[c]));
      for (size_t b = cost; b <= budget; ++b)
        next[b] = std::min(next[b], best[b - cost] + instance.damage[l][c]);
    }
    best.swap(next);
  }
  return best[budget];
}

TEST(Knapsack, EqualsDynamicProgrammingOnLargeInstances) {
  for (uint64_t seed = 0; seed < 4; ++seed) {
    Instance instance = large_instance(seed, 20, 5);
    limit_between(instance.space, CostKind::kBitOps, 0.1 + 0.1 * static_cast<double>(seed));
    const Solution solution = solve(instance.space, instance.damage);
    EXPECT_TRUE(solution.feasible);
    EXPECT_EQ(solution.gap, 0);
    const double optimum = optimum_by_whole_costs(instance);
    EXPECT_NEAR(solution.damage, optimum, 1e-12 * optimum);
  }
}

TEST(Knapsack, ProvesItsOptimumOnLargeNetworks) {
  const std::vector<std::vector<CostKind>> limits = {
      {CostKind::kWeightBits},
      {CostKind::kBitOps},
      {CostKind::kSizeBytes, CostKind::kBitOps},
      {CostKind::kWeightBits, CostKind::kSizeBytes, CostKind::kBitOps}};
  for (const auto& kinds : limits) {
    double slowest = 0;
    for (uint64_t seed = 0; seed < 3; ++seed) {
      Instance instance = large_instance(seed, 2000000, 100000000);
      for (CostKind kind : kinds)
        limit_between(instance.space, kind, kind == CostKind::kBitOps ? 0.15 : 0.35);
      const auto start = std::chrono::steady_clock::now();
      const Solution solution = solve(instance.space, instance.damage);
      slowest =
          std::max(slowest, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
      EXPECT_TRUE(solution.feasible);
      EXPECT_EQ(solution.gap, 0);
    }
    RecordProperty("seconds_with_" + std::to_string(kinds.size()) + "_limits_" +
                       std::to_string(static_cast<int>(kinds[0])),
                   std::to_string(slowest));
  }
}

TEST(Knapsack, RefusesWhatDoesNotFit) {
  HawqResNet18 net;
  const auto expect_refused = [&](const Space& space, const DamageTable& damage, const char* part) {
    try {
      solve(space, damage);
      ADD_FAILURE() << "accepted, expected: " << part;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_THAT(error.what(), HasSubstr(part));
    }
  };
  DamageTable damage = net.damage;
  damage.pop_back();
  expect_refused(net.space, damage, "damages of 18 layers");
  damage = net.damage;
  damage[3].push_back(0);
  expect_refused(net.space, damage, "found 3 damages");
  damage = net.damage;
  damage[3][0] = std::nan("");
  expect_refused(net.space, damage, "found damage nan");
  for (const auto& tie : {std::vector<int>{0, 19}, {-1, 0}, {4, 5}, {0, 0}}) {
    Space space = net.space;
    space.ties.push_back(tie);
    expect_refused(space, net.damage, "tie group");
  }
  Space space = net.space;
  space.layers[6].weight_bits = space.layers[6].activation_bits = {7, 3};
  expect_refused(space, net.damage, "no candidate in common");
}

}  // namespace
}  // namespace bitstrata::search
