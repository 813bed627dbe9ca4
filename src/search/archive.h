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

/// All that a search has found so far: the best plan, and the plans that no other beats in accuracy and every known cost at once. Ordered by
/// the time of finding where equal, so that the content depends on what was added only.
class Archive {
 public:
  explicit Archive(const Space& space) : space_(&space) {}  ///< the space must outlive the archive

  /// Returns true when `found` is the new best: a feasible plan beats one that is not; of feasible ones the more accurate wins, then the cheaper in
  /// weight bits; of others the one closer to the limits.
  bool add(Found found);
  const std::optional<Found>& best() const noexcept { return best_; }
  /// Not dominated, by descending accuracy.
  const std::vector<Found>& pareto() const noexcept { return pareto_; }
  /// Whether the best plan meets every limit, and the drop target when there is one and `float_score` is its reference.
  bool met(const Score& float_score) const;

  /// State as text and back (JSON). kCorruptFile when it is not from to_text() on the same space.
  std::string to_text() const;
  void from_text(const std::string& text);

 private:
  const Space* space_;
  std::optional<Found> best_;
  std::vector<Found> pareto_;
};

}  // namespace bitstrata::search
