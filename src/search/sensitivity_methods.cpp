#include "search/sensitivity_methods.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "core/error.h"
#include "search/state_json.h"

namespace bitstrata::search {
namespace {

/// Budgets between the plan of the limits alone and the lowest one that a bisection can tell apart.
constexpr int64_t kBudgets = 64;

/// The space whose inputs follow their weights.
Space tied_space(const Space& space) {
  Space result = space;
  result.tied = true;
  if (space.tied) return result;
  for (Layer& layer : result.layers) {
    if (layer.activation_bits.size() == 1) continue;
    const std::vector<int> before = layer.weight_bits;
    const auto is_common = [&](int bits) {
      return std::find(layer.activation_bits.begin(), layer.activation_bits.end(), bits) !=
             layer.activation_bits.end();
    };
    std::erase_if(layer.weight_bits, [&](int bits) { return !is_common(bits); });
    if (layer.weight_bits.empty()) {
      fail(ErrorCode::kInvalidArgument,
           "search: layer '{}' has no width that both its weights and its input may take",
           printable(layer.name));
    }
    if (layer.latency_ms.empty()) continue;
    std::vector<double> latency_ms;
    for (size_t w = 0; w < before.size(); ++w) {
      if (!is_common(before[w])) continue;
      const auto row = layer.latency_ms.begin() + static_cast<ptrdiff_t>(w * layer.activation_bits.size());
      latency_ms.insert(latency_ms.end(), row, row + static_cast<ptrdiff_t>(layer.activation_bits.size()));
    }
    layer.latency_ms = std::move(latency_ms);
  }
  return result;
}

/// Of noises that add up: their signal to noise ratio in dB.
double add_noise(double sqnr_a, double sqnr_b) {
  const double low = std::min(sqnr_a, sqnr_b), high = std::max(sqnr_a, sqnr_b);
  return low - 10 * std::log10(1 + std::pow(10, (low - high) / 10));
}

}  // namespace

TableSearch::TableSearch(const Space& space, SensitivityEvaluator& evaluator, Sensitivity kind)
    : space_(&space), evaluator_(&evaluator), kind_(kind) {
  groups_ = make_groups(space);
  if (kind != Sensitivity::kSqnr) table_space_ = tied_space(space);
  for (size_t layer = 0; layer < space.layers.size(); ++layer) {
    if (kind == Sensitivity::kSqnr) {
      const auto pairs = space.candidates(layer);
      for (size_t i = 1; i < pairs.size(); ++i) entries_.push_back({layer, pairs[i]});
      continue;
    }
    if (kind == Sensitivity::kHawq) entries_.push_back({layer, {0, 0}});
    for (int bits : table_space_.layers[layer].weight_bits) entries_.push_back({layer, {bits, 0}});
  }
  if (complete()) prepare();
}

const char* TableSearch::name() const noexcept {
  switch (kind_) {
    case Sensitivity::kHawq:
      return "hawq";
    case Sensitivity::kSqnr:
      return "sqnr";
    case Sensitivity::kEagl:
      return "eagl";
  }
  return "";
}

double TableSearch::measure(const Entry& entry) {
  switch (kind_) {
    case Sensitivity::kHawq:
      if (entry.bits.weight == 0) return evaluator_->hessian_trace(entry.layer);
      return evaluator_->weight_error(entry.layer, entry.bits.weight);
    case Sensitivity::kSqnr:
      return evaluator_->output_sqnr(entry.layer, entry.bits);
    case Sensitivity::kEagl:
      return evaluator_->code_entropy(entry.layer, entry.bits.weight);
  }
  return 0;
}

double TableSearch::value(size_t layer, BitPair bits) const {
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return entry.layer == layer && entry.bits == bits;
  });
  return values_.at(static_cast<size_t>(found - entries_.begin()));
}

void TableSearch::prepare() {
  kind_ == Sensitivity::kSqnr ? prepare_list() : prepare_table();
}

