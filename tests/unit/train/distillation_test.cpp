#include "train/distillation.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "data/dataset.h"
#include "train/architectures.h"
#include "train/calibrate.h"
#include "train/trainer.h"

namespace bitstrata::train {
namespace {

using quant::Policy;
using torch::Tensor;

std::unique_ptr<Network> in_float(const graph::Graph& graph) {
  return std::make_unique<Network>(graph, plan::uniform_plan(graph, 0, 0, Policy::kLsq, false),
                                   compile::Quantizers{});
}

/// y = relu(a x), then z = b y: one value between two layers.
graph::Graph two_layers(float a, float b) {
  graph::Graph g;
  g.values = {{"x", {1}, {}}, {"y", {1}, {}}, {"r", {1}, {}}, {"z", {1}, {}}};
  g.input = 0;
  g.outputs = {3};
  graph::Linear first, second;
  first.out = second.out = 1;
  first.weights = {a};
  second.weights = {b};
  graph::Activation relu;
  relu.step.kind = program::StepKind::kClip;
  relu.step.a = 0;
  relu.step.b = std::numeric_limits<float>::infinity();
  g.nodes = {{"first", first, {0}, 1}, {"relu", relu, {1}, 2}, {"second", second, {2}, 3}};
  return g;
}

TEST(Distillation, LayersLossIsTheRelativeSquaredDistanceOfValuesThatAreRounded) {
  const auto student = in_float(two_layers(3, 1));
  Distillation distillation(*student, in_float(two_layers(2, 5)), true);
  const Tensor x = torch::tensor({1.0f, -1.0f, 2.0f}).reshape({3, 1});
  const Tensor logits = distillation.forward(x);
  EXPECT_TRUE(torch::allclose(logits, torch::tensor({3.0f, 0.0f, 6.0f}).reshape({3, 1})));
  // r: 3, 0, 6 against 2, 0, 4. The input and the last layer's output are not read through a quantizer.
  const Tensor loss = distillation.layers_loss();
  EXPECT_NEAR(loss.item<double>(), (1.0 + 4.0) / (4 + 16), 1e-6);
  loss.backward();
  // d/da sum (a x - 2 x)^2 / 20 = 2 (3 - 2) (1 + 4) / 20
  EXPECT_NEAR(student->parameter_groups().weights.at(0).grad().item<double>(), 0.5, 1e-6);
  EXPECT_FALSE(student->parameter_groups().weights.at(1).grad().defined());
}

TEST(Distillation, LogitsLossIsTheCrossEntropyWithTheTeachersProbabilities) {
  const auto student = in_float(two_layers(1, 1));
  Distillation distillation(*student, in_float(two_layers(1, 1)), false);
  distillation.forward(torch::ones({1, 1}));
  EXPECT_EQ(distillation.layers_loss().item<double>(), 0) << "nothing was asked for";
  const graph::Graph graph = make_architecture("lenet", 1, 8, 8, 10, 3);
  const auto network = in_float(graph);
  Distillation same(*network, in_float(graph), true);
  const Tensor x = torch::randn({4, 1, 8, 8}), logits = same.forward(x);
  const Tensor p = torch::softmax(logits / 3, 1);
  EXPECT_NEAR(same.logits_loss(logits, 3).item<double>(), 9 * -(p * p.log()).sum(1).mean().item<double>(),
              1e-5);
  EXPECT_EQ(same.layers_loss().item<double>(), 0);
}

TEST(Distillation, TeacherMustHaveTheStudentsValues) {
  const auto student = in_float(two_layers(1, 1));
  graph::Graph other = two_layers(1, 1);
  other.values[2].name = "elsewhere";
  EXPECT_NO_THROW(Distillation(*student, in_float(other), false));
  try {
    Distillation(*student, in_float(other), true);
    FAIL() << "took a teacher without the value";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("'r'"), std::string::npos) << error.what();
  }
}

/// Mean distance of the layers' values from the float network's after 30 steps at `layer_weight`.
double distance_after_training(double layer_weight) {
  const data::Dataset digits = data::load("digits");
  const graph::Graph graph = make_architecture("lenet", 1, 8, 8, 10, 3);
  const std::vector<int64_t> indices = data::all_indices(320);
  const auto normalization = data::default_normalization(1);
  const auto batches = calibration_batches(digits, indices, normalization, 64, 32, 1);
  const graph::Graph with_norms = with_batch_norms(graph, batches, torch::kCPU);
  const plan::Plan plan = plan::uniform_plan(with_norms, 4, 4, Policy::kLsq, true);
  Network network(with_norms, plan,
                  calibrate(with_norms, plan, batches, quant::Calibration::kMse, torch::kCPU));
  TrainOptions options;
  options.epochs = 6;
  options.batch = 64;
  options.distill_weight = 1;
  options.layer_weight = layer_weight;
  Trainer trainer(network, digits, indices, normalization, options, in_float(graph));
  while (!trainer.finished()) trainer.step();
  Distillation distillation(network, in_float(graph), true);
  const torch::NoGradGuard no_grad;
  distillation.forward(batches.at(0));
  return distillation.layers_loss().item<double>();
}

TEST(Distillation, TrainingWithLayersStaysCloserToTheFloatNetwork) {
  const double without = distance_after_training(0), with = distance_after_training(5);
  EXPECT_LT(with, 0.8 * without);
}

}  // namespace
}  // namespace bitstrata::train
