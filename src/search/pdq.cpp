#include "search/pdq.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <set>

#include "core/error.h"
#include "search/schedule.h"
#include "search/state_json.h"

namespace bitstrata::search {
namespace {

void check_options(const PdqOptions& options, size_t groups) {
  const auto demand = [](bool holds, const char* what) {
    if (!holds) fail(ErrorCode::kInvalidArgument, "pdq: {}", what);
  };
  const auto positive = [](double value) { return std::isfinite(value) && value > 0; };
  const auto at_least_0 = [](double value) { return std::isfinite(value) && value >= 0; };
  demand(positive(options.learning_rate) && positive(options.dual_rate),
         "learning rates must be finite and positive");
  demand(positive(options.dual_every), "dual_every must be a positive number of epochs");
  demand(at_least_0(options.output_slack) && at_least_0(options.layer_slack),
         "slacks must be finite and not negative");
  demand(at_least_0(options.first_output_dual) && at_least_0(options.first_layer_dual),
         "first duals must be finite and not negative");
  if (options.keep < 0 || static_cast<size_t>(options.keep) > groups) {
    fail(ErrorCode::kInvalidArgument, "pdq: asked to keep {} layers, expected 0..{}", options.keep, groups);
  }
}

/// The first, that is the one of most activation bits, at this weight width.
BitPair candidate_at(const Group& group, int weight_bits, const Space& space) {
  for (const BitPair pair : group.candidates) {
    if (pair.weight == weight_bits) return pair;
  }
  fail(ErrorCode::kInvalidArgument, "pdq: {} bits are no candidate of layer '{}'; add them to --bits",
       weight_bits, printable(space.layers[group.layers.front()].name));
}

BitPair nearest(const std::vector<BitPair>& candidates, BitPair wanted) {
  return *std::min_element(candidates.begin(), candidates.end(), [&](BitPair a, BitPair b) {
    const auto distance = [&](BitPair pair) {
      return std::pair(std::abs(pair.weight - wanted.weight), std::abs(pair.activation - wanted.activation));
    };
    return distance(a) < distance(b);
  });
}

}  // namespace

Constraints updated_duals(const Constraints& duals, const Constraints& proximities, double rate,
                          double output_slack, double layer_slack) {
  Constraints next;
  next.output = std::max(0.0, duals.output + rate * (proximities.output - output_slack));
  for (size_t l = 0; l < duals.layers.size(); ++l) {
    next.layers.push_back(std::max(0.0, duals.layers[l] + rate * (proximities.layers[l] - layer_slack)));
  }
  return next;
}

std::vector<Assignment> uniform_assignments(const Space& space) {
  std::set<BitPair, std::greater<>> pairs;
  std::vector<std::vector<BitPair>> candidates;
  for (size_t l = 0; l < space.layers.size(); ++l) {
    candidates.push_back(space.candidates(l));
    pairs.insert(candidates.back().begin(), candidates.back().end());
  }
  std::vector<Assignment> assignments;
  std::vector<std::set<BitPair>> covered(candidates.size());
  for (const BitPair pair : pairs) {
    Assignment assignment;
    bool is_new = false;
    for (size_t l = 0; l < candidates.size(); ++l) {
      assignment.push_back(nearest(candidates[l], pair));
      is_new = covered[l].insert(assignment.back()).second || is_new;
    }
    if (is_new) assignments.push_back(std::move(assignment));
  }
  return assignments;
}

Pdq::Pdq(const Space& space, ConstrainedEvaluator& evaluator, const PdqOptions& options)
    : space_(&space), evaluator_(&evaluator), options_(options), groups_(make_groups(space)) {
  check_options(options, groups_.size());
  if (options.keep == 0 && space.limits.empty() && !space.max_drop) {
    fail(ErrorCode::kInvalidArgument,
         "pdq: no target; give one, such as size=10x or drop=0.5, or the number of layers to keep");
  }
  trained_.resize(space.layers.size());
  for (const Group& group : groups_) {
    const BitPair bits =
        options.train_bits == 0 ? group.candidates.back() : candidate_at(group, options.train_bits, space);
    for (const size_t layer : group.layers) trained_[layer] = bits;
    if (options.keep_bits != 0) candidate_at(group, options.keep_bits, space);
  }
  uniform_ = uniform_assignments(space);
  total_steps_ = steps_of(options.epochs, evaluator.steps_per_epoch());
  dual_steps_ = std::max<int64_t>(
      1, std::llround(std::min(options.dual_every, 1e6) * static_cast<double>(evaluator.steps_per_epoch())));
  const int64_t updates = std::max<int64_t>(1, total_steps_ / dual_steps_);
  dual_rate_ = options.dual_rate * (options.rescale_dual_rate ? 100.0 / static_cast<double>(updates) : 1.0);

  state_.enough = static_cast<int64_t>(groups_.size()) + 1;
  state_.duals.output = options.first_output_dual;
  state_.duals.layers.assign(space.layers.size(), options.first_layer_dual);
  for (size_t l = 0; l < space.layers.size(); ++l)
    state_.proximity.emplace_back(space.candidates(l).size(), 0.0);
  if (!options.known_duals.empty()) {
    if (options.known_duals.size() != space.layers.size())
      fail(ErrorCode::kInvalidArgument, "pdq: found {} duals, expected {}, one per layer",
           options.known_duals.size(), space.layers.size());
    state_.duals.layers = options.known_duals;
    state_.step = total_steps_;
  }
  if (state_.step >= total_steps_) state_.phase = Phase::kTrained;
}

void Pdq::step(Archive& archive) {
  switch (state_.phase) {
    case Phase::kPrimal:
      return primal();
    case Phase::kDual:
      return dual();
    case Phase::kTrained:
      return measure_trained(archive);
    case Phase::kProximities:
      return measure_proximities();
    case Phase::kSolve:
      if (options_.keep > 0) {
        evaluate(archive, kept(static_cast<size_t>(options_.keep)),
                 fmt::format("{} layers of {} duals kept", options_.keep,
                             options_.keep_largest ? "largest" : "smallest"));
      } else {
        evaluate(archive, solve(*space_, damage()).assignment, "solved from the duals");
      }
      state_.phase = Phase::kFinished;
      return;
    case Phase::kBisect:
      return bisect(archive);
    case Phase::kFinished:
      return;
  }
}

void Pdq::primal() {
  const double rate = stepped_rate(state_.step, total_steps_, options_.learning_rate);
  const double loss = evaluator_->lagrangian_step(trained_, state_.duals, rate);
  if (!std::isfinite(loss))
    fail(ErrorCode::kJobFailed,
         "pdq: the training loss is not finite at mini-batch {}; lower the learning rate", state_.step);
  ++state_.step;
  if (state_.step % dual_steps_ == 0)
    state_.phase = Phase::kDual;
  else if (state_.step >= total_steps_)
    state_.phase = Phase::kTrained;
}

Constraints Pdq::checked_proximities(const Assignment& plan) {
  Constraints proximities = evaluator_->proximities(plan);
  if (proximities.layers.size() != space_->layers.size()) {
    fail(ErrorCode::kInternal, "pdq: {} proximities for {} layers", proximities.layers.size(),
         space_->layers.size());
  }
  const bool finite =
      std::isfinite(proximities.output) && std::all_of(proximities.layers.begin(), proximities.layers.end(),
                                                       [](double value) { return std::isfinite(value); });
  if (!finite)
    fail(ErrorCode::kJobFailed,
         "pdq: a proximity is not finite; the network has diverged: lower the learning rate");
  return proximities;
}

void Pdq::dual() {
  state_.duals = updated_duals(state_.duals, checked_proximities(trained_), dual_rate_, options_.output_slack,
                               options_.layer_slack);
  state_.phase = Phase::kTrained;
}

/// After every dual update, so that there is a plan should the search end early. Not when layers are to be kept: then the answer is the final
/// ranking's plan, even where another is measured as better (the control keeps the least sensitive).
void Pdq::measure_trained(Archive& archive) {
  if (options_.keep == 0)
    evaluate(archive, trained_, fmt::format("as constrained, after mini-batch {}", state_.step));
  if (state_.step < total_steps_)
    state_.phase = Phase::kPrimal;
  else if (options_.keep > 0)
    state_.phase = Phase::kSolve;
  else
    state_.phase = space_->limits.empty() ? Phase::kBisect : Phase::kProximities;
}

void Pdq::measure_proximities() {
  const Assignment& plan = uniform_[static_cast<size_t>(state_.measured)];
  const Constraints proximities = checked_proximities(plan);
  for (size_t l = 0; l < plan.size(); ++l) {
    const std::vector<BitPair> candidates = space_->candidates(l);
    const auto at = std::find(candidates.begin(), candidates.end(), plan[l]) - candidates.begin();
    state_.proximity[l][static_cast<size_t>(at)] = proximities.layers[l];
  }
  if (++state_.measured == static_cast<int64_t>(uniform_.size())) state_.phase = Phase::kSolve;
}

DamageTable Pdq::damage() const {
  // A layer whose constraint never bound has dual 0, yet among such layers the closer one is still the
  // better: a floor far below the other duals orders them without weighing against those.
  const double largest = *std::max_element(state_.duals.layers.begin(), state_.duals.layers.end());
  const double floor = largest > 0 ? 1e-3 * largest : 1;
  DamageTable table(state_.proximity.size());
  for (size_t l = 0; l < table.size(); ++l) {
    const std::vector<BitPair> candidates = space_->candidates(l);
    for (const BitPair pair : candidates) {
      double proximity = 0;  // never less than with more bits
      for (size_t i = 0; i < candidates.size(); ++i) {
        if (candidates[i].weight >= pair.weight && candidates[i].activation >= pair.activation)
          proximity = std::max(proximity, state_.proximity[l][i]);
      }
      table[l].push_back(std::max(floor, state_.duals.layers[l]) * proximity);
    }
  }
  return table;
}

Score Pdq::evaluate(Archive& archive, const Assignment& plan, const std::string& how) {
  const Score score = evaluator_->evaluate(plan);
  if (!std::isfinite(score.accuracy))
    fail(ErrorCode::kJobFailed,
         "pdq: the accuracy is not finite; the network has diverged: lower the learning rate");
  archive.add({plan, score, how});
  return score;
}

Assignment Pdq::kept(size_t count) const {
  std::vector<double> rank(groups_.size(), 0.0);
  Assignment plan(space_->layers.size());
  for (size_t g = 0; g < groups_.size(); ++g) {
    for (const size_t layer : groups_[g].layers) {
      rank[g] = std::max(rank[g], state_.duals.layers[layer]);
      plan[layer] = groups_[g].candidates.back();
    }
  }
  std::vector<size_t> order(groups_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return options_.keep_largest ? rank[a] > rank[b] : rank[a] < rank[b];
  });
  for (size_t i = 0; i < count; ++i) {
    const Group& group = groups_[order[i]];
    const BitPair bits =
        options_.keep_bits == 0 ? group.candidates.front() : candidate_at(group, options_.keep_bits, *space_);
    for (const size_t layer : group.layers) plan[layer] = bits;
  }
  return plan;
}