void TableSearch::prepare_table() {
  damage_.clear();
  for (size_t layer = 0; layer < table_space_.layers.size(); ++layer) {
    const std::vector<int>& widths = table_space_.layers[layer].weight_bits;
    damage_.emplace_back();
    for (const BitPair& bits : table_space_.candidates(layer)) {
      const double at_bits = value(layer, {bits.weight, 0});
      damage_.back().push_back(kind_ == Sensitivity::kHawq
                                   ? std::abs(value(layer, {0, 0})) * at_bits
                                   : std::max(0.0, value(layer, {widths.front(), 0}) - at_bits));
    }
  }
}

void TableSearch::prepare_list() {
  struct Item {
    size_t group;
    BitPair bits;
    double sqnr;
    double saved_bitops;
  };
  std::vector<Item> list;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const BitPair most = groups_[g].candidates.front();
    for (const BitPair& bits : groups_[g].candidates) {
      if (bits == most) continue;
      Item item{g, bits, 0, 0};
      for (size_t layer : groups_[g].layers) {
        const double sqnr = value(layer, bits);
        item.sqnr = layer == groups_[g].layers.front() ? sqnr : add_noise(item.sqnr, sqnr);
        item.saved_bitops +=
            space_->cost(CostKind::kBitOps, layer, most) - space_->cost(CostKind::kBitOps, layer, bits);
      }
      list.push_back(item);
    }
  }
  std::stable_sort(list.begin(), list.end(), [](const Item& a, const Item& b) {
    return std::tuple(a.sqnr, a.bits.weight + a.bits.activation, a.saved_bitops) >
           std::tuple(b.sqnr, b.bits.weight + b.bits.activation, b.saved_bitops);
  });
  std::vector<CostKind> kinds;
  for (const Limit& limit : space_->limits) kinds.push_back(limit.kind);
  if (kinds.empty()) kinds.push_back(CostKind::kBitOps);
  Assignment plan = space_->highest();
  for (const Group& group : groups_) {
    for (size_t layer : group.layers) plan[layer] = group.candidates.front();
  }
  prefixes_ = {plan};
  for (const Item& item : list) {
    bool lowers = false, raises = false;
    for (CostKind kind : kinds) {
      double change = 0;
      for (size_t layer : groups_[item.group].layers)
        change += space_->cost(kind, layer, item.bits) - space_->cost(kind, layer, plan[layer]);
      lowers = lowers || change < 0;
      raises = raises || change > 0;
    }
    if (!lowers || raises) continue;
    for (size_t layer : groups_[item.group].layers) plan[layer] = item.bits;
    if (!space_->feasible(prefixes_.front())) prefixes_.clear();
    prefixes_.push_back(plan);
  }
}

int64_t TableSearch::last_plan() const {
  return kind_ == Sensitivity::kSqnr ? static_cast<int64_t>(prefixes_.size()) - 1 : kBudgets;
}

Assignment TableSearch::plan(int64_t index) const {
  if (kind_ == Sensitivity::kSqnr) return prefixes_.at(static_cast<size_t>(index));
  const Solution within_limits = solve(table_space_, damage_);
  if (index == 0) return within_limits.assignment;
  const double high = table_space_.cost(CostKind::kWeightBits, within_limits.assignment);
  const double low = table_space_.cost(CostKind::kWeightBits, table_space_.lowest());
  Space tighter = table_space_;
  const double part = static_cast<double>(index) / static_cast<double>(kBudgets);
  tighter.limits.push_back({CostKind::kWeightBits, high + (low - high) * part, "drop"});
  return solve(tighter, damage_).assignment;
}

void TableSearch::step(Archive& archive) {
  if (finished_) return;
  if (!complete()) {
    const Entry& entry = entries_[values_.size()];
    if (entry.bits.weight == 0 && !evaluator_->refine_traces()) return;
    const double measured = measure(entry);
    if (!std::isfinite(measured)) {
      fail(ErrorCode::kBadInput,
           "search {}: layer '{}' at {} bits: found sensitivity {}, expected a finite number", name(),
           printable(space_->layers[entry.layer].name), entry.bits.weight, measured);
    }
    values_.push_back(measured);
    if (complete()) prepare();
    return;
  }
  if (space_->max_drop && !float_accuracy_) float_accuracy_ = evaluator_->float_score().accuracy;
  // The ends first: a plan that is bad with all bits, or good with the fewest, needs no bisection.
  const int64_t last = last_plan();
  const int64_t index = evaluations_ == 0 ? 0 : evaluations_ == 1 ? last : (good_ + bad_) / 2;
  const Assignment at = plan(index);
  const Score score = evaluator_->evaluate(at);
  const bool feasible = space_->feasible(at);
  archive.add({at, score,
               index > 0  ? fmt::format("bisection {}", evaluations_)
               : feasible ? "within the limits"
                          : "nearest to the limits"});
  ++evaluations_;
  if (!space_->max_drop || (index == 0 && !feasible)) {
    finished_ = true;
    return;
  }
  decide(index, feasible && score.accuracy >= *float_accuracy_ - *space_->max_drop);
}

