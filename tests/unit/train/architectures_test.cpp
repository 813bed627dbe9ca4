#include "train/architectures.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "compile/lower.h"
#include "core/error.h"
#include "core/random.h"
#include "data/batches.h"
#include "data/dataset.h"
#include "onnx/export.h"
#include "onnx/import.h"
#include "plan/plan.h"
#include "runtime/session.h"
#include "train/calibrate.h"
#include "train/network.h"
#include "train/trainer.h"

namespace bitstrata::train {
namespace {

using torch::Tensor;

int64_t weights_of(const graph::Graph& graph) {
  int64_t count = 0;
  for (const graph::Node& node : graph.nodes) {
    if (const auto* conv = std::get_if<graph::Conv>(&node.kind))
      count += static_cast<int64_t>(conv->weights.size());
    if (const auto* linear = std::get_if<graph::Linear>(&node.kind))
      count += static_cast<int64_t>(linear->weights.size());
  }
  return count;
}

TEST(Architectures, HaveTheSizesOfTheirPapers) {
  const std::map<std::string, int64_t> expected{{"resnet20", 268'336},
                                                {"resnet32", 461'872},
                                                {"resnet56", 848'944},
                                                {"vgg-small", 4'656'512},
                                                {"mobilenet-v2", 2'202'560}};
  for (const auto& [name, weights] : expected) {
    EXPECT_EQ(weights_of(make_architecture(name, 3, 32, 32, 10, 1)), weights) << name;
  }
}

TEST(Architectures, RefuseWhatTheyCannotTake) {
  for (const std::string& name : architecture_names()) {
    EXPECT_THROW(make_architecture(name, 1, 7, 8, 10, 1), Error) << name;
    EXPECT_NO_THROW(make_architecture(name, 1, 8, 8, 2, 1)) << name;
  }
  EXPECT_THROW(make_architecture("resnet19", 3, 32, 32, 10, 1), Error);
}

TEST(Architectures, DrawTheirWeightsFromTheSeed) {
  const auto first = [](uint64_t seed) {
    return std::get<graph::Conv>(make_architecture("resnet20", 3, 32, 32, 10, seed).nodes[0].kind).weights;
  };
  EXPECT_EQ(first(1), first(1));
  EXPECT_NE(first(1), first(2));
}

class EveryArchitecture : public ::testing::TestWithParam<std::string> {
 protected:
  EveryArchitecture() : dataset_(data::load("digits")), normalization_(data::default_normalization(1)) {
    torch::manual_seed(0);
  }

  graph::Graph float_graph() const { return make_architecture(GetParam(), 1, 8, 8, 10, 3); }
  Tensor images(int64_t count) const {
    return calibration_batches(dataset_, data::all_indices(static_cast<size_t>(count)), normalization_,
                               static_cast<int>(count), static_cast<int>(count), 1)
        .front();
  }
  static Network as_float(const graph::Graph& graph) {
    return Network(graph, plan::uniform_plan(graph, 0, 0, quant::Policy::kLsq, false), {}, torch::kCPU);
  }

  data::Dataset dataset_;
  data::Normalization normalization_;
};

TEST_P(EveryArchitecture, LearnsAndIsTheSameAfterOnnx) {
  Network network = as_float(float_graph());
  TrainOptions options;
  options.epochs = 1;
  options.batch = 32;
  options.learning_rate = 0.02;
  options.warmup_epochs = 0;
  options.seed = 1;
  const std::vector<int64_t> few = data::all_indices(32 * 16);
  std::vector<double> losses;
  {
    Trainer trainer(network, dataset_, few, normalization_, options);
    while (!trainer.finished()) losses.push_back(trainer.step());
  }
  ASSERT_EQ(losses.size(), 16u);
  const double first = (losses[0] + losses[1]) / 2,
               last = (losses[12] + losses[13] + losses[14] + losses[15]) / 4;
  EXPECT_GT(first, 1.5);
  EXPECT_LT(last, first);

  const auto path =
      std::filesystem::temp_directory_path() / ("bitstrata-architecture-" + GetParam() + ".onnx");
  onnx::export_float(network.to_graph(), path);
  const graph::Graph imported = onnx::import_file(path);
  std::filesystem::remove(path);
  const Tensor x = images(16);
  torch::NoGradGuard no_gradients;
  network.set_training(false);
  Network again = as_float(imported);
  again.set_training(false);
  const Tensor before = network.forward(x), after = again.forward(x);
  EXPECT_LE((before - after).abs().max().item<float>(),
            1e-4 * std::max(1.f, before.abs().max().item<float>()));
}

TEST_P(EveryArchitecture, RunsPackedInTheRuntime) {
  const graph::Graph graph = float_graph();
  const plan::Plan plan = plan::uniform_plan(graph, 4, 4, quant::Policy::kLsq, true);
  const compile::Quantizers quantizers =
      calibrate(graph, plan, {images(32)}, quant::parse_calibration("mse"), torch::kCPU);
  const auto model = runtime::Model::prepare(compile::lower(graph, plan, quantizers), {});
  runtime::Session session(model);
  const Tensor x = images(1).contiguous();
  std::vector<float> logits(10);
  const std::vector<std::span<float>> outputs{logits};
  session.run({x.data_ptr<float>(), static_cast<size_t>(x.numel())}, 1, outputs);
  float largest = 0;
  for (float logit : logits) {
    EXPECT_TRUE(std::isfinite(logit));
    largest = std::max(largest, std::abs(logit));
  }
  EXPECT_GT(largest, 0);
}

INSTANTIATE_TEST_SUITE_P(Architectures, EveryArchitecture, ::testing::ValuesIn(architecture_names()),
                         [](const auto& name) {
                           std::string text = name.param;
                           std::ranges::replace(text, '-', '_');
                           return text;
                         });

}  // namespace
}  // namespace bitstrata::train
