#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "search/groups.h"
#include "search/method.h"

/// What every search has to beat: the same bits everywhere, and chance.
namespace bitstrata::search {

/// Uniform plans from most to fewest bits: measures the first that meets all limits; with max_drop goes on to
/// fewer bits until the accuracy falls below it. Layers without a width take their nearest. Where no uniform
/// plan meets the limits, the one of fewest bits is measured.
class UniformSearch final : public Method {
 public:
  /// The space and the evaluator must outlive the method.
  UniformSearch(const Space& space, Evaluator& evaluator);

  const char* name() const noexcept override { return "uniform"; }
  bool finished() const override { return finished_; }
  /// One evaluation.
  void step(Archive& archive) override;
  Status status() const override;
  std::string save() const override;
  void restore(const std::string& state) override;

 private:
  const Space* space_;
  Evaluator* evaluator_;
  std::vector<int> widths_;
  std::vector<Assignment> plans_;  ///< of widths_
  size_t first_ = 0;               ///< most bits within the limits
  size_t next_ = 0;
  bool finished_ = false;
};

/// Settings of RandomSearch.
struct RandomOptions {
  int64_t draws = 100;
  uint64_t seed = 0;
  bool keep_draws = false;  ///< draws() has all plans measured, not the archive's only
};

/// Plans drawn uniformly at random, then brought to the limits: random moves of single layers to the next
/// lower bits until all limits hold, then random moves up that keep them until a cost is within 3 % of its
/// limit or no move is left. Every draw is measured.
class RandomSearch final : public Method {
 public:
  /// The space and the evaluator must outlive the method. kInvalidArgument unless there is a draw at least.
  RandomSearch(const Space& space, Evaluator& evaluator, const RandomOptions& options);

  const char* name() const noexcept override { return "random"; }
  bool finished() const override { return done_ >= options_.draws; }
  /// One draw and its evaluation.
  void step(Archive& archive) override;
  Status status() const override;
  std::string save() const override;
  void restore(const std::string& state) override;

  /// The n-th plan; depends on the seed and n only.
  Assignment draw(int64_t n) const;
  const std::vector<Found>& draws() const noexcept { return draws_; }

 private:
  const Space* space_;
  Evaluator* evaluator_;
  RandomOptions options_;
  std::vector<Group> groups_;
  int64_t done_ = 0;
  std::vector<Found> draws_;
};

}  // namespace bitstrata::search
