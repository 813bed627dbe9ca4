#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "search/evaluator.h"
#include "search/method.h"
#include "search/strengths.h"

namespace bitstrata::search {

/// Settings of Ebs. The paper's own figures are not known (papers.md 3.5): these follow its closest
/// relatives.
struct EbsOptions {
  double epochs = 10;          ///< of the weight half of the data
  double weights_rate = 0.01;  ///< learning rate of the weights, falling to 0 by a cosine
  int strength_every = 1;      ///< one step of the strengths after so many of the weights

  double strengths_rate = 0.02;  ///< Adam
  double beta1 = 0.5, beta2 = 0.999;
  double noise = 0;  ///< standard deviation of the first strengths; 0: all equal

  bool gumbel = false;           ///< Gumbel-softmax instead of softmax
  double first_temperature = 1;  ///< of Gumbel-softmax, falling geometrically
  double last_temperature = 0.1;

  double first_cost_weight = 1;  ///< lambda of lambda * max(0, E[cost] / limit - 1), growing geometrically so
                                 ///< that the limits hold at the end
  double last_cost_weight = 20;
  bool two_sided = false;  ///< |E[cost] / limit - 1| instead: also pulls up what is below its limit
  double penalty = 0.1;    ///< without limits: weight of E[BitOPs] / BitOPs at most bits
  uint64_t seed = 0;
};

/// Efficient bit-width search (EBS, arXiv 2003.07577; papers.md 3): one set of weights is trained under a
/// mixture of its candidate widths while the strengths of the candidates, through a softmax the shares of the
/// mixture, descend the loss on the other half of the data plus the expected cost beyond the limits. Every
/// epoch the strongest candidates are measured.
class Ebs final : public Method {
 public:
  /// The space and the evaluator must outlive the method. kInvalidArgument for options out of range.
  Ebs(const Space& space, MixtureEvaluator& evaluator, const EbsOptions& options);

  const char* name() const noexcept override { return "ebs"; }
  bool finished() const override { return state_.phase == Phase::kFinished; }
  /// One mini-batch of the weights or of the strengths, or one evaluation. Nothing when finished. kJobFailed
  /// when the training diverges.
  void step(Archive& archive) override;
  /// In mini-batches of the weights.
  Status status() const override;
  /// Expected weight bits.
  std::vector<double> sensitivity() const override;
  std::string save() const override;
  void restore(const std::string& state) override;

  /// Shares without noise.
  Mixture mixture() const;
  /// The strongest candidates; when they break a limit, the most likely plan within the limits; what is then
  /// left below the limits goes to layers whose shares lean to more bits.
  Assignment choice() const;

 private:
  enum class Phase { kWeights, kStrengths, kMeasure, kFinished };
  struct State {
    Phase phase = Phase::kWeights;
    int64_t step = 0;  ///< mini-batches of the weights
    StrengthRows strengths;
    Adam adam;
  };
  /// Shares of rows at one temperature, and the temperature.
  struct Sample {
    StrengthRows shares;
    double temperature = 1;
  };

  Sample sample(int64_t step, bool of_strengths) const;
  void train_weights();
  void train_strengths();
  void measure(Archive& archive);
  Mixture cost_gradient(const Mixture& mixture) const;
  Assignment within_limits(Assignment strongest, const Mixture& shares) const;

  const Space* space_;
  MixtureEvaluator* evaluator_;
  EbsOptions options_;
  StrengthLayout layout_;
  int64_t steps_per_epoch_ = 0, total_steps_ = 0;
  State state_;
};

}  // namespace bitstrata::search
