#include "search/ebs.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"
#include "core/random.h"
#include "search/knapsack.h"
#include "search/schedule.h"
#include "search/state_json.h"

namespace bitstrata::search {
namespace {

void check_options(const EbsOptions& options) {
  const auto demand = [](bool holds, const char* what) {
    if (!holds) fail(ErrorCode::kInvalidArgument, "ebs: {}", what);
  };
  const auto positive = [](double value) { return std::isfinite(value) && value > 0; };
  demand(positive(options.weights_rate) && positive(options.strengths_rate),
         "learning rates must be finite and positive");
  demand(options.strength_every >= 1, "strength_every must be at least 1");
  demand(options.beta1 >= 0 && options.beta1 < 1 && options.beta2 >= 0 && options.beta2 < 1,
         "beta1 and beta2 must be in [0, 1)");
  demand(std::isfinite(options.noise) && options.noise >= 0, "the noise must be finite and not negative");
  demand(positive(options.first_temperature) && positive(options.last_temperature),
         "temperatures must be finite and positive");
  demand(positive(options.first_cost_weight) && positive(options.last_cost_weight),
         "cost weights must be finite and positive");
  demand(std::isfinite(options.penalty) && options.penalty >= 0,
         "the penalty must be finite and not negative");
}

StrengthRows normal_noise(const StrengthRows& like, double deviation, uint64_t seed) {
  Random random(seed, mix64(~uint64_t{0}));
  StrengthRows rows = like;
  for (auto& row : rows) {
    for (double& value : row) {
      const double radius = std::sqrt(-2 * std::log(random.uniform() + 0x1.0p-54));
      value = deviation * radius * std::cos(2 * std::numbers::pi * random.uniform());
    }
  }
  return rows;
}

bool same_shape(const std::vector<std::vector<double>>& a, const std::vector<std::vector<double>>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const auto& x, const auto& y) { return x.size() == y.size(); });
}

bool all_finite(const std::vector<std::vector<double>>& rows) {
  return std::all_of(rows.begin(), rows.end(), [](const auto& row) {
    return std::all_of(row.begin(), row.end(), [](double value) { return std::isfinite(value); });
  });
}

double share_of(const std::vector<int>& widths, const std::vector<double>& shares, int width) {
  return shares[static_cast<size_t>(std::find(widths.begin(), widths.end(), width) - widths.begin())];
}

/// Expected bits missing at `width`: sum of p_i max(0, b_i - width).
double shortfall(const std::vector<int>& widths, const std::vector<double>& shares, int width) {
  double missing = 0;
  for (size_t i = 0; i < widths.size(); ++i) missing += shares[i] * std::max(0, widths[i] - width);
  return missing;
}

}  // namespace

Ebs::Ebs(const Space& space, MixtureEvaluator& evaluator, const EbsOptions& options)
    : space_(&space), evaluator_(&evaluator), options_(options), layout_(space) {
  check_options(options);
  steps_per_epoch_ = evaluator.steps_per_epoch();
  total_steps_ = steps_of(options.epochs, steps_per_epoch_);
  const StrengthRows zeros = layout_.zeros();
  state_.strengths = options.noise > 0 ? normal_noise(zeros, options.noise, options.seed) : zeros;
  state_.adam = {zeros, zeros, 0};
  if (total_steps_ == 0) state_.phase = Phase::kMeasure;
}

void Ebs::step(Archive& archive) {
  switch (state_.phase) {
    case Phase::kWeights:
      return train_weights();
    case Phase::kStrengths:
      return train_strengths();
    case Phase::kMeasure:
      return measure(archive);
    case Phase::kFinished:
      return;
  }
}

Ebs::Sample Ebs::sample(int64_t step, bool of_strengths) const {
  Sample sample{state_.strengths, 1};
  if (options_.gumbel) {
    sample.temperature = geometric(step, total_steps_, options_.first_temperature, options_.last_temperature);
    const StrengthRows noise = gumbel_noise(sample.shares, options_.seed,
                                            mix64(2 * static_cast<uint64_t>(step) + (of_strengths ? 1 : 0)));
    for (size_t r = 0; r < noise.size(); ++r) {
      for (size_t i = 0; i < noise[r].size(); ++i) sample.shares[r][i] += noise[r][i];
    }
  }
  for (auto& row : sample.shares) row = softmax(row, sample.temperature);
  return sample;
}

