#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "search/evaluator.h"
#include "search/groups.h"

/// Strengths of candidate widths and what follows from them (EBS, papers.md 3): shares, their derivatives,
/// expected costs.
namespace bitstrata::search {

/// One row of numbers per choice that is made on its own (see StrengthLayout).
using StrengthRows = std::vector<std::vector<double>>;

/// softmax(strengths / temperature), temperature > 0.
std::vector<double> softmax(std::span<const double> strengths, double temperature);

/// Derivatives by the strengths from those by softmax(strengths / temperature) = `shares`.
std::vector<double> softmax_backward(std::span<const double> shares, std::span<const double> by_share,
                                     double temperature);

/// Standard Gumbel noise in the shape of `like`, from (seed, stream): strengths plus noise, at a temperature,
/// give the shares of Gumbel-softmax.
StrengthRows gumbel_noise(const StrengthRows& like, uint64_t seed, uint64_t stream);

/// Which rows of strengths there are and which shares they set: per group one row for the weights and one for
/// the input, or, in a tied space, one row for both.
class StrengthLayout {
 public:
  /// The space must outlive the layout. kInvalidArgument as make_groups.
  explicit StrengthLayout(const Space& space);

  const std::vector<Group>& groups() const noexcept { return groups_; }
  /// Rows of zeros.
  StrengthRows zeros() const;
  /// Shares per layer from shares per row. Widths of a layer that its group does not have get 0.
  Mixture mixture(const StrengthRows& shares) const;
  /// Derivatives by the rows' shares from those by the layers' shares, which must have the mixture's shape.
  StrengthRows gather(const Mixture& by_share) const;

 private:
  /// A layer's shares that a row sets: option i of the row is width index[i] of the layer.
  struct Use {
    size_t layer = 0;
    bool is_activation = false;
    std::vector<size_t> index;
  };
  struct Row {
    size_t options = 0;
    std::vector<Use> uses;
  };
  void add_row(const Group& group, std::span<const BitPair> options, bool weights, bool activations);

  const Space* space_;
  std::vector<Group> groups_;
  std::vector<Row> rows_;
};

/// Expected cost under the shares p of weight and q of input widths, which are independent: sum over layers
/// of sum_ij p_i q_j cost(b_i, b_j), for BitOPs the paper's (sum_i p_i b_i)(sum_j q_j b_j) MACs. In a tied
/// space a layer makes one choice: sum_i p_i cost(b_i, b_i). Adds scale times its derivatives to `by_share`
/// when that is given.
double expected_cost(const Space& space, CostKind kind, const Mixture& mixture, double scale = 0,
                     Mixture* by_share = nullptr);

/// A mixture of the space's shape, all 0.
Mixture zero_mixture(const Space& space);

/// Adam without weight decay (Kingma and Ba 2015).
struct Adam {
  StrengthRows first, second;  ///< moments
  int64_t steps = 0;
  void step(StrengthRows& values, const StrengthRows& gradient, double rate, double beta1, double beta2);
};

}  // namespace bitstrata::search