void Pdq::bisect(Archive& archive) {
  const int64_t count = state_.too_few < 0 ? 0 : (state_.too_few + state_.enough) / 2;
  const Score score =
      evaluate(archive, kept(static_cast<size_t>(count)), fmt::format("{} layers kept", count));
  if (score.accuracy >= evaluator_->float_score().accuracy - *space_->max_drop)
    state_.enough = count;
  else
    state_.too_few = count;
  if (state_.enough - state_.too_few <= 1) state_.phase = Phase::kFinished;
}

Method::Status Pdq::status() const {
  std::string text;
  switch (state_.phase) {
    case Phase::kPrimal:
    case Phase::kDual:
    case Phase::kTrained:
      text = fmt::format("training under constraints, output dual {:.3g}", state_.duals.output);
      break;
    case Phase::kProximities:
      text = fmt::format("measuring proximities, {} of {}", state_.measured, uniform_.size());
      break;
    case Phase::kSolve:
      text = "choosing bits";
      break;
    case Phase::kBisect:
      text = fmt::format("keeping {} to {} layers", state_.too_few + 1,
                         std::min<int64_t>(state_.enough, static_cast<int64_t>(groups_.size())));
      break;
    case Phase::kFinished:
      text = "done";
  }
  return {state_.step, total_steps_, std::move(text)};
}

