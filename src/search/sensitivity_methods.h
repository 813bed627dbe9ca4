#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "search/groups.h"
#include "search/knapsack.h"
#include "search/method.h"

namespace bitstrata::search {

/// Where a TableSearch takes its table from.
enum class Sensitivity {
  kHawq,  ///< Hessian trace per weight * squared weight error (HAWQ-V2, methods.md sheet 21); of a
          ///< negative trace its size
  kSqnr,  ///< signal to quantization noise at the output (AIMET's list, sheet 27)
  kEagl,  ///< entropy of the weight codes lost against the most bits (EAGL, sheet 25)
};

/// Methods that measure each layer alone, combine the table into plans without the network, and then measure
/// one plan; with max_drop several, by bisection for the cheapest within it (cheaper plans are taken to be
/// less accurate).
///
/// hawq and eagl: the exact knapsack over the sums of the table; cheaper plans come from ever smaller budgets
/// of weight bits. As the tables say nothing of inputs, an input takes the bits of its layer's weights even
/// where the space is not tied. sqnr: all entries (layers, pair) by descending SQNR, then bits, then saved
/// BitOPs; a plan is the list applied up to some entry, starting at the most bits; cheaper plans are longer
/// prefixes. An entry that lowers none of the limited costs (without limits: BitOPs) at its turn, or raises
/// one, is passed over. The noise of layers tied together adds up.
class TableSearch final : public Method {
 public:
  /// The space and the evaluator must outlive the method. kInvalidArgument when hawq or eagl find no common
  /// width of weights and input.
  TableSearch(const Space& space, SensitivityEvaluator& evaluator, Sensitivity kind);

  const char* name() const noexcept override;
  bool finished() const override { return finished_; }
  /// One table entry or a piece of the traces, or one plan and its evaluation. kBadInput when an entry is not
  /// finite.
  void step(Archive& archive) override;
  Status status() const override;
  /// Traces per weight, SQNR at the fewest bits (negated), or entropies at the most bits. Empty until the
  /// table is complete.
  std::vector<double> sensitivity() const override;
  std::string save() const override;
  void restore(const std::string& state) override;

 private:
  struct Entry {
    size_t layer;
    BitPair bits;  ///< weight 0: the layer's trace
  };
  double measure(const Entry& entry);
  double value(size_t layer, BitPair bits) const;
  bool complete() const noexcept { return values_.size() == entries_.size(); }
  void prepare();
  void prepare_table();
  void prepare_list();
  Assignment plan(int64_t index) const;
  int64_t last_plan() const;
  void decide(int64_t index, bool within);

  const Space* space_;
  SensitivityEvaluator* evaluator_;
  Sensitivity kind_;
  Space table_space_;          ///< what hawq and eagl solve: the space, tied
  std::vector<Group> groups_;  ///< of sqnr
  std::vector<Entry> entries_;
  std::vector<double> values_;  ///< of the first entries
  // Follow from the values once the table is complete.
  DamageTable damage_;  ///< hawq, eagl
  std::vector<Assignment>
      prefixes_;  ///< sqnr: plans of the list that differ, from the first within the limits
  // Bisection: plans up to good_ are within max_drop, those from bad_ on are not.
  std::optional<double> float_accuracy_;
  int64_t good_ = -1, bad_ = 0;
  int64_t evaluations_ = 0;
  bool finished_ = false;
};

}  // namespace bitstrata::search
