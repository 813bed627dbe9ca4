#include "search/baselines.h"

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <set>
#include <tuple>

#include "core/error.h"
#include "core/random.h"
#include "search/state_json.h"

namespace bitstrata::search {
namespace {

/// Part of a limit that a random plan should use.
constexpr double kEnough = 0.97;

using Choice = std::vector<BitPair>;  ///< per group

Assignment assignment_of(const Space& space, const std::vector<Group>& groups, const Choice& choice) {
  Assignment result(space.layers.size());
  for (size_t g = 0; g < groups.size(); ++g) {
    for (size_t layer : groups[g].layers) result[layer] = choice[g];
  }
  return result;
}

BitPair nearest(const Group& group, int width) {
  const auto distance = [&](const BitPair& pair) {
    return std::tuple(std::abs(pair.weight - width), std::abs(pair.activation - width), pair);
  };
  return *std::min_element(group.candidates.begin(), group.candidates.end(),
                           [&](const BitPair& a, const BitPair& b) { return distance(a) < distance(b); });
}

bool below(const BitPair& a, const BitPair& b) {
  return a != b && a.weight <= b.weight && a.activation <= b.activation;
}

struct Move {
  size_t group;
  BitPair to;
};

/// All moves of one group to the next lower, or next higher, bits: no candidate lies between.
std::vector<Move> moves(const std::vector<Group>& groups, const Choice& choice, bool down) {
  const auto past = [&](const BitPair& a, const BitPair& b) { return down ? below(a, b) : below(b, a); };
  std::vector<Move> result;
  for (size_t g = 0; g < groups.size(); ++g) {
    for (const BitPair& to : groups[g].candidates) {
      const auto between = [&](const BitPair& other) { return past(other, choice[g]) && past(to, other); };
      const auto& all = groups[g].candidates;
      if (past(to, choice[g]) && std::none_of(all.begin(), all.end(), between)) result.push_back({g, to});
    }
  }
  return result;
}

}  // namespace

UniformSearch::UniformSearch(const Space& space, Evaluator& evaluator)
    : space_(&space), evaluator_(&evaluator) {
  const std::vector<Group> groups = make_groups(space);
  std::set<int, std::greater<>> widths;
  for (const Group& group : groups) {
    for (const BitPair& pair : group.candidates) widths.insert(pair.weight);
  }
  widths_.assign(widths.begin(), widths.end());
  for (int width : widths_) {
    Choice choice;
    for (const Group& group : groups) choice.push_back(nearest(group, width));
    plans_.push_back(assignment_of(space, groups, choice));
  }
  while (first_ + 1 < plans_.size() && !space.feasible(plans_[first_])) ++first_;
  next_ = first_;
}

void UniformSearch::step(Archive& archive) {
  if (finished_) return;
  const Assignment& plan = plans_[next_];
  const Score score = evaluator_->evaluate(plan);
  archive.add({plan, score, fmt::format("{} bits everywhere", widths_[next_])});
  const bool goes_on =
      space_->max_drop && score.accuracy >= evaluator_->float_score().accuracy - *space_->max_drop;
  finished_ = ++next_ == plans_.size() || !goes_on;
}

Method::Status UniformSearch::status() const {
  const auto done = static_cast<int64_t>(next_ - first_);
  if (finished_) return {done, done, "finished"};
  return {done, space_->max_drop ? static_cast<int64_t>(plans_.size() - first_) : 1,
          fmt::format("{} bits everywhere", widths_[next_])};
}

std::string UniformSearch::save() const {
  return Json{{"method", name()}, {"next", next_}, {"finished", finished_}}.dump();
}

void UniformSearch::restore(const std::string& state) {
  const Json json = parse_state(state, name());
  const int64_t next =
      read_integer(json, "next", static_cast<int64_t>(first_), static_cast<int64_t>(plans_.size()));
  const bool finished = read_flag(json, "finished");
  if (!finished && next == static_cast<int64_t>(plans_.size())) {
    fail(ErrorCode::kCorruptFile,
         "search state of uniform: goes on past its last plan; start the search anew");
  }
  next_ = static_cast<size_t>(next);
  finished_ = finished;
}

RandomSearch::RandomSearch(const Space& space, Evaluator& evaluator, const RandomOptions& options)
    : space_(&space), evaluator_(&evaluator), options_(options), groups_(make_groups(space)) {
  if (options.draws < 1)
    fail(ErrorCode::kInvalidArgument, "search random: found {} draws, expected 1 at least", options.draws);
}

Assignment RandomSearch::draw(int64_t n) const {
  Random random(options_.seed, mix64(0x72616e646f6d) ^ static_cast<uint64_t>(n));
  Choice choice;
  for (const Group& group : groups_)
    choice.push_back(group.candidates[random.below(group.candidates.size())]);
  const auto plan = [&] { return assignment_of(*space_, groups_, choice); };
  const auto make = [&](const std::vector<Move>& open) {
    const Move& move = open[random.below(open.size())];
    choice[move.group] = move.to;
  };
  while (!space_->feasible(plan())) {
    const auto open = moves(groups_, choice, true);
    if (open.empty()) return plan();
    make(open);
  }
  const auto enough = [&] {
    return std::any_of(space_->limits.begin(), space_->limits.end(), [&](const Limit& limit) {
      return space_->cost(limit.kind, plan()) >= kEnough * limit.at_most;
    });
  };
  while (!space_->limits.empty() && !enough()) {
    auto open = moves(groups_, choice, false);
    std::erase_if(open, [&](const Move& move) {
      const BitPair from = choice[move.group];
      choice[move.group] = move.to;
      const bool breaks = !space_->feasible(plan());
      choice[move.group] = from;
      return breaks;
    });
    if (open.empty()) break;
    make(open);
  }
  return plan();
}

void RandomSearch::step(Archive& archive) {
  if (finished()) return;
  Found found{draw(done_), {}, fmt::format("draw {}", done_ + 1)};
  found.score = evaluator_->evaluate(found.assignment);
  archive.add(found);
  ++done_;
  if (options_.keep_draws) draws_.push_back(std::move(found));
}

Method::Status RandomSearch::status() const {
  return {done_, options_.draws, finished() ? "finished" : fmt::format("draw {}", done_ + 1)};
}

std::string RandomSearch::save() const {
  Json json{{"method", name()},
            {"done", done_},
            {"seed", options_.seed},
            {"accuracies", Json::array()},
            {"losses", Json::array()}};
  for (const Found& found : draws_) {
    json["accuracies"].push_back(found.score.accuracy);
    json["losses"].push_back(found.score.loss);
  }
  return json.dump();
}

void RandomSearch::restore(const std::string& state) {
  const Json json = parse_state(state, name());
  const int64_t done = read_integer(json, "done", 0, options_.draws);
  if (!json.contains("seed") || json["seed"] != options_.seed) {
    fail(ErrorCode::kCorruptFile,
         "search state of random: drawn with another seed than {}; start the search anew", options_.seed);
  }
  // The plans follow from the seed; their scores do not.
  const auto kept = options_.keep_draws ? static_cast<size_t>(done) : 0;
  const auto accuracies = read_numbers(json, "accuracies", kept), losses = read_numbers(json, "losses", kept);
  std::vector<Found> draws;
  for (size_t i = 0; i < kept; ++i) {
    draws.push_back(
        {draw(static_cast<int64_t>(i)), {accuracies[i], losses[i]}, fmt::format("draw {}", i + 1)});
  }
  done_ = done;
  draws_ = std::move(draws);
}

}  // namespace bitstrata::search