void TableSearch::decide(int64_t index, bool within) {
  const int64_t last = last_plan();
  if (evaluations_ == 1) bad_ = last + 1;
  (within ? good_ : bad_) = index;
  finished_ = good_ + 1 >= bad_;
}

Method::Status TableSearch::status() const {
  const auto done = static_cast<int64_t>(values_.size()) + evaluations_;
  const auto entries = static_cast<int64_t>(entries_.size());
  if (finished_) return {done, done, "finished"};
  if (!complete()) {
    const std::string& layer = space_->layers[entries_[values_.size()].layer].name;
    return {done, entries + (space_->max_drop ? 8 : 1), fmt::format("sensitivity of {}", layer)};
  }
  int64_t open = 1;
  if (space_->max_drop) {
    const int64_t width = evaluations_ == 0 ? last_plan() + 1 : bad_ - good_;
    while (int64_t{1} << open < width) ++open;
  }
  return {done, done + open, "measuring plans"};
}

std::vector<double> TableSearch::sensitivity() const {
  if (!complete()) return {};
  std::vector<double> result;
  for (size_t layer = 0; layer < space_->layers.size(); ++layer) {
    if (kind_ == Sensitivity::kHawq) result.push_back(value(layer, {0, 0}));
    if (kind_ == Sensitivity::kEagl)
      result.push_back(value(layer, {table_space_.layers[layer].weight_bits.front(), 0}));
    if (kind_ != Sensitivity::kSqnr) continue;
    const auto pairs = space_->candidates(layer);
    result.push_back(pairs.size() == 1 ? 0 : -value(layer, pairs.back()));
  }
  return result;
}

std::string TableSearch::save() const {
  Json json{
      {"method", name()}, {"entries", values_.size()}, {"values", values_}, {"evaluations", evaluations_}};
  json["float_known"] = float_accuracy_.has_value();
  json["float_accuracy"] = float_accuracy_.value_or(0);
  json["good"] = good_;
  json["bad"] = bad_;
  json["finished"] = finished_;
  return json.dump();
}

void TableSearch::restore(const std::string& state) {
  const Json json = parse_state(state, name());
  TableSearch read(*space_, *evaluator_, kind_);
  const int64_t known = read_integer(json, "entries", 0, static_cast<int64_t>(entries_.size()));
  read.values_ = read_numbers(json, "values", static_cast<size_t>(known));
  const auto refuse = [&] {
    fail(ErrorCode::kCorruptFile,
         "search state of {}: its parts contradict each other; start the search anew", name());
  };
  if (!std::all_of(read.values_.begin(), read.values_.end(), [](double v) { return std::isfinite(v); }))
    refuse();
  if (read.complete()) read.prepare();
  const int64_t last = read.complete() ? read.last_plan() : -1;
  read.evaluations_ = read_integer(json, "evaluations", 0, last + 1);
  read.good_ = read_integer(json, "good", -1, std::max<int64_t>(last, -1));
  read.bad_ = read_integer(json, "bad", 0, last + 1);
  if (read_flag(json, "float_known")) read.float_accuracy_ = read_number(json, "float_accuracy");
  read.finished_ = read_flag(json, "finished");
  const bool bisecting = read.evaluations_ > 0 && !read.finished_;
  if (read.evaluations_ == 0 && (read.good_ != -1 || read.bad_ != 0 || read.finished_)) refuse();
  if (bisecting &&
      (read.good_ < 0 || read.bad_ <= read.good_ + 1 || !read.float_accuracy_ || !space_->max_drop))
    refuse();
  *this = std::move(read);
}

}  // namespace bitstrata::search