Mixture Ebs::mixture() const {
  StrengthRows shares = state_.strengths;
  for (auto& row : shares) row = softmax(row, 1);
  return layout_.mixture(shares);
}

void Ebs::train_weights() {
  const double rate = cosine_rate(state_.step, total_steps_, options_.weights_rate);
  const double loss = evaluator_->train_weights(layout_.mixture(sample(state_.step, false).shares), rate);
  if (!std::isfinite(loss))
    fail(ErrorCode::kJobFailed,
         "ebs: the training loss is not finite at mini-batch {}; lower the learning rate", state_.step);
  ++state_.step;
  const bool epoch_over = state_.step % steps_per_epoch_ == 0 || state_.step >= total_steps_;
  if (state_.step % options_.strength_every == 0)
    state_.phase = Phase::kStrengths;
  else if (epoch_over)
    state_.phase = Phase::kMeasure;
}

Mixture Ebs::cost_gradient(const Mixture& shares) const {
  Mixture by_share = zero_mixture(*space_);
  const double weight =
      geometric(state_.step - 1, total_steps_, options_.first_cost_weight, options_.last_cost_weight);
  for (const Limit& limit : space_->limits) {
    const double over = expected_cost(*space_, limit.kind, shares) / limit.at_most - 1;
    if (over <= 0 && !options_.two_sided) continue;
    expected_cost(*space_, limit.kind, shares, (over > 0 ? weight : -weight) / limit.at_most, &by_share);
  }
  if (space_->limits.empty()) {
    const double most = space_->cost(CostKind::kBitOps, space_->highest());
    if (most > 0) expected_cost(*space_, CostKind::kBitOps, shares, options_.penalty / most, &by_share);
  }
  return by_share;
}

void Ebs::train_strengths() {
  const Sample drawn = sample(state_.step - 1, true);
  const Mixture mixed = layout_.mixture(drawn.shares);
  const MixtureGradient gradient = evaluator_->share_gradient(mixed);
  if (!same_shape(gradient.by_share.weight, mixed.weight) ||
      !same_shape(gradient.by_share.activation, mixed.activation)) {
    fail(ErrorCode::kInternal, "ebs: the derivatives do not have the mixture's shape");
  }
  if (!all_finite(gradient.by_share.weight) || !all_finite(gradient.by_share.activation)) {
    fail(ErrorCode::kJobFailed,
         "ebs: the derivatives by the shares are not finite at mini-batch {}; lower the learning rate",
         state_.step);
  }
  // The cost has no need of noise: its shares are those without.
  StrengthRows plain = state_.strengths;
  for (auto& row : plain) row = softmax(row, 1);
  const StrengthRows by_drawn = layout_.gather(gradient.by_share),
                     by_plain = layout_.gather(cost_gradient(layout_.mixture(plain)));
  StrengthRows by_strength;
  for (size_t r = 0; r < plain.size(); ++r) {
    std::vector<double> row = softmax_backward(drawn.shares[r], by_drawn[r], drawn.temperature);
    const std::vector<double> cost = softmax_backward(plain[r], by_plain[r], 1);
    for (size_t i = 0; i < row.size(); ++i) row[i] += cost[i];
    by_strength.push_back(std::move(row));
  }
  state_.adam.step(state_.strengths, by_strength, options_.strengths_rate, options_.beta1, options_.beta2);
  const bool epoch_over = state_.step % steps_per_epoch_ == 0 || state_.step >= total_steps_;
  state_.phase = epoch_over ? Phase::kMeasure : Phase::kWeights;
}

void Ebs::measure(Archive& archive) {
  const Assignment plan = choice();
  const Score score = evaluator_->evaluate(plan);
  if (!std::isfinite(score.accuracy))
    fail(ErrorCode::kJobFailed,
         "ebs: the accuracy is not finite; the network has diverged: lower the learning rate");
  archive.add({plan, score, fmt::format("strongest after mini-batch {}", state_.step)});
  state_.phase = state_.step >= total_steps_ ? Phase::kFinished : Phase::kWeights;
}

