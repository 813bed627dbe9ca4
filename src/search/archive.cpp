#include "search/archive.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "core/error.h"
#include "search/state_json.h"

namespace bitstrata::search {
namespace {

constexpr const char* kName = "archive";

std::vector<double> costs_of(const Space& space, const Assignment& assignment) {
  std::vector<double> costs;
  for (CostKind kind : kAllCosts) {
    if (kind != CostKind::kLatencyMs || space.has_latency()) costs.push_back(space.cost(kind, assignment));
  }
  return costs;
}

/// At least as good in accuracy and every cost.
bool covers(const Space& space, const Found& a, const Found& b) {
  if (a.score.accuracy < b.score.accuracy) return false;
  const auto of_a = costs_of(space, a.assignment), of_b = costs_of(space, b.assignment);
  return std::equal(of_a.begin(), of_a.end(), of_b.begin(), std::less_equal<>());
}

bool fits(const Space& space, const Assignment& assignment) {
  if (assignment.size() != space.layers.size()) return false;
  for (size_t l = 0; l < assignment.size(); ++l) {
    const auto pairs = space.candidates(l);
    if (std::find(pairs.begin(), pairs.end(), assignment[l]) == pairs.end()) return false;
  }
  return true;
}

bool is_accuracy(double value) {
  return value >= 0 && value <= 1;
}

Json to_json(const Found& found) {
  Json bits = Json::array();
  for (const BitPair& pair : found.assignment) bits.push_back({pair.weight, pair.activation});
  // A loss that is not finite becomes null.
  return {{"bits", std::move(bits)},
          {"accuracy", found.score.accuracy},
          {"loss", found.score.loss},
          {"how", found.how}};
}

Found from_json(const Json& json, const Space& space) {
  const auto refuse = [] {
    fail(ErrorCode::kCorruptFile,
         "archive: a plan in it is damaged or of another space; start the search anew");
  };
  Found found;
  try {
    for (const Json& pair : json.at("bits"))
      found.assignment.push_back({pair.at(0).get<int>(), pair.at(1).get<int>()});
    found.score.accuracy = json.at("accuracy").get<double>();
    const Json& loss = json.at("loss");
    found.score.loss = loss.is_null() ? std::numeric_limits<double>::quiet_NaN() : loss.get<double>();
    found.how = json.at("how").get<std::string>();
  } catch (const Json::exception&) {
    refuse();
  }
  if (!fits(space, found.assignment) || !is_accuracy(found.score.accuracy)) refuse();
  return found;
}

}  // namespace

bool Archive::within_drop(const Score& score) const {
  return space_->max_drop && float_score_ && score.accuracy >= float_score_->accuracy - *space_->max_drop;
}

bool Archive::better(const Found& a, const Found& b) const {
  const double excess_a = space_->violation(a.assignment), excess_b = space_->violation(b.assignment);
  const bool feasible_a = space_->feasible(a.assignment), feasible_b = space_->feasible(b.assignment);
  if (feasible_a != feasible_b) return feasible_a;
  if (!feasible_a && excess_a != excess_b) return excess_a < excess_b;
  const auto costs = [&](const Found& f) {
    return std::pair(space_->cost(CostKind::kWeightBits, f.assignment),
                     space_->cost(CostKind::kBitOps, f.assignment));
  };
  const bool within_a = within_drop(a.score), within_b = within_drop(b.score);
  if (within_a != within_b) return within_a;
  if (within_a) return std::tuple(costs(a), -a.score.accuracy) < std::tuple(costs(b), -b.score.accuracy);
  return std::tuple(-a.score.accuracy, costs(a)) < std::tuple(-b.score.accuracy, costs(b));
}

bool Archive::add(Found found) {
  if (!fits(*space_, found.assignment))
    fail(ErrorCode::kInvalidArgument, "archive: the bits of a plan are no candidates of the space");
  if (!is_accuracy(found.score.accuracy)) {
    fail(ErrorCode::kBadInput,
         "archive: found a plan of accuracy {}, expected a number in [0, 1]; the training may have diverged",
         found.score.accuracy);
  }
  const auto covers_found = [&](const Found& other) { return covers(*space_, other, found); };
  if (std::none_of(pareto_.begin(), pareto_.end(), covers_found)) {
    std::erase_if(pareto_, [&](const Found& other) { return covers(*space_, found, other); });
    const auto less_accurate = [](const Found& a, const Found& b) {
      return a.score.accuracy > b.score.accuracy;
    };
    pareto_.insert(std::upper_bound(pareto_.begin(), pareto_.end(), found, less_accurate), found);
  }
  if (best_ && !better(found, *best_)) return false;
  best_ = std::move(found);
  return true;
}

bool Archive::met(const Score& float_score) const {
  if (!best_ || !space_->feasible(best_->assignment)) return false;
  return !space_->max_drop || best_->score.accuracy >= float_score.accuracy - *space_->max_drop;
}

std::string Archive::to_text() const {
  Json json;
  json["method"] = kName;
  json["layers"] = Json::array();
  for (const Layer& layer : space_->layers) json["layers"].push_back(layer.name);
  json["best"] = best_ ? to_json(*best_) : Json();
  json["pareto"] = Json::array();
  for (const Found& found : pareto_) json["pareto"].push_back(to_json(found));
  return json.dump(1, ' ', true, Json::error_handler_t::replace);
}

void Archive::from_text(const std::string& text) {
  const Json json = parse_state(text, kName);
  Archive read(*space_, float_score_);
  if (!json.contains("best") || !json.contains("pareto") || !json["pareto"].is_array()) {
    fail(ErrorCode::kCorruptFile, "archive: no best plan or no list of plans; start the search anew");
  }
  if (!json["best"].is_null()) read.best_ = from_json(json["best"], *space_);
  for (const Json& found : json["pareto"]) read.pareto_.push_back(from_json(found, *space_));
  // One text per content: whatever else stands in the text, or stands there in another way, shows here.
  if (read.to_text() != text)
    fail(ErrorCode::kCorruptFile,
         "archive: not as it was written, or of another space; start the search anew");
  *this = std::move(read);
}

}  // namespace bitstrata::search
