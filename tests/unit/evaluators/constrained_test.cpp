#include "evaluators/constrained.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "core/error.h"
#include "data/batches.h"
#include "tests/unit/compile/sample_graphs.h"
#include "train/architectures.h"

namespace bitstrata::evaluators {
namespace {

using compile::testing::residual_net;
using graph::Graph;
using search::Assignment;
using search::Constraints;
using torch::Tensor;

std::map<std::string, Tensor> tensors_of(const train::Network& network) {
  const auto state = network.state();
  return {state.begin(), state.end()};
}

/// A parameter or buffer by the name of its node.
Tensor part(const train::Network& network, const std::string& node, const std::string& name) {
  const auto& nodes = network.graph().nodes;
  for (size_t n = 0; n < nodes.size(); ++n) {
    if (nodes[n].name == node) return tensors_of(network).at(fmt::format("node{}.{}", n, name));
  }
  throw std::out_of_range(node);
}

/// A float and a quantized network of one sample graph, and one pass of both.
class Pair {
 public:
  explicit Pair(Graph graph, int bits = 3)
      : plan_(plan::uniform_plan(graph, bits, bits, quant::Policy::kLsq, true)),
        quantizers_(compile::testing::sample_quantizers(graph, plan_)),
        space_(search::make_space(graph, {})),
        f(graph, plan::uniform_plan(graph, 0, 0, quant::Policy::kLsq, true), {}),
        q(graph, plan_, quantizers_),
        terms(graph, space_) {
    q.use_weights_of(f);
    for (Tensor scale : q.parameter_groups().log_scales) scale.set_requires_grad(false);
    terms.set_ranges(quantizers_);
    std::vector<int64_t> dims{6};
    const auto& per_image = graph.values[static_cast<size_t>(graph.input)].dims;
    dims.insert(dims.end(), per_image.begin(), per_image.end());
    torch::manual_seed(5);
    x = torch::randn(dims);
  }

  /// What the quantized network reads at the input of a node, before and after rounding.
  std::pair<Tensor, Tensor> edge(const std::string& node, plan::EdgeRole role) {
    std::pair<Tensor, Tensor> found;
    q.set_edge_hook([&](const graph::Node& at, plan::EdgeRole its, graph::ValueId, const Tensor& before,
                        const Tensor& after) {
      if (at.name == node && its == role) found = {before, after.detach()};
      return after.detach();
    });
    q.forward(x);
    q.set_edge_hook({});
    return found;
  }

  Tensor norm(const train::Network& network, const std::string& node, const Tensor& y) const {
    return torch::batch_norm(y, part(network, node, "gamma"), part(network, node, "beta"),
                             part(network, node, "mean"), part(network, node, "variance"), false, 0.1, 1e-5,
                             false);
  }

  /// The distance of layer "b" of residual_net from its definition: convolution, batch norm, residual
  /// addition and ReLU fed with the quantized inputs, against the quantized input of the next layer.
  Tensor term_of_b() {
    const Tensor input = edge("b", plan::EdgeRole::kLayerInput).second;
    const Tensor skip = edge("add1", plan::EdgeRole::kStream).second;
    const Tensor out = edge("c", plan::EdgeRole::kLayerInput).second;
    const Tensor y = norm(f, "b/bn", torch::conv2d(input, part(f, "b", "weight"), {}, 1, 1));
    return (torch::clamp(torch::relu(y + skip), 0, high("c")) / high("c") - out / high("c")).square().mean();
  }
  double high(const std::string& layer) const {
    const quant::CodeType& type = quantizers_.layers.at(layer).input;
    return static_cast<double>(type.scale) * ((1 << type.bits) - 1);
  }
  size_t index(const std::string& layer) const {
    for (size_t l = 0; l < space_.layers.size(); ++l) {
      if (space_.layers[l].name == layer) return l;
    }
    throw std::out_of_range(layer);
  }

 private:
  plan::Plan plan_;
  compile::Quantizers quantizers_;
  search::Space space_;

