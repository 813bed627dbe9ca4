#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "core/file.h"
#include "core/random.h"
#include "data/dataset.h"
#include "train/architectures.h"
#include "train/calibrate.h"
#include "train/checkpoint.h"
#include "train/trainer.h"

namespace bitstrata::train {
namespace {

using quant::Policy;
using torch::Tensor;

TEST(LearningRate, FollowsCosineAnnealingWithWarmRestarts) {
  TrainOptions o;
  o.learning_rate = 0.005;
  o.epochs = 70;
  o.warmup_epochs = 0;
  o.restart_epochs = 10;
  o.restart_factor = 2;
  EXPECT_DOUBLE_EQ(learning_rate_at(o, 0), 0.005);
  EXPECT_NEAR(learning_rate_at(o, 1), .0048776, 5e-8);
  EXPECT_NEAR(learning_rate_at(o, 15), .0042678, 5e-8);
  EXPECT_LT(learning_rate_at(o, 9.999), 1e-6);
  EXPECT_DOUBLE_EQ(learning_rate_at(o, 10), 0.005);
  EXPECT_DOUBLE_EQ(learning_rate_at(o, 30), 0.005);
  EXPECT_NEAR(learning_rate_at(o, 50), 0.0025, 1e-12);
}

TEST(LearningRate, WarmsUpLinearlyAndThenAnnealsOnce) {
  TrainOptions o;
  o.learning_rate = 0.4;
  o.epochs = 12;
  o.warmup_epochs = 2;
  EXPECT_EQ(learning_rate_at(o, 0), 0);
  EXPECT_DOUBLE_EQ(learning_rate_at(o, 0.5), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate_at(o, 2), 0.4);
  EXPECT_NEAR(learning_rate_at(o, 7), 0.2, 1e-12);
  EXPECT_NEAR(learning_rate_at(o, 12), 0, 1e-12);
}

/// A small lenet on the digits, quantized; `dead` adds a layer that no output depends on.
class Job {
 public:
  explicit Job(TrainOptions options, Policy policy = Policy::kLsq, int bits = 3, bool dead = false)
      : dataset_(data::load("digits")),
        graph_(make_graph(dead)),
        plan_(plan::uniform_plan(graph_, bits, bits, policy, true)),
        indices_(data::all_indices(320)),
        normalization_(data::default_normalization(1)),
        network_(graph_, plan_,
                 calibrate(graph_, plan_, calibration_batches(dataset_, indices_, normalization_, 64, 32, 1),
                           quant::Calibration::kMse, torch::kCPU)),
        trainer_(network_, dataset_, indices_, normalization_, std::move(options)) {}

  Trainer& trainer() { return trainer_; }
  Network& network() { return network_; }
  void steps(int count) {
    for (int i = 0; i < count; ++i) trainer_.step();
  }

 private:
  static graph::Graph make_graph(bool dead) {
    graph::Graph graph = make_architecture("lenet", 1, 8, 8, 10, 3);
    if (dead) {
      graph::Linear linear;
      linear.out = 2;
      linear.weights.assign(128, 0.1f);
      graph.values.push_back({"dead", {2}, {}});
      graph.nodes.push_back(
          {"dead", linear, {graph.nodes.back().inputs[0]}, static_cast<int>(graph.values.size()) - 1});
    }
    return graph;
  }

