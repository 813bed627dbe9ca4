#include "evaluators/mixture.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "data/batches.h"
#include "train/architectures.h"

namespace bitstrata::evaluators {
namespace {

using search::Mixture;
using search::MixtureGradient;

class Job {
 public:
  explicit Job(bool tied, quant::Policy policy = quant::Policy::kLsq)
      : dataset_(data::load("digits")),
        setting_(make_setting(tied, policy)),
        measure_(setting_),
        evaluator_(measure_, {}) {}

  MixtureEvaluator& evaluator() { return evaluator_; }
  const search::Space& space() const { return setting_.space; }
  /// The same share for every candidate.
  Mixture even() const {
    Mixture mixture;
    for (const search::Layer& layer : space().layers) {
      mixture.weight.emplace_back(layer.weight_bits.size(),
                                  1.0 / static_cast<double>(layer.weight_bits.size()));
      mixture.activation.emplace_back(layer.activation_bits.size(),
                                      1.0 / static_cast<double>(layer.activation_bits.size()));
    }
    return mixture;
  }
  double train(int steps, double rate) {
    double sum = 0;
    for (int i = 0; i < steps; ++i) sum += evaluator_.train_weights(even(), rate);
    return sum / steps;
  }

 private:
  Setting make_setting(bool tied, quant::Policy policy) const {
    Setting setting;
    setting.graph = train::make_architecture("lenet", 1, 8, 8, 10, 3);
    search::SpaceOptions options;
    options.bits = {1, 2, 3, 5};
    options.tied = tied;
    setting.space = search::make_space(setting.graph, options);
    setting.dataset = &dataset_;
    setting.normalization = data::default_normalization(1);
    setting.holdout.train = data::all_indices(640);
    for (int64_t i = 640; i < 800; ++i) setting.holdout.val.push_back(i);
    setting.calibration_images = 128;
    setting.policy = policy;
    setting.per_channel = policy == quant::Policy::kLsq || policy == quant::Policy::kSawb;
    setting.training.batch = 64;
    setting.seed = 7;
    return setting;
  }

