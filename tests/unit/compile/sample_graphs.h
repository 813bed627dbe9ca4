#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "compile/lower.h"
#include "core/random.h"
#include "plan/scheme.h"
#include "quant/weights.h"
#include "tests/unit/graph/make_graph.h"

/// Small networks with one feature of real ones each, with random weights.
namespace bitstrata::compile::testing {

using graph::Graph;
using graph::ValueId;
using graph::testing::activation;
using graph::testing::GraphMaker;
using graph::testing::relu;

class NetMaker : public GraphMaker {
 public:
  explicit NetMaker(program::Dims input) : GraphMaker(std::move(input)), random_(11, 4) {}

  std::vector<float> reals(size_t count, double low, double high) {
    std::vector<float> values(count);
    for (float& v : values) v = static_cast<float>(low + (high - low) * random_.uniform());
    return values;
  }
  const program::Dims& dims(ValueId v) const { return graph.values[static_cast<size_t>(v)].dims; }

  ValueId conv(const std::string& name, ValueId x, int oc, int kernel, int stride = 1, int groups = 1,
               bool bias = false) {
    graph::Conv conv;
    const auto row = static_cast<size_t>(dims(x)[0] / groups) * static_cast<size_t>(kernel * kernel);
    const int pad = kernel / 2;
    conv.window = {kernel, kernel, stride, stride, 1, 1, pad, pad, pad, pad};
    conv.oc = oc;
    conv.groups = groups;
    const double range = 1.5 / std::sqrt(static_cast<double>(row));
    conv.weights = reals(static_cast<size_t>(oc) * row, -range, range);
    if (bias) conv.bias = reals(static_cast<size_t>(oc), -0.3, 0.3);
    return add(name, std::move(conv), {x});
  }
  ValueId bn(const std::string& name, ValueId x) {
    const auto channels = static_cast<size_t>(dims(x)[0]);
    graph::BatchNorm norm;
    norm.gamma = reals(channels, -1.2, 1.5);
    norm.beta = reals(channels, -0.3, 0.6);
    norm.mean = reals(channels, -0.2, 0.2);
    norm.variance = reals(channels, 0.2, 1.0);
    return add(name, std::move(norm), {x});
  }
  ValueId linear(const std::string& name, ValueId x, int out, bool bias = true) {
    graph::Linear linear;
    linear.out = out;
    linear.weights = reals(static_cast<size_t>(out) * static_cast<size_t>(dims(x).back()), -0.5, 0.5);
    if (bias) linear.bias = reals(static_cast<size_t>(out), -0.3, 0.3);
    return add(name, std::move(linear), {x});
  }
  ValueId conv_bn_relu(const std::string& name, ValueId x, int oc, int kernel, int stride = 1,
                       int groups = 1) {
    return add(name + "/relu", relu(), {bn(name + "/bn", conv(name, x, oc, kernel, stride, groups))});
  }
  ValueId head(ValueId x, int classes) {
    return linear("fc", add("mean", program::ReduceMean{{1, 2}, false}, {x}), classes);
  }

