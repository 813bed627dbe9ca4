#include "evaluators/sensitivity.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "data/batches.h"
#include "quant/weights.h"
#include "tests/unit/compile/sample_graphs.h"
#include "train/architectures.h"

namespace bitstrata::evaluators {
namespace {

using search::BitPair;
using torch::Tensor;

/// Few weights and no kinks, so that finite differences see the same curvature as derivatives do.
graph::Graph smooth_net() {
  compile::testing::NetMaker m({1, 8, 8});
  const auto sigmoid = [&](const std::string& name, graph::ValueId x) {
    return m.add(name, graph::testing::function(program::Function::kSigmoid), {x});
  };
  graph::ValueId x = sigmoid("s1", m.bn("a/bn", m.conv("a", 0, 3, 3, 2)));
  x = sigmoid("s2", m.bn("b/bn", m.conv("b", x, 2, 3, 2)));
  m.head(x, 10);
  return m.graph;
}

class Job {
 public:
  explicit Job(graph::Graph graph, SensitivityOptions options = {}, uint64_t seed = 1)
      : dataset_(data::load("digits")),
        setting_(make_setting(std::move(graph), seed)),
        measure_(setting_),
        tables_(measure_, options) {}

  const Setting& setting() const { return setting_; }
  const Measure& measure() const { return measure_; }
  Sensitivities& tables() { return tables_; }
  const graph::Conv& conv(size_t layer) const {
    size_t seen = 0;
    for (const graph::Node& node : setting_.graph.nodes) {
      const auto* conv = std::get_if<graph::Conv>(&node.kind);
      if (conv && seen++ == layer) return *conv;
    }
    throw std::out_of_range("no such convolution");
  }

 private:
  Setting make_setting(graph::Graph graph, uint64_t seed) const {
    Setting setting;
    setting.space = search::make_space(graph, {});
    setting.graph = std::move(graph);
    setting.dataset = &dataset_;
    setting.normalization = data::default_normalization(1);
    setting.holdout.train = data::all_indices(600);
    for (int64_t i = 600; i < 700; ++i) setting.holdout.val.push_back(i);
    setting.calibration_images = 128;
    setting.seed = seed;
    return setting;
  }

