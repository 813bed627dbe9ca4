#pragma once

#include <map>
#include <memory>

#include "evaluators/setting.h"

namespace bitstrata::evaluators {

/// A network trained while its bits change (ccq): one train::Network and one optimizer for the whole search.
class Trainable : public search::TrainableEvaluator {
 public:
  /// Starts at the space's highest assignment, calibrated. probe_share: part of the held-out split that
  /// probes see, chosen by the seed. teacher: as train::Trainer. `measure` must outlive this.
  Trainable(const Measure& measure, double probe_share,
            std::shared_ptr<train::Network> teacher);

  search::Score evaluate(const search::Assignment& assignment) override;
  search::Score float_score() override { return measure_.float_score(); }
  std::vector<search::Score> probe(const search::Assignment& base,
                                   std::span<const search::Change> changes) override;
  double train_step(const search::Assignment& assignment, double learning_rate) override;
  int64_t steps_per_epoch() const override { return trainer_->steps_per_epoch(); }
  std::string save() const override;
  void restore(const std::string& state) override;

  /// Steps trained so far.
  int64_t steps() const noexcept { return steps_; }
  /// The network as trained so far, at the last assignment.
  const train::Network& network() const noexcept { return *network_; }

 private:
  void set_bits(const search::Assignment& assignment);
  train::Network::LayerChange change(size_t layer, search::BitPair bits, const compile::Quantizers& now,
                                     const graph::Graph& graph) const;
  const compile::Quantizers& calibrated(int activation_bits) const;

  const Measure& measure_;
  mutable std::map<int, compile::Quantizers> calibrated_;  ///< by the activation bits of a uniform plan
  search::Assignment assignment_;
  std::unique_ptr<train::Network> network_;
  std::unique_ptr<train::Trainer> trainer_;
  std::vector<int64_t> probe_indices_;
  int64_t steps_ = 0;
};

}  // namespace bitstrata::evaluators