 private:
  Random random_;
};

/// Two blocks; the second has an option-A shortcut.
inline Graph residual_net() {
  NetMaker m({3, 8, 8});
  ValueId x = m.conv_bn_relu("stem", 0, 8, 3);
  ValueId y = m.bn("b/bn", m.conv("b", m.conv_bn_relu("a", x, 8, 3), 8, 3));
  x = m.add("relu1", relu(), {m.add("add1", graph::Binary{}, {y, x})});
  y = m.bn("d/bn", m.conv("d", m.conv_bn_relu("c", x, 12, 3, 2), 12, 3));
  const ValueId rows = m.add("rows", program::Slice{1, 0, 2}, {x}, {8, 4, 8});
  const ValueId columns = m.add("columns", program::Slice{2, 0, 2}, {rows}, {8, 4, 4});
  const ValueId skip = m.add("pad", program::Pad{{2, 0, 0}, {2, 0, 0}, 0}, {columns});
  m.head(m.add("relu2", relu(), {m.add("add2", graph::Binary{}, {skip, y})}), 5);
  return m.graph;
}

/// A dense layer: batch norm and ReLU behind a concatenation.
inline Graph dense_net() {
  NetMaker m({3, 6, 6});
  const ValueId a = m.conv("a", 0, 6, 3);
  const ValueId b = m.conv("b", m.add("relu1", relu(), {m.bn("bn1", a)}), 4, 3, 1, 1, true);
  const ValueId cat = m.add("cat", program::Concat{0}, {a, b});
  const ValueId c = m.conv("c", m.add("relu2", relu(), {m.bn("bn2", cat)}), 6, 1);
  program::AveragePool pool;
  pool.window = {2, 2, 2, 2};
  m.head(m.add("pool", pool, {m.add("cat2", program::Concat{0}, {cat, c})}), 4);
  return m.graph;
}

inline Graph max_pool_net() {
  NetMaker m({1, 9, 9});
  program::MaxPool pool;
  pool.window = {3, 3, 2, 2, 1, 1, 1, 1, 1, 1};
  const ValueId a = m.add("pool1", pool, {m.conv_bn_relu("a", 0, 8, 3)});
  pool.window = {2, 2, 1, 1};
  const ValueId b = m.add("pool2", pool, {m.bn("b/bn", m.conv("b", a, 6, 3))});
  const ValueId flat = m.add("flat", program::Reshape{}, {b}, {6 * 4 * 4});
  m.linear("fc2", m.add("relu", relu(), {m.linear("fc1", flat, 10)}), 3);
  return m.graph;
}

/// Squeeze and excitation with a sigmoid gate.
inline Graph squeeze_net() {
  NetMaker m({3, 6, 6});
  const ValueId x = m.conv_bn_relu("a", 0, 8, 3);
  const ValueId squeezed = m.add("squeeze", program::ReduceMean{{1, 2}, true}, {x});
  const ValueId hidden = m.add("hidden", relu(), {m.conv("down", squeezed, 4, 1, 1, 1, true)});
  const ValueId gate = m.add("gate", graph::testing::function(program::Function::kSigmoid),
                             {m.conv("up", hidden, 8, 1, 1, 1, true)});
  m.head(m.conv_bn_relu("b", m.add("scaled", graph::Binary{graph::Binary::Kind::kMultiply}, {x, gate}), 6, 3),
         4);
  return m.graph;
}

/// Depthwise convolutions, hard swish, PReLU, hard sigmoid, leaky ReLU, and constants on either side of an
/// operator.
inline Graph mobile_net() {
  NetMaker m({3, 8, 8});
  ValueId x = m.add("swish", activation(program::StepKind::kHardSwish), {m.bn("a/bn", m.conv("a", 0, 8, 3))});
  x = m.bn("dw/bn", m.conv("dw", x, 8, 3, 2, 8));
  graph::Activation prelu = activation(program::StepKind::kPRelu);
  prelu.step.mul = m.reals(8, -0.2, 0.5);
  x = m.add("prelu", prelu, {x});
  x = m.add("leaky", activation(program::StepKind::kLeakyRelu, 0.1f), {m.conv("pw", x, 10, 1, 1, 2, true)});
  x = m.add("less", graph::Binary{graph::Binary::Kind::kSubtract},
            {m.constant(m.reals(10, 0, 1), {10, 1, 1}), x});
  x = m.add("sigmoid", activation(program::StepKind::kHardSigmoid, 0.2f, 0.5f), {x});
  m.head(x, 4);
  return m.graph;
}

/// Plain layers on a vector, one without bias, with an affine node.
inline Graph linear_net() {
  NetMaker m({20});
  const ValueId a = m.add("relu", relu(), {m.bn("bn", m.linear("a", 0, 16))});
  const ValueId b =
      m.add("affine", graph::Affine{{0.5f}, m.reals(12, -0.2, 0.2)}, {m.linear("b", a, 12, false)});
  m.linear("c", m.add("clip", activation(program::StepKind::kClip, -0.5f, 0.75f), {b}), 5);
  return m.graph;
}

/// Quantizers that suit activations of about [-2, 2].
inline Quantizers sample_quantizers(const Graph& graph, const plan::Plan& plan) {
  const auto code = [&](ValueId v, int bits) {
    const int levels = 1 << bits;
    const bool nonnegative = graph::is_nonnegative(graph, v);
    return quant::CodeType{bits, nonnegative ? 0 : -levels / 2,
                           (nonnegative ? 2.0f : 4.0f) / static_cast<float>(levels - 1)};
  };
  Quantizers result;
  for (const graph::Node& node : graph.nodes) {
    const plan::LayerPlan* layer = plan.find_layer(node.name);
    if (layer == nullptr || layer->is_float()) continue;
    const auto* conv = std::get_if<graph::Conv>(&node.kind);
    const auto* linear = std::get_if<graph::Linear>(&node.kind);
    result.layers[node.name] = {
        quant::initial_params(layer->policy, layer->weight_bits, conv ? conv->weights : linear->weights,
                              conv ? conv->oc : linear->out, layer->per_channel),
        code(node.inputs[0], layer->activation_bits)};
  }
  for (ValueId v : plan::stream_values(graph, plan::derive_scheme(graph))) {
    const plan::StreamPlan& stream = *plan.find_stream(graph.values[static_cast<size_t>(v)].name);
    if (stream.bits > 0) result.streams[stream.value] = code(v, stream.bits);
  }
  return result;
}

}  // namespace bitstrata::compile::testing