 public:
  train::Network f, q;
  LayerTerms terms;
  Tensor x;
};

TEST(LayerTerms, EqualADirectComputation) {
  Pair pair(residual_net());
  const Distances distances = pair.terms.compare(pair.f, pair.x, pair.terms.run_quantized(pair.q, pair.x));
  const double expected = pair.term_of_b().item<double>();
  EXPECT_GT(expected, 1e-3);
  EXPECT_NEAR(distances.layers[pair.index("b")].item<double>(), expected, 1e-6);

  const Tensor input = pair.edge("fc", plan::EdgeRole::kLayerInput).second;
  const Tensor mine = torch::linear(input, part(pair.f, "fc", "weight"), part(pair.f, "fc", "bias"));
  const Tensor theirs = pair.q.forward(pair.x);
  const double logits = ((mine - theirs).square().mean() / theirs.square().mean()).item<double>();
  EXPECT_NEAR(distances.layers[pair.index("fc")].item<double>(), logits, 1e-6);
}

TEST(LayerTerms, GradientsAreThoseOfTheLayerAlone) {
  Pair pair(residual_net());
  const Distances distances = pair.terms.compare(pair.f, pair.x, pair.terms.run_quantized(pair.q, pair.x));
  std::vector<Tensor> parameters = pair.f.parameter_groups().weights;
  for (const Tensor& other : pair.f.parameter_groups().others) parameters.push_back(other);
  const auto found =
      torch::autograd::grad({distances.layers[pair.index("b")]}, parameters, {}, true, false, true);
  const auto expected = torch::autograd::grad({pair.term_of_b()}, parameters, {}, true, false, true);
  int reached = 0;
  for (size_t i = 0; i < parameters.size(); ++i) {
    ASSERT_EQ(found[i].defined(), expected[i].defined()) << i;
    if (!found[i].defined()) continue;
    ++reached;
    EXPECT_GT(expected[i].abs().max().item<double>(), 0);
    EXPECT_TRUE(torch::allclose(found[i], expected[i], 1e-4, 1e-7)) << i;
  }
  EXPECT_EQ(reached, 3) << "weights, gain and shift of b";
  for (const Tensor& norm : pair.q.parameter_groups().others) {
    const auto none =
        torch::autograd::grad({distances.layers[pair.index("b")]}, {norm}, {}, true, false, true);
    EXPECT_FALSE(none[0].defined());
  }
}

TEST(LayerTerms, NormsOfTheQuantizedNetworkFollowTheFloatValueBeforeRounding) {
  Pair pair(residual_net());
  const Distances distances = pair.terms.compare(pair.f, pair.x, pair.terms.run_quantized(pair.q, pair.x));
  const Tensor gain = part(pair.q, "b/bn", "gamma");
  const Tensor before = pair.edge("c", plan::EdgeRole::kLayerInput).first;
  const Tensor input = pair.edge("b", plan::EdgeRole::kLayerInput).second;
  const Tensor skip = pair.edge("add1", plan::EdgeRole::kStream).second;
  const Tensor mine =
      torch::relu(pair.norm(pair.f, "b/bn", torch::conv2d(input, part(pair.f, "b", "weight"), {}, 1, 1)) +
                  skip)
          .detach();
  const double high = pair.high("c");
  const Tensor direct =
      (torch::clamp(before, 0, high) - torch::clamp(mine, 0, high)).square().mean() / (high * high);
  const auto expected = torch::autograd::grad({direct}, {gain});
  const auto found = torch::autograd::grad({distances.norms}, {gain}, {}, true);
  EXPECT_GT(expected[0].abs().max().item<double>(), 0);
  EXPECT_TRUE(torch::allclose(found[0], expected[0], 1e-4, 1e-7));
  const auto of_float =
      torch::autograd::grad({distances.norms}, pair.f.parameter_groups().weights, {}, true, false, true);
  for (const Tensor& gradient : of_float) EXPECT_FALSE(gradient.defined());
}

TEST(LayerTerms, CoverEveryKindOfNetwork) {
  using namespace compile::testing;
  for (const Graph& graph :
       {residual_net(), dense_net(), max_pool_net(), squeeze_net(), mobile_net(), linear_net()}) {
    Pair coarse(graph, 2), fine(graph, 8);
    const auto sum = [](Pair& pair) {
      double total = 0;
      const auto distances = pair.terms.compare(pair.f, pair.x, pair.terms.run_quantized(pair.q, pair.x));
      for (const Tensor& term : distances.layers) {
        EXPECT_GT(term.item<double>(), 0);
        total += term.item<double>();
      }
      return total;
    };
    EXPECT_LT(sum(fine), 0.2 * sum(coarse));
  }
}

/// A small lenet on the digits.
class Job {
 public:
  explicit Job(train::Optimizer optimizer = train::Optimizer::kSgd, int images = 320)
      : dataset_(data::load("digits")),
        setting_(make_setting(optimizer, images)),
        measure_(setting_),
        evaluator_(measure_, 192) {
    torch::set_num_threads(1);
  }

