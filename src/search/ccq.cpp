#include "search/ccq.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/random.h"
#include "search/hedge.h"
#include "search/schedule.h"
#include "search/state_json.h"

namespace bitstrata::search {
namespace {

void check_options(const CcqOptions& options) {
  const auto demand = [](bool holds, const char* what) {
    if (!holds) fail(ErrorCode::kInvalidArgument, "ccq: {}", what);
  };
  demand(std::isfinite(options.eta) && options.eta >= 0, "eta must be finite and not negative");
  demand(options.probe_rounds >= 1, "at least one probe round is needed");
  demand(options.drops >= 1, "at least one layer must move in a competition");
  demand(options.tolerance >= 0 && options.tolerance <= 1, "the tolerance must be in 0..1");
  demand(options.check_every >= 1, "check_every must be at least one mini-batch");
  demand(options.low_rate >= 0 && options.high_rate >= options.low_rate && std::isfinite(options.high_rate),
         "learning rates must be finite with 0 <= low_rate <= high_rate");
  demand(
      options.constant_part >= 0 && options.bump_part >= 0 && options.constant_part + options.bump_part <= 1,
      "the parts of the learning rate schedule must be in 0..1 together");
}

/// Moves are numbered by rungs; a limit needs its part of the way from the highest to the lowest plan, and
/// the cost is taken to fall evenly on it.
int64_t count_competitions(const Space& space, const std::vector<Group>& groups, const Assignment& highest,
                           const Assignment& lowest, int drops) {
  int64_t rungs = 0;
  for (const Group& group : groups) rungs += static_cast<int64_t>(group.ladder.size()) - 1;
  double part = space.limits.empty() ? 1 : 0;
  for (const Limit& limit : space.limits) {
    const double from = space.cost(limit.kind, highest), to = space.cost(limit.kind, lowest);
    if (from > limit.at_most) part = std::max(part, from > to ? (from - limit.at_most) / (from - to) : 1);
  }
  return std::max<int64_t>(
      1, static_cast<int64_t>(std::ceil(static_cast<double>(rungs) * std::min(1.0, part) / drops)));
}

}  // namespace

Ccq::Ccq(const Space& space, TrainableEvaluator& evaluator, const CcqOptions& options)
    : space_(&space), evaluator_(&evaluator), options_(options), groups_(make_groups(space)) {
  check_options(options);
  if (space.limits.empty() && !space.max_drop)
    fail(ErrorCode::kInvalidArgument, "ccq: no target; give one, such as size=10x or drop=0.5");
  recovery_steps_ = steps_of(options.recovery_epochs, evaluator.steps_per_epoch());
  final_steps_ = steps_of(options.final_epochs, evaluator.steps_per_epoch());
  std::vector<size_t> bottom;
  for (const Group& group : groups_) {
    state_.damage.emplace_back(group.ladder.size() - 1, 0.0);
    bottom.push_back(group.ladder.size() - 1);
  }
  state_.rungs.assign(groups_.size(), 0);
  state_.good_rungs = state_.rungs;
  state_.rewards.assign(groups_.size(), 0.0);
  state_.last_probe = state_.rewards;
  expected_ = count_competitions(space, groups_, assignment(state_.rungs), assignment(bottom), options.drops);
}

Assignment Ccq::assignment(const std::vector<size_t>& rungs) const {
  Assignment result(space_->layers.size());
  for (size_t g = 0; g < groups_.size(); ++g) {
    for (const size_t layer : groups_[g].layers) result[layer] = groups_[g].ladder[rungs[g]];
  }
  return result;
}

double Ccq::reward(const Score& score) const {
  const double value = options_.reward == CcqOptions::Reward::kAccuracy ? score.accuracy : -score.loss;
  if (!std::isfinite(value))
    fail(ErrorCode::kJobFailed,
         "ccq: a probe's score is not finite; the network has diverged: lower the learning rate");
  return value;
}

Score Ccq::measure() {
  const Score score = evaluator_->evaluate(plan());
  if (!std::isfinite(score.accuracy))
    fail(ErrorCode::kJobFailed,
         "ccq: the accuracy is not finite; the network has diverged: lower the learning rate");
  return score;
}

void Ccq::step(Archive& archive) {
  switch (state_.phase) {
    case Phase::kStart:
      return start(archive);
    case Phase::kProbe:
      return probe();
    case Phase::kRecover:
      return recover();
    case Phase::kCheck:
      return check(archive);
    case Phase::kFinished:
      return;
  }
}

void Ccq::start(Archive& archive) {
  if (space_->max_drop) state_.float_accuracy = evaluator_->float_score().accuracy;
  const Score score = measure();
  archive.add({plan(), score, "at most bits"});
  state_.before = score.accuracy;
  next_competition();
}

void Ccq::next_competition() {
  bool over = true;
  for (size_t g = 0; g < groups_.size(); ++g) over = over && !awake(g);
  if (!space_->limits.empty()) {
    over = over || space_->feasible(plan());
  } else if (state_.before >= state_.float_accuracy - *space_->max_drop) {
    state_.good_rungs = state_.rungs;
  } else {
    over = true;
  }
  if (over) return end_competitions();
  state_.phase = Phase::kProbe;
  state_.round = 0;
  std::fill(state_.rewards.begin(), state_.rewards.end(), 0.0);
}

void Ccq::probe() {
  const Assignment base_plan = plan();
  // The plan itself comes first, so that a group's reward is the sum of what its layers lose one by one.
  std::vector<Change> changes = {{0, base_plan[0]}};
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (!awake(g)) continue;
    for (const size_t layer : groups_[g].layers)
      changes.push_back({layer, groups_[g].ladder[state_.rungs[g] + 1]});
  }
  const std::vector<Score> scores = evaluator_->probe(base_plan, changes);
  if (scores.size() != changes.size())
    fail(ErrorCode::kInternal, "ccq: {} scores for {} probes", scores.size(), changes.size());

