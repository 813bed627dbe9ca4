#include "evaluators/deployed.h"
#include "evaluators/setting.h"
#include "search/space.h"

namespace bitstrata::evaluators {
namespace {

constexpr int kCalibrationBatch = 128, kEvaluationBatch = 100;

search::Score to_score(const train::Evaluation& evaluation) {
  return {evaluation.accuracy, evaluation.loss};
}

}  // namespace

Measure::Measure(const Setting& setting)
    : setting_(setting),
      batches_(train::calibration_batches(*setting.dataset, setting.holdout.train, setting.normalization,
                                          setting.calibration_images, kCalibrationBatch, setting.seed)),
      calibrator_(setting.graph, batches_, setting.device) {}

plan::Plan Measure::plan_of(const search::Assignment& assignment) const {
  return search::to_plan(setting_.graph, setting_.space, assignment, setting_.policy, setting_.per_channel);
}

search::Score Measure::score(const std::function<torch::Tensor(const torch::Tensor&)>& logits,
                             const std::vector<int64_t>& indices) const {
  return to_score(train::evaluate(logits, *setting_.dataset, data::Split::kTrain, indices,
                                  setting_.normalization, kEvaluationBatch));
}

search::Score Measure::exact_score(program::Program program, const std::vector<int64_t>& indices) const {
  return score(deployed_logits(std::move(program), setting_.device, kEvaluationBatch), indices);
}

search::Score Measure::calibrated_score(const search::Assignment& assignment) const {
  const plan::Plan plan = plan_of(assignment);
  train::Network network(setting_.graph, plan, quantizers(plan), setting_.device);
  train::reestimate_batch_norms(network, batches_);
  return exact_score(network.lower(), setting_.holdout.val);
}

search::Score Measure::float_score() const {
  if (!float_score_) {
    train::Network network(setting_.graph, plan::uniform_plan(setting_.graph, 0, 0, setting_.policy, false),
                           {}, setting_.device);
    float_score_ = score([&](const torch::Tensor& x) { return network.forward(x.to(setting_.device)); },
                         setting_.holdout.val);
  }
  return *float_score_;
}

}  // namespace bitstrata::evaluators
