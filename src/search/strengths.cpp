#include "search/strengths.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/random.h"

namespace bitstrata::search {
namespace {

size_t index_of(const std::vector<int>& widths, int width) {
  const auto found = std::find(widths.begin(), widths.end(), width);
  if (found == widths.end())
    fail(ErrorCode::kInternal, "search space: candidate of {} bits is in no layer's list", width);
  return static_cast<size_t>(found - widths.begin());
}

std::vector<BitPair> as_pairs(const std::vector<int>& widths) {
  std::vector<BitPair> pairs;
  for (const int width : widths) pairs.push_back({width, width});
  return pairs;
}

}  // namespace

std::vector<double> softmax(std::span<const double> strengths, double temperature) {
  std::vector<double> shares(strengths.size());
  const double largest = *std::max_element(strengths.begin(), strengths.end());
  double sum = 0;
  for (size_t i = 0; i < strengths.size(); ++i)
    sum += shares[i] = std::exp((strengths[i] - largest) / temperature);
  for (double& share : shares) share /= sum;
  return shares;
}

std::vector<double> softmax_backward(std::span<const double> shares, std::span<const double> by_share,
                                     double temperature) {
  double mean = 0;
  for (size_t i = 0; i < shares.size(); ++i) mean += shares[i] * by_share[i];
  std::vector<double> by_strength(shares.size());
  for (size_t i = 0; i < shares.size(); ++i) by_strength[i] = shares[i] * (by_share[i] - mean) / temperature;
  return by_strength;
}

StrengthRows gumbel_noise(const StrengthRows& like, uint64_t seed, uint64_t stream) {
  Random random(seed, stream);
  StrengthRows noise = like;
  for (auto& row : noise) {
    for (double& value : row) value = -std::log(-std::log(random.uniform() + 0x1.0p-54));  // never log(0)
  }
  return noise;
}

StrengthLayout::StrengthLayout(const Space& space) : space_(&space), groups_(make_groups(space)) {
  for (const Group& group : groups_) {
    if (space.tied) {
      add_row(group, group.candidates, true, true);
    } else {
      add_row(group, as_pairs(weight_widths(group.candidates)), true, false);
      add_row(group, as_pairs(activation_widths(group.candidates)), false, true);
    }
  }
}

void StrengthLayout::add_row(const Group& group, std::span<const BitPair> options, bool weights,
                             bool activations) {
  Row row{options.size(), {}};
  for (const size_t layer : group.layers) {
    Use weight{layer, false, {}}, activation{layer, true, {}};
    for (const BitPair option : options) {
      if (weights) weight.index.push_back(index_of(space_->layers[layer].weight_bits, option.weight));
      if (activations)
        activation.index.push_back(index_of(space_->layers[layer].activation_bits, option.activation));
    }
    if (weights) row.uses.push_back(std::move(weight));
    if (activations) row.uses.push_back(std::move(activation));
  }
  rows_.push_back(std::move(row));
}

StrengthRows StrengthLayout::zeros() const {
  StrengthRows rows;
  for (const Row& row : rows_) rows.emplace_back(row.options, 0.0);
  return rows;
}

Mixture zero_mixture(const Space& space) {
  Mixture mixture;
  for (const Layer& layer : space.layers) {
    mixture.weight.emplace_back(layer.weight_bits.size(), 0.0);
    mixture.activation.emplace_back(layer.activation_bits.size(), 0.0);
  }
  return mixture;
}

Mixture StrengthLayout::mixture(const StrengthRows& shares) const {
  Mixture mixture = zero_mixture(*space_);
  for (size_t r = 0; r < rows_.size(); ++r) {
    for (const Use& use : rows_[r].uses) {
      std::vector<double>& target = (use.is_activation ? mixture.activation : mixture.weight)[use.layer];
      for (size_t i = 0; i < use.index.size(); ++i) target[use.index[i]] += shares[r][i];
    }
  }
  return mixture;
}

StrengthRows StrengthLayout::gather(const Mixture& by_share) const {
  StrengthRows rows = zeros();
  for (size_t r = 0; r < rows_.size(); ++r) {
    for (const Use& use : rows_[r].uses) {
      const std::vector<double>& source =
          (use.is_activation ? by_share.activation : by_share.weight)[use.layer];
      for (size_t i = 0; i < use.index.size(); ++i) rows[r][i] += source[use.index[i]];
    }
  }
  return rows;
}

double expected_cost(const Space& space, CostKind kind, const Mixture& mixture, double scale,
                     Mixture* by_share) {
  double total = kind == CostKind::kLatencyMs ? space.fixed_latency_ms : 0;
  for (size_t l = 0; l < space.layers.size(); ++l) {
    const Layer& layer = space.layers[l];
    const std::vector<double>&p = mixture.weight[l], &q = mixture.activation[l];
    const bool one_choice = space.tied && layer.activation_bits.size() != 1;
    for (size_t i = 0; i < p.size(); ++i) {
      for (size_t j = 0; j < (one_choice ? 1 : q.size()); ++j) {
        const double share = one_choice ? 1 : q[j];
        const double cost = space.cost(
            kind, l, {layer.weight_bits[i], one_choice ? layer.weight_bits[i] : layer.activation_bits[j]});
        total += p[i] * share * cost;
        if (by_share == nullptr) continue;
        by_share->weight[l][i] += scale * share * cost;
        if (!one_choice) by_share->activation[l][j] += scale * p[i] * cost;
      }
    }
  }
  return total;
}

void Adam::step(StrengthRows& values, const StrengthRows& gradient, double rate, double beta1, double beta2) {
  ++steps;
  const double correction1 = 1 - std::pow(beta1, static_cast<double>(steps)),
               correction2 = 1 - std::pow(beta2, static_cast<double>(steps));
  for (size_t r = 0; r < values.size(); ++r) {
    for (size_t i = 0; i < values[r].size(); ++i) {
      first[r][i] = beta1 * first[r][i] + (1 - beta1) * gradient[r][i];
      second[r][i] = beta2 * second[r][i] + (1 - beta2) * gradient[r][i] * gradient[r][i];
      values[r][i] -= rate * (first[r][i] / correction1) / (std::sqrt(second[r][i] / correction2) + 1e-8);
    }
  }
}

}  // namespace bitstrata::search