  const double base = reward(scores[0]);
  size_t next = 1;
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (!awake(g)) continue;
    double lost = 0;
    for (size_t i = 0; i < groups_[g].layers.size(); ++i) lost += base - reward(scores[next++]);
    state_.rewards[g] -= lost;
    state_.damage[g][state_.rungs[g]] = lost;
    state_.last_probe[g] = lost;
  }
  if (++state_.round >= options_.probe_rounds) move_layers();
}

CostKind Ccq::furthest_limit(const Assignment& at) const {
  CostKind kind = CostKind::kWeightBits;
  double furthest = 0;
  for (const Limit& limit : space_->limits) {
    const double over = space_->cost(limit.kind, at) / limit.at_most - 1;
    if (over > furthest) {
      furthest = over;
      kind = limit.kind;
    }
  }
  return kind;
}

void Ccq::move_layers() {
  std::vector<size_t> players;
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (awake(g)) players.push_back(g);
  }
  const double lambda = options_.mix_memory ? memory_weight(state_.competition, expected_) : 0;
  Random random(options_.seed, mix64(static_cast<uint64_t>(state_.competition)));
  for (int drop = 0; drop < options_.drops && !players.empty(); ++drop) {
    const Assignment now = plan();
    if (drop > 0 && !space_->limits.empty() && space_->feasible(now)) break;
    const CostKind kind = furthest_limit(now);
    std::vector<double> rewards, savings;
    for (const size_t g : players) {
      rewards.push_back(state_.rewards[g]);
      double saved = 0;
      for (const size_t layer : groups_[g].layers) {
        saved += space_->cost(kind, layer, now[layer]) -
                 space_->cost(kind, layer, groups_[g].ladder[state_.rungs[g] + 1]);
      }
      savings.push_back(saved);
    }
    std::vector<double> probabilities = hedge_probabilities(rewards, options_.eta);
    if (const std::vector<double> shares = saving_shares(savings); !shares.empty())
      probabilities = mix(probabilities, shares, lambda);
    const size_t drawn = draw(probabilities, random.uniform());
    ++state_.rungs[players[drawn]];
    players.erase(players.begin() + static_cast<std::ptrdiff_t>(drawn));
  }
  ++state_.competition;
  begin_recovery(false);
}

void Ccq::begin_recovery(bool is_final) {
  state_.is_final = is_final;
  state_.step = 0;
  state_.phase = (is_final ? final_steps_ : recovery_steps_) > 0 ? Phase::kRecover : Phase::kCheck;
}

void Ccq::recover() {
  const int64_t total = state_.is_final ? final_steps_ : recovery_steps_;
  const double rate = hybrid_rate(state_.step, total, options_.low_rate, options_.high_rate,
                                  options_.constant_part, options_.bump_part);
  const double loss = evaluator_->train_step(plan(), rate);
  if (!std::isfinite(loss)) {
    fail(ErrorCode::kJobFailed,
         "ccq: the training loss is not finite in recovery {}, mini-batch {}; lower the learning rate",
         state_.competition, state_.step);
  }
  ++state_.step;
  if (state_.step >= total || (!state_.is_final && state_.step % options_.check_every == 0))
    state_.phase = Phase::kCheck;
}