  data::Dataset dataset_;
  Setting setting_;
  Measure measure_;
  MixtureEvaluator evaluator_;
};

TEST(MixtureEvaluator, TrainingLowersTheLossAndChoicesScoreWell) {
  for (quant::Policy policy : quant::kAllPolicies) {
    Job job(true, policy);
    EXPECT_EQ(job.evaluator().steps_per_epoch(), 5) << "half of 640 samples";
    const double first = job.train(5, 0.05);
    job.train(30, 0.05);
    EXPECT_LT(job.train(5, 0.02), 0.5 * first) << to_string(policy);
    EXPECT_GT(job.evaluator().evaluate(job.space().highest()).accuracy, 0.6) << to_string(policy);
  }
}

TEST(MixtureEvaluator, EvaluatesEveryWidthAndLeavesTheStateAlone) {
  torch::set_num_threads(1);
  Job job(false);
  job.train(10, 0.05);
  const std::string before = job.evaluator().save();
  for (int bits : {1, 2, 3, 5}) {
    search::Assignment assignment = job.space().highest();
    for (size_t l = 0; l < assignment.size(); ++l)
      assignment[l] = {bits, l == 0 ? assignment[l].activation : bits};
    const search::Score score = job.evaluator().evaluate(assignment);
    EXPECT_GE(score.accuracy, 0.0);
    EXPECT_TRUE(std::isfinite(score.loss));
    EXPECT_EQ(score.loss, job.evaluator().evaluate(assignment).loss);
  }
  EXPECT_TRUE(job.evaluator().save() == before) << "evaluation changed the state";
}

TEST(MixtureEvaluator, ShareGradientsMatchFiniteDifferences) {
  Job job(false);
  job.train(10, 0.05);
  const std::string here = job.evaluator().save();
  const auto at = [&](const Mixture& mixture) {
    job.evaluator().restore(here);  // the same batch
    return job.evaluator().share_gradient(mixture);
  };
  const Mixture even = job.even();
  const MixtureGradient gradient = at(even);
  // Behind the last layer nothing is rounded: there the straight-through gradient is the true one.
  const size_t last = job.space().layers.size() - 1;
  const double step = 0.02;
  double largest = 0;
  for (auto side : {&Mixture::weight, &Mixture::activation}) {
    for (size_t i = 0; i < (even.*side)[last].size(); ++i) {
      Mixture more = even, less = even;
      (more.*side)[last][i] += step;
      (less.*side)[last][i] -= step;
      const double difference = (at(more).loss - at(less).loss) / (2 * step),
                   found = (gradient.by_share.*side)[last][i];
      EXPECT_NEAR(found, difference, 1e-3 + 0.01 * std::abs(difference)) << i;
      largest = std::max(largest, std::abs(found));
    }
  }
  EXPECT_GT(largest, 0.01) << "nothing was compared";
}

TEST(MixtureEvaluator, ShareGradientsLeaveTheNetworkAloneAndGoOnToTheNextBatch) {
  Job job(true);
  job.train(3, 0.05);
  std::vector<torch::Tensor> before;
  for (const auto& [name, tensor] : job.evaluator().network().state())
    before.push_back(tensor.detach().clone());
  const double first = job.evaluator().share_gradient(job.even()).loss,
               second = job.evaluator().share_gradient(job.even()).loss;
  EXPECT_NE(first, second);
  size_t i = 0;
  for (const auto& [name, tensor] : job.evaluator().network().state())
    EXPECT_TRUE(torch::equal(tensor, before[i++])) << name;
}

void expect_same_state(Job& a, Job& b) {
  const auto left = a.evaluator().network().state(), right = b.evaluator().network().state();
  ASSERT_EQ(left.size(), right.size());
  for (size_t i = 0; i < left.size(); ++i)
    EXPECT_TRUE(torch::equal(left[i].second, right[i].second)) << left[i].first;
}

TEST(MixtureEvaluator, RestoredRunEqualsTheUndisturbedOneBitByBit) {
  torch::set_num_threads(1);
  const auto go_on = [](Job& job) {
    std::vector<double> seen;
    for (int i = 0; i < 4; ++i) {
      seen.push_back(job.evaluator().train_weights(job.even(), 0.05));
      const MixtureGradient gradient = job.evaluator().share_gradient(job.even());
      seen.push_back(gradient.loss);
      for (const auto& row : gradient.by_share.weight) seen.insert(seen.end(), row.begin(), row.end());
      for (const auto& row : gradient.by_share.activation) seen.insert(seen.end(), row.begin(), row.end());
    }
    seen.push_back(job.evaluator().evaluate(job.space().lowest()).loss);
    return seen;
  };
  for (bool tied : {true, false}) {
    Job whole(tied), second(tied);
    whole.train(3, 0.05);
    for (int i = 0; i < 6; ++i) whole.evaluator().share_gradient(whole.even());
    const std::string saved = whole.evaluator().save();
    second.train(1, 0.05);  // a used evaluator is as good as a new one
    second.evaluator().restore(saved);
    expect_same_state(whole, second);
    EXPECT_EQ(go_on(whole), go_on(second));
    expect_same_state(whole, second);
  }
}

TEST(MixtureEvaluator, RefusesWhatDoesNotFit) {
  Job job(true);
  const std::string saved = job.evaluator().save();
  EXPECT_THROW(job.evaluator().restore("{}"), Error);
  EXPECT_THROW(job.evaluator().restore("{}\n" + saved), Error);
  EXPECT_THROW(job.evaluator().restore(saved.substr(0, saved.size() / 2)), Error);
  Mixture wrong = job.even();
  wrong.weight[1].pop_back();
  EXPECT_THROW(job.evaluator().share_gradient(wrong), Error);
}

}  // namespace
}  // namespace bitstrata::evaluators
