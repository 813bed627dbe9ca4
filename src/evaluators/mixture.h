#pragma once

#include <memory>
#include <vector>

#include "evaluators/setting.h"
#include "train/batch_source.h"

namespace bitstrata::evaluators {

/// A network trained under mixtures of the space's candidates (ebs): one set of weights for all widths. One
/// half of the training samples, drawn by the seed, trains the weights, the other one gives the shares'
/// gradients.
class MixtureEvaluator final : public search::MixtureEvaluator {
 public:
  /// Starts calibrated, each candidate with its own start quantizer. teacher: as train::Trainer. `measure`
  /// must outlive this. kBadInput with fewer than two training samples.
  MixtureEvaluator(const Measure& measure, std::shared_ptr<train::Network> teacher);

  double train_weights(const search::Mixture& mixture, double learning_rate) override;
  search::MixtureGradient share_gradient(const search::Mixture& mixture) override;
  int64_t steps_per_epoch() const override { return trainer_->steps_per_epoch(); }
  /// The assignment from the weights and ranges as trained so far, batch-norm statistics estimated again:
  /// exact score on the held-out split. Leaves the mixture as it is.
  search::Score evaluate(const search::Assignment& assignment) override;
  search::Score float_score() override { return measure_.float_score(); }
  std::string save() const override;
  void restore(const std::string& state) override;

  /// The network as trained so far.
  const train::Network& network() const noexcept { return *network_; }
  /// The network of an assignment as `evaluate` scores it: where fine-tuning can go on.
  std::unique_ptr<train::Network> chosen(const search::Assignment& assignment) const;

 private:
  std::vector<train::Network::LayerShares> to_tensors(const search::Mixture& mixture,
                                                      bool with_gradient) const;

  const Measure& measure_;
  std::unique_ptr<train::Network> network_;
  std::unique_ptr<train::Trainer> trainer_;
  std::unique_ptr<train::BatchSource> share_batches_;
  int64_t share_steps_ = 0;
};

}  // namespace bitstrata::evaluators