void Ccq::check(Archive& archive) {
  const Score score = measure();
  const int64_t total = state_.is_final ? final_steps_ : recovery_steps_;
  if (state_.step < total && score.accuracy < options_.tolerance * state_.before) {
    state_.phase = Phase::kRecover;
    return;
  }
  archive.add(
      {plan(), score,
       state_.is_final ? "after the last recovery" : fmt::format("after recovery {}", state_.competition)});
  state_.before = score.accuracy;
  if (state_.is_final) {
    state_.phase = Phase::kFinished;
  } else {
    next_competition();
  }
}

void Ccq::end_competitions() {
  const std::vector<size_t> reached = state_.rungs;
  if (space_->limits.empty())
    state_.rungs = state_.good_rungs;
  else if (options_.give_back)
    give_back();
  if (state_.competition == 0 || (final_steps_ == 0 && state_.rungs == reached)) {
    state_.phase = Phase::kFinished;
  } else {
    begin_recovery(true);
  }
}

void Ccq::give_back() {
  if (!space_->feasible(plan())) return;
  while (true) {
    size_t best = groups_.size();
    double worth = 0;
    for (size_t g = 0; g < groups_.size(); ++g) {
      if (state_.rungs[g] == 0) continue;
      std::vector<size_t> raised = state_.rungs;
      --raised[g];
      const double regained = state_.damage[g][raised[g]];
      if ((best == groups_.size() || regained > worth) && space_->feasible(assignment(raised))) {
        best = g;
        worth = regained;
      }
    }
    if (best == groups_.size()) return;
    --state_.rungs[best];
  }
}

Method::Status Ccq::status() const {
  Status status{state_.competition, std::max(expected_, state_.competition), ""};
  switch (state_.phase) {
    case Phase::kStart:
      status.text = "measuring the start";
      break;
    case Phase::kProbe:
      status.text = fmt::format("competition {}: probing", state_.competition + 1);
      break;
    case Phase::kRecover:
    case Phase::kCheck:
      status.text = fmt::format("{} {}: mini-batch {} of {} at most",
                                state_.is_final ? "last recovery after" : "recovery", state_.competition,
                                state_.step, state_.is_final ? final_steps_ : recovery_steps_);
      break;
    case Phase::kFinished:
      status.expected = status.done;
      status.text = "done";
  }
  return status;
}

std::vector<double> Ccq::sensitivity() const {
  if (state_.competition == 0) return {};
  std::vector<double> result(space_->layers.size());
  for (size_t g = 0; g < groups_.size(); ++g) {
    for (const size_t layer : groups_[g].layers) result[layer] = state_.last_probe[g];
  }
  return result;
}

std::string Ccq::save() const {
  return Json{{"method", name()},
              {"phase", static_cast<int>(state_.phase)},
              {"competition", state_.competition},
              {"round", state_.round},
              {"step", state_.step},
              {"is_final", state_.is_final},
              {"float_accuracy", state_.float_accuracy},
              {"before", state_.before},
              {"rungs", state_.rungs},
              {"good_rungs", state_.good_rungs},
              {"rewards", state_.rewards},
              {"last_probe", state_.last_probe},
              {"damage", state_.damage}}
      .dump();
}

void Ccq::restore(const std::string& text) {
  const Json json = parse_state(text, name());
  std::vector<size_t> lengths;
  for (const Group& group : groups_) lengths.push_back(group.ladder.size());
  State state;
  state.phase = static_cast<Phase>(read_integer(json, "phase", 0, static_cast<int>(Phase::kFinished)));
  state.competition = read_integer(json, "competition", 0, INT64_MAX - 1);
  state.round = read_integer(json, "round", 0, options_.probe_rounds);
  state.is_final = read_flag(json, "is_final");
  state.step = read_integer(json, "step", 0, state.is_final ? final_steps_ : recovery_steps_);
  state.float_accuracy = read_number(json, "float_accuracy");
  state.before = read_number(json, "before");
  state.rungs = read_indices(json, "rungs", lengths);
  state.good_rungs = read_indices(json, "good_rungs", lengths);
  state.rewards = read_numbers(json, "rewards", groups_.size());
  state.last_probe = read_numbers(json, "last_probe", groups_.size());
  state.damage = read_rows(json, "damage", state_.damage);
  state_ = std::move(state);
}

}  // namespace bitstrata::search