Assignment Ebs::choice() const {
  const Mixture shares = mixture();
  Assignment plan(space_->layers.size());
  for (const Group& group : layout_.groups()) {
    const size_t first = group.layers.front();
    const auto likelihood = [&](BitPair pair) {
      const double weight = share_of(space_->layers[first].weight_bits, shares.weight[first], pair.weight);
      return space_->tied ? weight
                          : weight * share_of(space_->layers[first].activation_bits, shares.activation[first],
                                              pair.activation);
    };
    BitPair strongest = group.candidates.front();
    for (const BitPair pair : group.candidates) {
      if (likelihood(pair) > likelihood(strongest)) strongest = pair;
    }
    for (const size_t member : group.layers) plan[member] = strongest;
  }
  return space_->limits.empty() ? plan : within_limits(std::move(plan), shares);
}

Assignment Ebs::within_limits(Assignment plan, const Mixture& shares) const {
  // A group makes one choice, so its members bear equal parts of its damage; so do weights and input in a
  // tied space.
  const auto table = [&](auto&& damage) {
    DamageTable result(space_->layers.size());
    for (const Group& group : layout_.groups()) {
      for (const size_t l : group.layers) {
        const Layer& layer = space_->layers[l];
        for (const BitPair pair : space_->candidates(l)) {
          double sum = damage(layer.weight_bits, shares.weight[l], pair.weight);
          if (!space_->tied) sum += damage(layer.activation_bits, shares.activation[l], pair.activation);
          result[l].push_back(sum / static_cast<double>(group.layers.size()));
        }
      }
    }
    return result;
  };
  if (!space_->feasible(plan)) {
    const Solution likely = solve(*space_, table([](const auto& widths, const auto& row, int width) {
      return -std::log(std::max(1e-300, share_of(widths, row, width)));
    }));
    if (!likely.feasible) return likely.assignment;
    plan = likely.assignment;
  }
  // The strongest plan is the likeliest already, so the likelihood says nothing on how to use slack. The
  // expected bits that a layer still misses do: they fall with every bit, fastest where the strengths lean to
  // more. Nothing may go below the plan.
  DamageTable missing =
      table([](const auto& widths, const auto& row, int width) { return shortfall(widths, row, width); });
  double forbidden = 1;
  for (const auto& row : missing) forbidden += *std::max_element(row.begin(), row.end());
  for (size_t l = 0; l < missing.size(); ++l) {
    const std::vector<BitPair> candidates = space_->candidates(l);
    for (size_t i = 0; i < candidates.size(); ++i) {
      if (candidates[i].weight < plan[l].weight || candidates[i].activation < plan[l].activation)
        missing[l][i] = forbidden;
    }
  }
  return solve(*space_, missing).assignment;
}

Method::Status Ebs::status() const {
  std::string text = "done";
  if (state_.phase == Phase::kMeasure)
    text = "measuring the strongest candidates";
  else if (state_.phase != Phase::kFinished)
    text = fmt::format("epoch {}", state_.step / steps_per_epoch_ + 1);
  return {state_.step, total_steps_, std::move(text)};
}

std::vector<double> Ebs::sensitivity() const {
  const Mixture shares = mixture();
  std::vector<double> bits(space_->layers.size(), 0.0);
  for (size_t l = 0; l < bits.size(); ++l) {
    for (size_t i = 0; i < shares.weight[l].size(); ++i)
      bits[l] += shares.weight[l][i] * space_->layers[l].weight_bits[i];
  }
  return bits;
}

std::string Ebs::save() const {
  return Json{{"method", name()},
              {"phase", static_cast<int>(state_.phase)},
              {"step", state_.step},
              {"strengths", state_.strengths},
              {"first_moments", state_.adam.first},
              {"second_moments", state_.adam.second},
              {"strengths_steps", state_.adam.steps}}
      .dump();
}

void Ebs::restore(const std::string& text) {
  const Json json = parse_state(text, name());
  State state;
  state.phase = static_cast<Phase>(read_integer(json, "phase", 0, static_cast<int>(Phase::kFinished)));
  state.step = read_integer(json, "step", 0, total_steps_);
  state.strengths = read_rows(json, "strengths", state_.strengths);
  state.adam.first = read_rows(json, "first_moments", state_.strengths);
  state.adam.second = read_rows(json, "second_moments", state_.strengths);
  state.adam.steps = read_integer(json, "strengths_steps", 0, total_steps_);
  state_ = std::move(state);
}

}  // namespace bitstrata::search