  data::Dataset dataset_;
  graph::Graph graph_;
  plan::Plan plan_;
  std::vector<int64_t> indices_;
  data::Normalization normalization_;
  Network network_;
  Trainer trainer_;
};

TrainOptions small_options(Optimizer optimizer = Optimizer::kSgd) {
  TrainOptions o;
  o.epochs = 3;
  o.batch = 64;  // 5 steps an epoch
  o.optimizer = optimizer;
  o.learning_rate = optimizer == Optimizer::kSgd ? 0.05 : 0.003;
  return o;
}

TEST(Trainer, LowersTheLossOnDigits) {
  for (Policy policy : quant::kAllPolicies) {
    Job job(small_options(), policy, 4);
    job.steps(5);
    EXPECT_EQ(job.trainer().epochs_done(), 1);
    EXPECT_TRUE(job.trainer().at_epoch_start());
    const double first = job.trainer().status().loss;
    job.steps(9);
    EXPECT_FALSE(job.trainer().finished());
    job.steps(1);
    EXPECT_TRUE(job.trainer().finished());
    EXPECT_LT(job.trainer().status().loss, 0.9 * first) << to_string(policy);
  }
}

void expect_same(Job& a, Job& b) {
  const auto left = a.network().state(), right = b.network().state();
  ASSERT_EQ(left.size(), right.size());
  for (size_t i = 0; i < left.size(); ++i) {
    EXPECT_EQ(left[i].first, right[i].first);
    EXPECT_TRUE(torch::equal(left[i].second, right[i].second)) << left[i].first;
  }
  const TrainStatus s = a.trainer().status(), t = b.trainer().status();
  EXPECT_EQ(s.epoch, t.epoch);
  EXPECT_EQ(s.step, t.step);
  EXPECT_EQ(s.loss, t.loss);
  EXPECT_EQ(s.accuracy, t.accuracy);
  EXPECT_EQ(s.learning_rate, t.learning_rate);
}

TEST(Trainer, RestoredRunEqualsTheUndisturbedOneBitByBit) {
  torch::set_num_threads(1);
  for (Optimizer optimizer : {Optimizer::kSgd, Optimizer::kAdam}) {
    for (bool dead : {false, true}) {
      for (int before : {0, 3, 5, 7}) {
        TrainOptions options = small_options(optimizer);
        options.average_share = dead ? 0.7 : 0;  // from step 5 of 15 on
        Job whole(options, Policy::kPact, 3, dead), first(options, Policy::kPact, 3, dead);
        whole.steps(9);
        first.steps(before);
        const std::string saved = first.trainer().save();
        Job second(options, Policy::kPact, 3, dead);
        second.steps(2);  // a used trainer is as good as a new one
        second.trainer().restore(saved);
        expect_same(first, second);
        const std::string again = second.trainer().save();
        Job third(options, Policy::kPact, 3, dead);
        third.trainer().restore(again);
        third.steps(9 - before);
        expect_same(whole, third);
        whole.trainer().apply_average();
        third.trainer().apply_average();
        expect_same(whole, third);
      }
    }
  }
}

TEST(Trainer, AveragesTheParametersOfTheLastSteps) {
  TrainOptions options = small_options();
  options.average_share = 0.2;  // 3 of 15 steps
  Job job(options), plain(small_options());
  std::vector<Tensor> means;
  for (int step = 1; step <= 15; ++step) {
    job.steps(1);
    plain.steps(1);
    const std::vector<Tensor> now = job.network().parameter_groups().weights;
    if (means.empty()) {
      for (const Tensor& weight : now) means.push_back(torch::zeros_like(weight.detach()));
    }
    for (size_t i = 0; i < now.size() && step > 12; ++i) means[i] += now[i].detach() / 3;
  }
  const auto weights = [](Job& of, size_t i) { return of.network().parameter_groups().weights[i].detach(); };
  for (size_t i = 0; i < means.size(); ++i)
    EXPECT_TRUE(torch::equal(weights(job, i), weights(plain, i))) << "training itself is the same";
  job.trainer().apply_average();
  plain.trainer().apply_average();
  for (size_t i = 0; i < means.size(); ++i) {
    EXPECT_TRUE(torch::allclose(weights(job, i), means[i], 1e-5, 1e-7));
    EXPECT_FALSE(torch::allclose(weights(job, i), weights(plain, i), 1e-5, 1e-7));
  }
}

ErrorCode restore_code(Trainer& trainer, const std::string& payload) {
  try {
    trainer.restore(payload);
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::kInternal;
}

TEST(Trainer, RefusesCheckpointsOfOtherRuns) {
  Job job(small_options());
  job.steps(1);
  const std::string saved = job.trainer().save();
  Job bits(small_options(), Policy::kLsq, 4), policy(small_options(), Policy::kSawb),
      adam(small_options(Optimizer::kAdam));
  TrainOptions slower = small_options();
  slower.learning_rate *= 0.5;
  Job rate(slower), same(small_options());
  for (Job* other : {&bits, &policy, &adam, &rate})
    EXPECT_EQ(restore_code(other->trainer(), saved), ErrorCode::kBadInput);
  EXPECT_NO_THROW(same.trainer().restore(saved));
}

TEST(Trainer, RefusesDamagedPayloadsWithoutCrashing) {
  Job job(small_options());
  job.steps(2);
  const std::string saved = job.trainer().save();
  for (size_t length : {size_t{0}, size_t{1}, size_t{100}, saved.size() / 2, saved.size() - 1}) {
    EXPECT_EQ(restore_code(job.trainer(), saved.substr(0, length)), ErrorCode::kCorruptFile) << length;
  }
  int refused = 0;
  bitstrata::Random random(1, 1);
  for (int i = 0; i < 200; ++i) {
    std::string damaged = saved;
    damaged[random.below(damaged.size())] ^= static_cast<char>(1 << random.below(8));
    try {
      job.trainer().restore(damaged);
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 0) << "most flips change numbers, which only the checksum of the file can tell";
  job.trainer().restore(saved);
  EXPECT_NO_THROW(job.steps(1));
}

TEST(Trainer, ReportsDivergence) {
  TrainOptions wild = small_options();
  wild.learning_rate = 1e30;
  wild.clip_norm = 0;
  wild.warmup_epochs = 0;
  Job job(wild);
  try {
    job.steps(15);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kJobFailed);
    EXPECT_NE(std::string(error.what()).find("diverged"), std::string::npos);
  }
}

TEST(Trainer, RefusesAnEmptyBatch) {
  TrainOptions none = small_options();
  none.batch = 0;
  EXPECT_THROW(Job{none}, Error);
}

TEST(Checkpoint, RefusesEveryTruncationAndFlippedByte) {
  const auto path = std::filesystem::temp_directory_path() / "bitstrata_checkpoint_test";
  std::string payload;
  for (int i = 0; i < 300; ++i) payload += static_cast<char>(i * 7);
  write_checkpoint(path, payload);
  EXPECT_EQ(read_checkpoint(path), payload);
  const auto file = read_file(path, 1 << 20);
  const auto code_of = [&](std::vector<uint8_t> bytes) {
    write_file_atomically(path, bytes);
    try {
      read_checkpoint(path);
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::kInternal;
  };
  for (size_t length = 0; length < file.size(); length += 11) {
    EXPECT_EQ(code_of({file.begin(), file.begin() + static_cast<long>(length)}), ErrorCode::kCorruptFile)
        << length;
  }
  for (size_t i = 0; i < file.size(); ++i) {
    auto damaged = file;
    damaged[i] ^= 0x10;
    EXPECT_EQ(code_of(damaged), ErrorCode::kCorruptFile) << i;
  }
  auto longer = file;
  longer.push_back(0);
  EXPECT_EQ(code_of(longer), ErrorCode::kCorruptFile);
  std::filesystem::remove(path);
  EXPECT_EQ(
      [&] {
        try {
          read_checkpoint(path);
        } catch (const Error& error) {
          return error.code();
        }
        return ErrorCode::kInternal;
      }(),
      ErrorCode::kIo);
}

}  // namespace
}  // namespace bitstrata::train