  data::Dataset dataset_;
  Setting setting_;
  Measure measure_;
  Sensitivities tables_;
};

graph::Graph lenet() {
  return train::make_architecture("lenet", 1, 8, 8, 10, 3);
}

TEST(Sensitivities, WeightErrorAndEntropyAreThoseOfTheCodes) {
  Job job(lenet());
  const graph::Conv& conv = job.conv(1);
  double before = 1e30;
  for (int bits = 1; bits <= 8; ++bits) {
    const auto params =
        quant::initial_params(quant::Policy::kLsq, bits, conv.weights, conv.oc, /*per_channel=*/true);
    const auto q = quant::quantize_weights(quant::Policy::kLsq, bits, conv.weights, conv.oc, params);
    double error = 0;
    std::map<int, double> uses;
    const size_t row = conv.weights.size() / q.scale.size();
    for (size_t i = 0; i < conv.weights.size(); ++i) {
      error += std::pow(q.scale[i / row] * static_cast<double>(q.grid.at(q.codes[i])) - conv.weights[i], 2);
      uses[q.codes[i]] += 1.0 / static_cast<double>(conv.weights.size());
    }
    double entropy = 0;
    for (const auto& [code, p] : uses) entropy -= p * std::log2(p);
    EXPECT_NEAR(job.tables().weight_error(1, bits), error, 1e-9 * error) << bits;
    EXPECT_NEAR(job.tables().code_entropy(1, bits), entropy, 1e-9) << bits;
    EXPECT_LE(job.tables().code_entropy(1, bits), bits + 1e-9);
    EXPECT_LT(job.tables().weight_error(1, bits), before) << bits;
    before = job.tables().weight_error(1, bits);
  }
}

TEST(Sensitivities, SqnrIsThatOfTheLogitsWithOneLayerQuantized) {
  Job job(lenet());
  const Setting& setting = job.setting();
  plan::Plan plan = plan::uniform_plan(setting.graph, 0, 0, setting.policy, setting.per_channel);
  train::Network whole(setting.graph, plan, {});
  plan.layers[1].weight_bits = 2;
  plan.layers[1].activation_bits = 3;
  train::Network one(setting.graph, plan, job.measure().quantizers(plan));
  const torch::NoGradGuard no_grad;
  const Tensor x = job.measure().calibration_batches().at(0);
  ASSERT_EQ(x.size(0), 128);
  const Tensor y = whole.forward(x), z = one.forward(x);
  const double expected =
      10 * std::log10(y.square().mean().item<double>() / ((y - z).square().mean().item<double>() + 1e-4));
  EXPECT_NEAR(job.tables().output_sqnr(1, {2, 3}), expected, 1e-4);
}

TEST(Sensitivities, SqnrRisesWithBits) {
  Job job(lenet());
  for (size_t layer = 0; layer < job.setting().space.layers.size(); ++layer) {
    double before = -1e30;
    for (int bits : {1, 2, 4, 8}) {
      const double db = job.tables().output_sqnr(layer, {bits, bits});
      EXPECT_GT(db, before) << layer << " at " << bits;
      before = db;
    }
    EXPECT_GT(before, 20) << layer;
  }
}

/// Gradients of the mean loss by the weights of every layer.
std::vector<Tensor> loss_gradient(train::Network& network, const Tensor& x, const Tensor& labels) {
  const Tensor loss = torch::nn::functional::cross_entropy(network.forward(x), labels);
  return torch::autograd::grad({loss}, network.parameter_groups().weights);
}

TEST(Sensitivities, TraceIsTheSumOfTheHessiansDiagonal) {
  SensitivityOptions options;
  options.max_draws = 1000;
  options.tolerance = 0;
  options.hessian_images = 96;
  options.hessian_batch = 96;
  Job job(smooth_net(), options);
  const Setting& setting = job.setting();
  train::Network network(setting.graph, plan::uniform_plan(setting.graph, 0, 0, setting.policy, false), {});
  // The same images: the first of the same shuffle.
  std::vector<int64_t> chosen = data::shuffled(setting.holdout.train, setting.seed, 0x68657373);
  chosen.resize(96);
  const data::BatchFiller filler(*setting.dataset, data::Split::kTrain, setting.normalization);
  const auto [x, labels] = train::plain_batch(filler, *setting.dataset, chosen);
  const std::vector<Tensor> weights = network.parameter_groups().weights;
  ASSERT_EQ(weights.size(), setting.space.layers.size());
  const auto gradient = [&] {
    std::vector<Tensor> flat;
    for (const Tensor& g : loss_gradient(network, x, labels)) flat.push_back(g.contiguous().reshape({-1}));
    return torch::cat(flat).to(torch::kDouble);
  };
  constexpr double kStep = 1e-2;
  int64_t first = 0;
  for (size_t l = 0; l < weights.size(); ++l) {
    const int64_t n = weights[l].numel();
    const Tensor values = weights[l].detach();
    std::vector<Tensor> rows;  // of the Hessian
    for (int64_t i = 0; i < n; ++i) {
      const Tensor unit = torch::zeros({n}).index_put_({i}, kStep).reshape(values.sizes());
      const Tensor start = values.clone();
      values.copy_(start + unit);
      const Tensor above = gradient();
      values.copy_(start - unit);
      rows.push_back((above - gradient()) / (2 * kStep));
      values.copy_(start);
    }
    const Tensor block = torch::stack(rows), own = block.narrow(1, first, n);
    const double trace = own.trace().item<double>();
    const double inside = own.square().sum().item<double>();
    // Of v_l . (H v)_l: every pair of weights inside the layer counts twice, with those outside once.
    const double variance = 2 * (inside - own.diagonal().square().sum().item<double>()) +
                            block.square().sum().item<double>() - inside;
    const double error = 4 * std::sqrt(variance / options.max_draws) + 0.02 * std::fabs(trace);
    EXPECT_NEAR(job.tables().hessian_trace(l) * static_cast<double>(n), trace, error) << l;
    if (l + 1 == weights.size()) {
      EXPECT_LT(error, 0.3 * trace) << "else the test says nothing";
    }
    first += n;
  }
}

TEST(Sensitivities, TraceDoesNotDependOnTheBatchesOfImages) {
  SensitivityOptions options;
  options.max_draws = 3;
  options.hessian_images = 100;
  options.hessian_batch = 100;
  Job whole(lenet(), options);
  options.hessian_batch = 30;
  Job parts(lenet(), options);
  for (size_t l = 0; l < whole.setting().space.layers.size(); ++l)
    EXPECT_NEAR(whole.tables().hessian_trace(l), parts.tables().hessian_trace(l),
                1e-3 * std::fabs(whole.tables().hessian_trace(l)) + 1e-7);
}

TEST(Sensitivities, TracesGoOnBetweenDraws) {
  SensitivityOptions options;
  options.max_draws = 4;
  options.tolerance = 0;
  options.hessian_images = 40;
  Job whole(lenet(), options);
  const double trace = whole.tables().hessian_trace(1);
  std::string state = Job(lenet(), options).tables().save();
  int draws = 0;
  for (bool done = false; !done; ++draws) {
    Job part(lenet(), options);
    part.tables().restore(state);
    done = part.tables().refine_traces();
    state = part.tables().save();
  }
  EXPECT_EQ(draws, 4);
  Job last(lenet(), options);
  last.tables().restore(state);
  EXPECT_EQ(last.tables().hessian_trace(1), trace);
}

TEST(Sensitivities, SavedTablesAreNotMeasuredAgain) {
  SensitivityOptions options;
  options.max_draws = 2;
  options.hessian_images = 40;
  Job first(lenet(), options), second(lenet(), options);
  const double trace = first.tables().hessian_trace(2), db = first.tables().output_sqnr(1, {3, 3});
  second.tables().restore(first.tables().save());
  EXPECT_EQ(second.tables().save(), first.tables().save());
  EXPECT_EQ(second.tables().hessian_trace(2), trace);
  EXPECT_EQ(second.tables().output_sqnr(1, {3, 3}), db);

  options.max_draws = 3;
  Job other(lenet(), options);
  const auto code_of = [&](const std::string& state) {
    try {
      other.tables().restore(state);
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::kInternal;
  };
  EXPECT_EQ(code_of(first.tables().save()), ErrorCode::kBadInput);
  EXPECT_EQ(code_of("{}"), ErrorCode::kCorruptFile);
  EXPECT_EQ(code_of(first.tables().save().substr(0, 90)), ErrorCode::kCorruptFile);
}

TEST(Sensitivities, EvaluatesCalibratedPlans) {
  Job job(lenet());
  const auto low = job.tables().evaluate(job.setting().space.lowest());
  EXPECT_EQ(low.loss, job.measure().calibrated_score(job.setting().space.lowest()).loss);
  EXPECT_EQ(job.tables().float_score().loss, job.measure().float_score().loss);
}

TEST(Sensitivities, RefusesEmptyMeasurements) {
  SensitivityOptions options;
  options.hessian_images = 0;
  EXPECT_THROW(Job(lenet(), options), Error);
}

}  // namespace
}  // namespace bitstrata::evaluators
