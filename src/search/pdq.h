#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "search/evaluator.h"
#include "search/groups.h"
#include "search/knapsack.h"
#include "search/method.h"

namespace bitstrata::search {

/// Settings of Pdq; the defaults are the paper's (papers.md 2.4 and 2.6) where it has them.
struct PdqOptions {
  double epochs = 10;             ///< of the primal (paper: 100)
  double learning_rate = 1e-3;    ///< falling to a tenth at 50 %, 75 % and 90 %
  double dual_every = 1;          ///< epochs between dual updates, a fraction allowed
  double dual_rate = 0.01;        ///< eta_d
  bool rescale_dual_rate = true;  ///< multiply eta_d by 100 / number of updates, so that a short run moves
                                  ///< the duals as far as the paper's 100 do
  double output_slack = 0.1;      ///< eps_out
  double layer_slack = 0.0125;    ///< eps_l; tight, for the ranking of layers
  double first_output_dual = 1, first_layer_dual = 0;
  int train_bits =
      0;  ///< weight width at which the constraints are trained; 0: every layer at its fewest bits

  int keep = 0;  ///< layer-selective: so many groups of tied layers stay at keep_bits, the others go to their
                 ///< fewest; 0: solve for the limits
  int keep_bits = 0;         ///< weight width of the kept; 0: their most bits
  std::vector<double> known_duals;  ///< of the layers, from an earlier search: nothing is trained then
  bool keep_largest = true;  ///< keep those of largest duals; false: of smallest, the control
};

/// Neural networks with quantization constraints (PDQAT, arXiv 2210.15623; papers.md 2): the float loss is
/// minimised subject to the proximity of the quantized network, by a primal-dual method. A layer's dual is
/// the derivative of the optimum by its slack: how sensitive the layer is. Then
/// - `keep` > 0: the layers of largest duals keep more bits;
/// - else with limits: damage of a candidate = dual * proximity there, and the knapsack solver;
/// - else with max_drop: the smallest `keep` whose accuracy is within it, by bisection.
class Pdq final : public Method {
 public:
  /// The space and the evaluator must outlive the method. kInvalidArgument for options out of range, or when
  /// there is neither keep nor a target.
  Pdq(const Space& space, ConstrainedEvaluator& evaluator, const PdqOptions& options);

  const char* name() const noexcept override { return "pdq"; }
  bool finished() const override { return state_.phase == Phase::kFinished; }
  /// One mini-batch of the primal, one dual update, one measurement of proximities, or one evaluation.
  /// Nothing when finished. kJobFailed when the training diverges.
  void step(Archive& archive) override;
  /// In mini-batches.
  Status status() const override;
  /// The layers' duals.
  std::vector<double> sensitivity() const override;
  std::string save() const override;
  void restore(const std::string& state) override;

  const Constraints& duals() const noexcept { return state_.duals; }

 private:
  enum class Phase { kPrimal, kDual, kTrained, kProximities, kSolve, kBisect, kFinished };
  struct State {
    Phase phase = Phase::kPrimal;
    int64_t step = 0;      ///< mini-batches of the primal
    int64_t measured = 0;  ///< uniform assignments whose proximities are known
    int64_t too_few = -1,
            enough = 0;  ///< bisection: numbers of kept groups; one more than there are while none was enough
    Constraints duals;
    DamageTable proximity;  ///< per layer and candidate
  };

  void primal();
  void dual();
  void measure_trained(Archive& archive);
  void measure_proximities();
  Score evaluate(Archive& archive, const Assignment& plan, const std::string& how);
  void bisect(Archive& archive);
  Assignment kept(size_t count) const;
  DamageTable damage() const;
  Constraints checked_proximities(const Assignment& plan);

  const Space* space_;
  ConstrainedEvaluator* evaluator_;
  PdqOptions options_;
  std::vector<Group> groups_;
  Assignment trained_;               ///< where the constraints are trained
  std::vector<Assignment> uniform_;  ///< measured for the damage table
  int64_t total_steps_ = 0, dual_steps_ = 1;
  double dual_rate_ = 0;
  State state_;
};

/// max(0, dual + rate * (proximity - slack)), element by element: one dual update.
Constraints updated_duals(const Constraints& duals, const Constraints& proximities, double rate,
                          double output_slack, double layer_slack);

/// Assignments, as uniform as the candidates allow, that together put every layer at each of its candidates:
/// for each distinct candidate pair from most to fewest bits, every layer at that pair or its nearest; those
/// that add nothing new are left out.
std::vector<Assignment> uniform_assignments(const Space& space);

}  // namespace bitstrata::search