std::vector<double> Pdq::sensitivity() const {
  return state_.duals.layers;
}

std::string Pdq::save() const {
  return Json{{"method", name()},
              {"phase", static_cast<int>(state_.phase)},
              {"step", state_.step},
              {"measured", state_.measured},
              {"too_few", state_.too_few},
              {"enough", state_.enough},
              {"output_dual", state_.duals.output},
              {"layer_duals", state_.duals.layers},
              {"proximity", state_.proximity}}
      .dump();
}

void Pdq::restore(const std::string& text) {
  const Json json = parse_state(text, name());
  const auto groups = static_cast<int64_t>(groups_.size());
  State state;
  state.phase = static_cast<Phase>(read_integer(json, "phase", 0, static_cast<int>(Phase::kFinished)));
  state.step = read_integer(json, "step", 0, total_steps_);
  state.measured =
      read_integer(json, "measured", 0,
                   static_cast<int64_t>(uniform_.size()) - (state.phase == Phase::kProximities ? 1 : 0));
  state.enough = read_integer(json, "enough", 0, groups + 1);
  state.too_few = read_integer(json, "too_few", -1, groups);
  state.duals.output = read_number(json, "output_dual");
  state.duals.layers = read_numbers(json, "layer_duals", space_->layers.size());
  state.proximity = read_rows(json, "proximity", state_.proximity);
  state_ = std::move(state);
}

}  // namespace bitstrata::search
