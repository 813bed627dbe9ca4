#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "search/evaluator.h"
#include "search/groups.h"
#include "search/method.h"

namespace bitstrata::search {

/// Settings of Ccq. Where they differ from the paper's release, the release's value is named.
struct CcqOptions {
  enum class Reward { kAccuracy, kLoss };  ///< of a probe: its accuracy, or minus its loss

  double eta = 50;  ///< Hedge learning rate; the release's 1 makes the draw nearly uniform, as accuracies lie
                    ///< close together
  int probe_rounds = 1;  ///< probe rounds in a competition, over which the experts' weights are kept
  Reward reward = Reward::kAccuracy;
  bool mix_memory =
      true;       ///< mix the draw with the cost that each move saves (memory_weight); false: rewards alone
  int drops = 1;  ///< different layers that move in one competition, before one recovery

  double recovery_epochs = 0.5;  ///< longest recovery, a fraction allowed (release: 4)
  double tolerance = 0.99;  ///< a recovery ends once the accuracy is at least this times that before the drop
  int check_every = 50;     ///< mini-batches of a recovery between looks at the accuracy
  double low_rate = 1e-3, high_rate = 1e-2;      ///< hybrid_rate
  double constant_part = 0.25, bump_part = 0.5;  ///< its parts of a recovery (release: 5 and 10 epochs)

  bool give_back = true;    ///< raise layers again with what the last moves saved beyond the limits
  double final_epochs = 1;  ///< last recovery, of the final plan
  uint64_t seed = 0;
};

/// Competitive-collaborative quantization (CCQ, DAC 2020; papers.md 1). All layers start at their most bits
/// and compete, the first and the last too: every probe round measures each layer one rung lower, Hedge turns
/// the measurements into probabilities, one layer is drawn and moves for good, and training at the new bits
/// recovers the accuracy. Ends when every limit holds, when all layers sleep at their fewest bits, or, with
/// max_drop alone, when a recovered accuracy falls below it (the plan before is the answer). Layers that are
/// tied move as one.
class Ccq final : public Method {
 public:
  /// The space and the evaluator must outlive the method. kInvalidArgument for options out of range or a
  /// space without limits and max_drop.
  Ccq(const Space& space, TrainableEvaluator& evaluator, const CcqOptions& options);

  const char* name() const noexcept override { return "ccq"; }
  bool finished() const override { return state_.phase == Phase::kFinished; }
  /// One probe round, one mini-batch of recovery, or one evaluation. Nothing when finished. kJobFailed when
  /// the training diverges.
  void step(Archive& archive) override;
  /// In competitions.
  Status status() const override;
  /// Loss of reward in each layer's last probe.
  std::vector<double> sensitivity() const override;
  std::string save() const override;
  void restore(const std::string& state) override;

  /// Competitions that the limits will take: rungs of all ladders, times the part of the whole way down that
  /// the furthest limit needs, over `drops`.
  int64_t expected_competitions() const noexcept { return expected_; }
  /// The bits that the network stands at; when finished, the method's answer.
  Assignment plan() const { return assignment(state_.rungs); }

 private:
  enum class Phase { kStart, kProbe, kRecover, kCheck, kFinished };
  struct State {
    Phase phase = Phase::kStart;
    int64_t competition = 0;  ///< competitions whose moves are made
    int64_t round = 0;        ///< probe rounds of the running competition
    int64_t step = 0;         ///< mini-batches of the running recovery
    bool is_final = false;    ///< the recovery is the last one
    double float_accuracy = 0;
    double before = 0;               ///< accuracy before the last drop
    std::vector<size_t> rungs;       ///< per group
    std::vector<size_t> good_rungs;  ///< the last that met max_drop
    std::vector<double> rewards;     ///< cumulative in the competition, against the plan without a move
    std::vector<double> last_probe;  ///< loss of reward per group
    std::vector<std::vector<double>> damage;  ///< last probe of the move from each rung to the next
  };

  Assignment assignment(const std::vector<size_t>& rungs) const;
  bool awake(size_t group) const { return state_.rungs[group] + 1 < groups_[group].ladder.size(); }
  CostKind furthest_limit(const Assignment& at) const;
  double reward(const Score& score) const;
  Score measure();
  void start(Archive& archive);
  void probe();
  void move_layers();
  void recover();
  void check(Archive& archive);
  void next_competition();
  void end_competitions();
  void give_back();
  void begin_recovery(bool is_final);

  const Space* space_;
  TrainableEvaluator* evaluator_;
  CcqOptions options_;
  std::vector<Group> groups_;
  int64_t expected_ = 0;
  int64_t recovery_steps_ = 0, final_steps_ = 0;
  State state_;
};

}  // namespace bitstrata::search