  const Setting& setting() const { return setting_; }
  Constrained& evaluator() { return evaluator_; }
  Assignment bits(int bits) const {
    Assignment assignment = setting_.space.highest();
    for (size_t l = 0; l < assignment.size(); ++l)
      assignment[l] = {bits, setting_.space.layers[l].activation_bits.size() == 1 ? 8 : bits};
    return assignment;
  }
  Constraints multipliers(double output, double layer) const {
    return {output, std::vector<double>(setting_.space.layers.size(), layer)};
  }

 private:
  Setting make_setting(train::Optimizer optimizer, int images) const {
    Setting setting;
    setting.graph = train::make_architecture("lenet", 1, 8, 8, 10, 3);
    setting.space = search::make_space(setting.graph, {});
    setting.dataset = &dataset_;
    setting.normalization = data::default_normalization(1);
    setting.holdout.train = data::all_indices(static_cast<size_t>(images));
    for (int64_t i = images; i < images + 100; ++i) setting.holdout.val.push_back(i);
    setting.calibration_images = 128;
    setting.training.batch = 64;
    setting.training.optimizer = optimizer;
    setting.training.epochs = 1000;
    return setting;
  }

  data::Dataset dataset_;
  Setting setting_;
  Measure measure_;
  Constrained evaluator_;
};

double rate_of(train::Optimizer optimizer) {
  return optimizer == train::Optimizer::kSgd ? 0.05 : 0.003;
}

void expect_same_state(const train::Network& a, const train::Network& b) {
  const auto left = a.state(), right = b.state();
  ASSERT_EQ(left.size(), right.size());
  for (size_t i = 0; i < left.size(); ++i)
    EXPECT_TRUE(torch::equal(left[i].second, right[i].second)) << left[i].first;
}

TEST(Constrained, WithoutMultipliersTheFloatNetworkTrainsAsAlone) {
  for (const auto optimizer : {train::Optimizer::kSgd, train::Optimizer::kAdam}) {
    Job job(optimizer);
    const Setting& setting = job.setting();
    train::Network alone(setting.graph, plan::uniform_plan(setting.graph, 0, 0, setting.policy, true), {});
    train::Trainer trainer(alone, *setting.dataset, setting.holdout.train, setting.normalization,
                           setting.training);
    for (int step = 0; step < 7; ++step) {
      const double expected = trainer.step(rate_of(optimizer));
      EXPECT_EQ(job.evaluator().lagrangian_step(job.bits(2), job.multipliers(0, 0), rate_of(optimizer)),
                expected);
    }
    expect_same_state(job.evaluator().float_network(), alone);
  }
}

TEST(Constrained, TheQuantizedNetworkReadsTheFloatWeightsAndHasItsOwnNorms) {
  Job job;
  for (int step = 0; step < 6; ++step)
    job.evaluator().lagrangian_step(job.bits(2), job.multipliers(1, 0.5), 0.05);
  const Graph f = job.evaluator().float_network().to_graph(),
              q = job.evaluator().quantized_network().to_graph();
  int layers = 0, moved = 0;
  for (size_t n = 0; n < f.nodes.size(); ++n) {
    if (const auto* conv = std::get_if<graph::Conv>(&f.nodes[n].kind)) {
      EXPECT_EQ(conv->weights, std::get<graph::Conv>(q.nodes[n].kind).weights);
      EXPECT_NE(conv->weights, std::get<graph::Conv>(job.setting().graph.nodes[n].kind).weights);
      ++layers;
    } else if (const auto* norm = std::get_if<graph::BatchNorm>(&f.nodes[n].kind)) {
      const auto& own = std::get<graph::BatchNorm>(q.nodes[n].kind);
      moved += own.gamma != std::get<graph::BatchNorm>(job.setting().graph.nodes[n].kind).gamma;
      EXPECT_NE(own.gamma, norm->gamma);
      EXPECT_NE(own.mean, norm->mean);
    }
  }
  EXPECT_EQ(layers, 2);
  EXPECT_GE(moved, 2);
}

double sum_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

TEST(Constrained, ProximitiesAreSmallAtEightBitsAndGrowAsBitsFall) {
  Job job;
  for (int step = 0; step < 20; ++step)
    job.evaluator().lagrangian_step(job.bits(8), job.multipliers(0, 0), 0.05);
  double before = 0;
  for (int bits : {8, 6, 4, 3, 2, 1}) {
    const Constraints found = job.evaluator().proximities(job.bits(bits));
    ASSERT_EQ(found.layers.size(), job.setting().space.layers.size());
    EXPECT_GT(sum_of(found.layers), before) << bits;
    before = sum_of(found.layers);
    EXPECT_LT(before, bits == 8 ? 0.01 : 100.0);
    const Constraints again = job.evaluator().proximities(job.bits(bits));
    EXPECT_EQ(found.layers, again.layers);
    EXPECT_EQ(found.output, again.output);
  }
}

TEST(Constrained, ConstraintsPullTheNetworksTogether) {
  Job free, bound;
  for (int step = 0; step < 60; ++step) {
    free.evaluator().lagrangian_step(free.bits(2), free.multipliers(0, 0), 0.02);
    bound.evaluator().lagrangian_step(bound.bits(2), bound.multipliers(0, 3), 0.02);
  }
  const double apart = sum_of(free.evaluator().proximities(free.bits(2)).layers);
  const double close = sum_of(bound.evaluator().proximities(bound.bits(2)).layers);
  EXPECT_LT(close, 0.8 * apart) << apart;
  RecordProperty("free", std::to_string(apart));
  RecordProperty("bound", std::to_string(close));
  EXPECT_GT(bound.evaluator().evaluate(bound.bits(4)).accuracy, 0.6);
}

TEST(Constrained, RestoredRunEqualsTheUndisturbedOneBitByBit) {
  for (const auto optimizer : {train::Optimizer::kSgd, train::Optimizer::kAdam}) {
    Job whole(optimizer), first(optimizer), second(optimizer);
    const auto step = [&](Job& job, int i) {  // bits change in the middle of an epoch
      return job.evaluator().lagrangian_step(job.bits(i < 3 ? 8 : 3), job.multipliers(1, 0.3),
                                             rate_of(optimizer));
    };
    for (int i = 0; i < 8; ++i) step(whole, i);
    for (int i = 0; i < 4; ++i) step(first, i);
    step(second, 0);  // a used evaluator is as good as a new one
    second.evaluator().restore(first.evaluator().save());
    expect_same_state(first.evaluator().quantized_network(), second.evaluator().quantized_network());
    EXPECT_EQ(first.evaluator().proximities(first.bits(3)).layers,
              second.evaluator().proximities(second.bits(3)).layers);
    for (int i = 4; i < 8; ++i) step(second, i);
    expect_same_state(whole.evaluator().float_network(), second.evaluator().float_network());
    expect_same_state(whole.evaluator().quantized_network(), second.evaluator().quantized_network());
    EXPECT_EQ(whole.evaluator().evaluate(whole.bits(3)).loss,
              second.evaluator().evaluate(second.bits(3)).loss);
  }
}

TEST(Constrained, RefusesWhatDoesNotFit) {
  Job job, other(train::Optimizer::kAdam);
  const auto code_of = [](const auto& call) {
    try {
      call();
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::kInternal;
  };
  EXPECT_EQ(code_of([&] { job.evaluator().lagrangian_step(job.bits(8), {}, 0.1); }),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { job.evaluator().lagrangian_step(job.bits(8), job.multipliers(-1, 0), 0.1); }),
            ErrorCode::kInvalidArgument);
  const std::string saved = job.evaluator().save();
  EXPECT_EQ(code_of([&] { other.evaluator().restore(saved); }), ErrorCode::kBadInput);
  for (size_t length : {size_t{0}, size_t{100}, saved.size() / 2, saved.size() - 1})
    EXPECT_EQ(code_of([&] { job.evaluator().restore(saved.substr(0, length)); }), ErrorCode::kCorruptFile);
  EXPECT_NO_THROW(job.evaluator().restore(saved));
}

}  // namespace
}  // namespace bitstrata::evaluators
