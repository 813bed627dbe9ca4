#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>

#include "core/error.h"
#include "program/reference.h"
#include "tests/support/random_program.h"
#include "tests/unit/compile/sample_graphs.h"
#include "train/calibrate.h"
#include "train/exact.h"
#include "train/network.h"

namespace bitstrata::train {
namespace {

using quant::Policy;
using torch::Tensor;
using namespace compile::testing;

struct NamedGraph {
  const char* name;
  Graph graph;
};

std::vector<NamedGraph> sample_graphs() {
  return {{"residual", residual_net()}, {"dense", dense_net()},   {"max pool", max_pool_net()},
          {"squeeze", squeeze_net()},   {"mobile", mobile_net()}, {"linear", linear_net()}};
}

Tensor inputs(const program::Dims& dims, int64_t n, uint64_t seed) {
  torch::manual_seed(seed);
  std::vector<int64_t> batched{n};
  batched.insert(batched.end(), dims.begin(), dims.end());
  return torch::randn(batched);
}

/// Every tensor of `program` for one image, from the specification.
program::ReferenceTensors reference(const program::Program& program, const Tensor& x, int64_t image) {
  const Tensor one = x[image].contiguous();
  return program::run_reference(program, {one.data_ptr<float>(), static_cast<size_t>(one.numel())});
}

Tensor reference_logits(const program::Program& program, const Tensor& x) {
  std::vector<Tensor> rows;
  for (int64_t i = 0; i < x.size(0); ++i)
    rows.push_back(torch::tensor(reference(program, x, i).floats[static_cast<size_t>(program.outputs[0])]));
  return torch::stack(rows);
}

TEST(Network, FloatForwardEqualsTheFloatProgram) {
  for (const auto& [name, graph] : sample_graphs()) {
    const Tensor x = inputs(graph.values[0].dims, 4, 1);
    const torch::NoGradGuard no_grad;
    Network network(graph, plan::uniform_plan(graph, 0, 0, Policy::kLsq, false), {});
    EXPECT_TRUE(
        torch::allclose(network.forward(x), reference_logits(compile::lower_float(graph), x), 1e-4, 1e-4))
        << name;
  }
}

TEST(Network, FakeQuantizedForwardEqualsThePackedProgram) {
  for (const auto& [name, graph] : sample_graphs()) {
    const Tensor x = inputs(graph.values[0].dims, 8, 2);
    for (Policy policy : quant::kAllPolicies) {
      for (const auto& [weight_bits, activation_bits] : {std::pair{1, 2}, {2, 3}, {4, 4}, {8, 8}}) {
        for (bool per_channel : {false, true}) {
          const plan::Plan plan =
              plan::uniform_plan(graph, weight_bits, activation_bits, policy, per_channel);
          const torch::NoGradGuard no_grad;
          Network network(graph, plan, calibrate(graph, plan, {x}, quant::Calibration::kMse, torch::kCPU));
          const Tensor trained = network.forward(x), packed = reference_logits(network.lower(), x);
          const double size = packed.abs().max().item<double>();
          ASSERT_GT(size, 1e-3) << name;
          // Float rounding may move a value across a rounding border in rare cases, hence a share and not
          // all.
          const double equal =
              ((trained - packed).abs() < 1e-4 * size).to(torch::kFloat).mean().item<double>();
          EXPECT_GT(equal, 0.85) << name << " " << to_string(policy) << " " << weight_bits << "x"
                                 << activation_bits << " per channel " << per_channel;
        }
      }
    }
  }
}

TEST(Network, BroadcastsOperandsOfFewerDimsImageByImage) {
  NetMaker m({3, 4, 4});
  const ValueId columns = m.add("columns", program::ReduceMean{{0, 1}, false}, {0});  // [4]
  m.add("sum", graph::Binary{}, {m.conv("a", 0, 3, 1), columns});
  const Tensor x =
      inputs({3, 4, 4}, 4, 3);  // a batch as large as the channel and the width would hide a wrong axis
  const torch::NoGradGuard no_grad;
  Network network(m.graph, plan::uniform_plan(m.graph, 0, 0, Policy::kLsq, false), {});
  const Tensor found = network.forward(x).reshape({4, -1}),
               expected = reference_logits(compile::lower_float(m.graph), x);
  EXPECT_TRUE(torch::allclose(found, expected, 1e-4, 1e-4));
}

TEST(Network, AveragesOverDilatedWindows) {
  NetMaker m({2, 7, 7});
  program::AveragePool pool;
  pool.window = {2, 3, 2, 1, 2, 2, 1, 2, 0, 1};
  m.add("pool", pool, {0});
  const Tensor x = inputs({2, 7, 7}, 3, 4);
  Network network(m.graph, plan::uniform_plan(m.graph, 0, 0, Policy::kLsq, false), {});
  EXPECT_TRUE(torch::allclose(network.forward(x).reshape({3, -1}),
                              reference_logits(compile::lower_float(m.graph), x), 1e-5, 1e-5));
}

TEST(Network, GraphAndQuantizersSurviveTheTripThroughTensors) {
  const Graph graph = mobile_net();
  const plan::Plan plan = plan::uniform_plan(graph, 4, 4, Policy::kLsq, true);
  const compile::Quantizers quantizers = sample_quantizers(graph, plan);
  const Network network(graph, plan, quantizers);
  const Graph back = network.to_graph();
  EXPECT_EQ(graph::describe(back), graph::describe(graph));
  EXPECT_EQ(std::get<graph::Conv>(back.nodes[0].kind).weights,
            std::get<graph::Conv>(graph.nodes[0].kind).weights);
  for (const auto& [name, layer] : network.quantizers().layers) {
    EXPECT_EQ(layer.weight_params, quantizers.layers.at(name).weight_params);
    EXPECT_EQ(layer.input, quantizers.layers.at(name).input);
  }
  EXPECT_EQ(network.quantizers().streams, quantizers.streams);
}

/// A quantized network and, for each of its layers, the change to `bits`.
struct Changeable {
  plan::Plan plan;
  std::unique_ptr<Network> network;
  std::vector<Network::LayerChange> changes;
};

Changeable changeable(const Graph& graph, const Tensor& x, Policy policy, int bits, int changed_bits) {
  Changeable made;
  const Calibrator calibrator(graph, {x}, torch::kCPU);
  const auto start = [&](const plan::Plan& plan) {
    return calibrator.quantizers(plan, quant::Calibration::kMse);
  };
  made.plan = plan::uniform_plan(graph, bits, bits, policy, true);
  made.network = std::make_unique<Network>(graph, made.plan, start(made.plan));
  const plan::Plan changed = plan::uniform_plan(graph, changed_bits, changed_bits, policy, true);
  const compile::Quantizers quantizers = start(changed);
  for (const auto& layer : changed.layers) made.changes.push_back({layer, quantizers.layers.at(layer.name)});
  return made;
}

TEST(Network, ChangedLayersEqualNetworksBuiltThatWay) {
  for (const auto& [name, graph] : sample_graphs()) {
    const Tensor x = inputs(graph.values[0].dims, 4, 3);
    for (Policy policy : quant::kAllPolicies) {
      const torch::NoGradGuard no_grad;
      Changeable made = changeable(graph, x, policy, 4, 2);
      const Tensor before = made.network->forward(x);
      const std::vector<Tensor> probed = made.network->forward_changed(x, made.changes);
      EXPECT_TRUE(torch::equal(made.network->forward(x), before)) << name << ": probing changed the network";
      for (size_t i = 0; i < made.changes.size(); ++i) {
        plan::Plan plan = made.plan;
        compile::Quantizers quantizers = made.network->quantizers();
        for (auto& layer : plan.layers) {
          if (layer.name == made.changes[i].layer.name) layer = made.changes[i].layer;
        }
        quantizers.layers[made.changes[i].layer.name] = made.changes[i].quantizers;
        EXPECT_TRUE(torch::equal(probed[i], Network(graph, plan, quantizers).forward(x)))
            << name << " " << to_string(policy) << " layer " << i;
      }
      for (const auto& change : made.changes) made.network->set_layer(change);
      Changeable other = changeable(graph, x, policy, 2, 2);
      EXPECT_TRUE(torch::equal(made.network->forward(x), other.network->forward(x)))
          << name << " " << to_string(policy);
      EXPECT_EQ(made.network->plan().layers, other.plan.layers);
    }
  }
}

TEST(Network, SetLayerKeepsTheTensorsThatAnOptimizerHolds) {
  const Graph graph = residual_net();
  Changeable made = changeable(graph, inputs(graph.values[0].dims, 4, 3), Policy::kLsq, 4, 2);
  const auto addresses = [&] {
    std::vector<const void*> all;
    for (const auto& [name, value] : made.network->state()) all.push_back(value.data_ptr());
    return all;
  };
  const auto before = addresses();
  for (const auto& change : made.changes) made.network->set_layer(change);
  EXPECT_EQ(addresses(), before);
}

TEST(Network, EdgeHookReplacesWhatLayersRead) {
  const Graph graph = linear_net();
  const Tensor x = inputs(graph.values[0].dims, 4, 3);
  const torch::NoGradGuard no_grad;
  Changeable made = changeable(graph, x, Policy::kLsq, 4, 2);
  std::vector<Tensor> read;
  made.network->set_edge_hook(
      [&](const graph::Node&, plan::EdgeRole, graph::ValueId, const Tensor&, const Tensor& after) {
        read.push_back(after);
        return after;
      });
  const Tensor quantized = made.network->forward(x);
  Network replayed(graph, made.plan, made.network->quantizers());
  size_t next = 0;
  replayed.set_edge_hook([&](const graph::Node&, plan::EdgeRole, graph::ValueId, const Tensor&,
                             const Tensor&) { return read.at(next++); });
  EXPECT_TRUE(torch::equal(replayed.forward(torch::zeros_like(x)), quantized));
}

TEST(Network, SharedWeightsFollowTheirOwnerAndAreNotTrained) {
  const Graph graph = residual_net();
  const Tensor x = inputs(graph.values[0].dims, 4, 3);
  Changeable owner = changeable(graph, x, Policy::kDorefa, 4, 2),
             reader = changeable(graph, x, Policy::kDorefa, 4, 2);
  reader.network->use_weights_of(*owner.network);
  EXPECT_TRUE(reader.network->parameter_groups().weights.empty());
  const torch::NoGradGuard no_grad;
  for (Tensor& weight : owner.network->parameter_groups().weights) weight.mul_(0.5).add_(0.01);
  EXPECT_TRUE(torch::equal(reader.network->forward(x), owner.network->forward(x)));
}

TEST(WithBatchNorms, ChangesNothing) {
  for (auto& [name, graph] : sample_graphs()) {
    Graph folded = graph;
    graph::fold_batch_norms(folded);
    const std::vector<Tensor> batches = {inputs(graph.values[0].dims, 16, 5),
                                         inputs(graph.values[0].dims, 16, 6)};
    const Graph with = with_batch_norms(folded, batches, torch::kCPU);
    EXPECT_GT(with.nodes.size(), folded.nodes.size()) << name;
    graph::verify(with);
    const Tensor x = inputs(graph.values[0].dims, 4, 7);
    EXPECT_TRUE(torch::allclose(reference_logits(compile::lower_float(with), x),
                                reference_logits(compile::lower_float(folded), x), 1e-4, 1e-4))
        << name;
    EXPECT_EQ(with_batch_norms(with, batches, torch::kCPU).nodes.size(), with.nodes.size()) << name;
  }
}

/// Same value, or both NaN.
bool same(float a, float b) {
  return a == b || (std::isnan(a) && std::isnan(b));
}

void expect_exact(const program::Program& program, const Tensor& x, const std::string& what) {
  std::vector<program::ReferenceTensors> expected;
  for (int64_t i = 0; i < x.size(0); ++i) expected.push_back(reference(program, x, i));
  ExactEvaluator evaluator(program);
  size_t tensors = 0;
  evaluator.run(x, [&](size_t op, program::TensorId id, const Tensor& tensor) {
    ++tensors;
    const auto& stored = program.tensors[static_cast<size_t>(id)];
    for (int64_t image = 0; image < x.size(0); ++image) {
      const Tensor found = tensor[image].contiguous();
      ASSERT_EQ(found.numel(), program::elements(stored.dims)) << what << ", op " << program.ops[op].name;
      const float* values = found.data_ptr<float>();
      for (int64_t i = 0; i < found.numel(); ++i) {
        const auto at = static_cast<size_t>(i), t = static_cast<size_t>(id);
        const auto& from = expected[static_cast<size_t>(image)];
        const float value = stored.code ? static_cast<float>(from.codes[t][at]) : from.floats[t][at];
        ASSERT_TRUE(same(values[i], value))
            << what << ", op " << program.ops[op].name << ", image " << image << ", element " << i
            << ": found " << values[i] << ", expected " << value;
      }
    }
  });
  EXPECT_GT(tensors, 0u);
}

TEST(ExactEvaluator, EqualsTheSpecificationOnRandomPrograms) {
  for (uint64_t seed = 0; seed < 150 && !::testing::Test::HasFatalFailure(); ++seed) {
    const program::Program program = bitstrata::testing::random_program(seed);
    const auto values = bitstrata::testing::random_input(program, 3, seed);
    std::vector<int64_t> dims{3};
    const auto& in = program.tensors[static_cast<size_t>(program.input)].dims;
    dims.insert(dims.end(), in.begin(), in.end());
    expect_exact(program, torch::tensor(values).reshape(dims), fmt::format("seed {}", seed));
  }
}

TEST(ExactEvaluator, IsExactBeyondTheIntegersOfFloat) {
  // 8 x 8 bits over 4608 terms: accumulators of up to 1.5e8.
  Random random(3, 3);
  bitstrata::testing::ProgramBuilder builder;
  const auto input = builder.input({512, 3, 3});
  const auto x = builder.add(program::Elementwise{}, {input}, {512, 3, 3}, quant::CodeType{8, -3, 0.01f});
  std::vector<uint8_t> codes(4 * 512 * 9);
  for (uint8_t& code : codes) code = static_cast<uint8_t>(128 + random.below(128));
  program::Conv conv;
  conv.window = {3, 3};
  conv.oc = 4;
  conv.weights = bitstrata::testing::code_weights(8, {1, -128}, codes);
  conv.mul.assign(4, 1.0f);
  conv.add.assign(4, 0.0f);
  const auto y = builder.add(conv, {x}, {4, 1, 1});
  const program::Program program = builder.build({y});
  ASSERT_GT(program::accumulator_bound(program, program.ops[1]), 1 << 24);
  const Tensor images = torch::rand({3, 512, 3, 3}) * 3;
  const auto tensors = reference(program, images, 0);
  ASSERT_GT(tensors.floats[static_cast<size_t>(y)][0], 1 << 24);
  expect_exact(program, images, "wide");
}

TEST(ExactEvaluator, EqualsTheSpecificationOnPackedNetworksInLargeBatches) {
  for (const auto& [name, graph] : sample_graphs()) {
    const Tensor x = inputs(graph.values[0].dims, 20, 8);
    const plan::Plan plan = plan::uniform_plan(graph, 3, 4, Policy::kSawb, true);
    Network network(graph, plan, calibrate(graph, plan, {x}, quant::Calibration::kAciq, torch::kCPU));
    expect_exact(network.lower(), x, name);
  }
}

TEST(Calibrate, RefusesActivationsThatAreNotFinite) {
  const Graph graph = residual_net();
  const plan::Plan plan = plan::uniform_plan(graph, 4, 4, Policy::kLsq, true);
  Tensor x = inputs({3, 8, 8}, 2, 1);
  x[0][0][0][0] = std::numeric_limits<float>::infinity();
  try {
    calibrate(graph, plan, {x}, quant::Calibration::kMse, torch::kCPU);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadInput);
  }
}

}  // namespace
}  // namespace bitstrata::train
