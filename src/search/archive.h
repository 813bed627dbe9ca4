#pragma once

#include <optional>
#include <string>
#include <vector>

#include "search/evaluator.h"

namespace bitstrata::search {

/// A plan that a method has measured.
struct Found {
  Assignment assignment;
  Score score;      ///< on held-out data
  std::string how;  ///< in a few words, e.g. "after recovery 12"
};

/// All that a search has found so far: the best plan, and the plans that no other beats in accuracy and every known cost at once. Of equal plans
/// the first one found stays, so that the content depends on what was added only.
class Archive {
 public:
  /// The space must outlive the archive. `float_score` is what the space's max_drop counts from; without it max_drop plays no part here.
  explicit Archive(const Space& space, std::optional<Score> float_score = std::nullopt) : space_(&space), float_score_(float_score) {}

  /// Returns true when `found` is the new best: a feasible plan beats one that is not; of others the one closer to the limits wins. Of feasible ones
  /// the more accurate wins, then the cheaper in weight bits, then in BitOPs; but of plans within max_drop the cheapest, then the more accurate.
  /// kInvalidArgument when the plan does not fit the space; kBadInput when its accuracy is not in [0, 1].
  bool add(Found found);
  const std::optional<Found>& best() const noexcept { return best_; }
  /// Not dominated, by descending accuracy.
  const std::vector<Found>& pareto() const noexcept { return pareto_; }
  /// Whether the best plan meets every limit, and the drop target when there is one, counted from `float_score`.
  bool met(const Score& float_score) const;

  /// State as text and back (JSON). kCorruptFile when it is not from to_text() on the same space; the archive stays as it was then.
  std::string to_text() const;
  void from_text(const std::string& text);

 private:
  bool within_drop(const Score& score) const;
  bool better(const Found& a, const Found& b) const;

  const Space* space_;
  std::optional<Score> float_score_;
  std::optional<Found> best_;
  std::vector<Found> pareto_;
};

}  // namespace bitstrata::search
