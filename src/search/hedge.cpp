#include "search/hedge.h"

#include <algorithm>
#include <cmath>

namespace bitstrata::search {

std::vector<double> hedge_probabilities(std::span<const double> rewards, double eta) {
  std::vector<double> probabilities(rewards.size());
  if (rewards.empty()) return probabilities;
  const double best = *std::max_element(rewards.begin(), rewards.end());
  double sum = 0;
  for (size_t i = 0; i < rewards.size(); ++i) sum += probabilities[i] = std::exp(eta * (rewards[i] - best));
  for (double& probability : probabilities) probability /= sum;
  return probabilities;
}

std::vector<double> mix(std::span<const double> first, std::span<const double> second, double lambda) {
  std::vector<double> mixed(first.size());
  for (size_t i = 0; i < mixed.size(); ++i) mixed[i] = (1 - lambda) * first[i] + lambda * second[i];
  return mixed;
}

std::vector<double> saving_shares(std::span<const double> savings) {
  double sum = 0;
  for (const double saving : savings) sum += std::max(0.0, saving);
  if (!(sum > 0)) return {};
  std::vector<double> shares;
  shares.reserve(savings.size());
  for (const double saving : savings) shares.push_back(std::max(0.0, saving) / sum);
  return shares;
}

double memory_weight(int64_t q, int64_t total) {
  if (q == 0 || q % 2 == 1) return 0;
  return std::max(0.0, 0.6 * static_cast<double>(total - q) / static_cast<double>(total) + 0.4);
}

size_t draw(std::span<const double> probabilities, double u) {
  double sum = 0;
  for (const double probability : probabilities) sum += probability;
  double left = u * sum;
  size_t last = 0;
  for (size_t i = 0; i < probabilities.size(); ++i) {
    if (probabilities[i] <= 0) continue;
    last = i;
    left -= probabilities[i];
    if (left < 0) return i;
  }
  return last;  // rounding left a little over
}

}  // namespace bitstrata::search
