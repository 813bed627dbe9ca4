#pragma once

#include <string>
#include <utility>
#include <vector>

#include "graph/graph.h"

namespace bitstrata::graph::testing {

/// Builds graphs node by node; every value is named after its node.
class GraphMaker {
 public:
  explicit GraphMaker(Dims input_dims) {
    graph.values.push_back({"x", std::move(input_dims), {}});
    graph.input = 0;
  }

  ValueId constant(std::vector<float> data, Dims dims) {
    graph.values.push_back({"constant", std::move(dims), std::move(data)});
    return static_cast<ValueId>(graph.values.size()) - 1;
  }

  /// Appends a node; `stored` are the output dims of kinds that do not imply them.
  ValueId add(const std::string& name, Kind kind, std::vector<ValueId> inputs, Dims stored = {}) {
    const ValueId output = static_cast<ValueId>(graph.values.size());
    graph.values.push_back({name, std::move(stored), {}});
    graph.nodes.push_back({name, std::move(kind), std::move(inputs), output});
    graph.values[output].dims = infer_dims(graph, graph.nodes.back());
    graph.outputs = {output};
    return output;
  }

  Graph graph;
};

inline Activation activation(program::StepKind kind, float a = 0, float b = 0) {
  Activation result;
  result.step.kind = kind;
  result.step.a = a;
  result.step.b = b;
  return result;
}

inline Activation relu() {
  return activation(program::StepKind::kClip, 0, __builtin_inff());
}

inline Activation function(program::Function f) {
  Activation result = activation(program::StepKind::kFunction);
  result.step.function = f;
  return result;
}

/// A convolution without padding whose weights count 1, 2, 3, ...
inline Conv conv(int oc, int ic, int kernel, bool bias = false) {
  Conv result;
  result.oc = oc;
  result.window.kernel_h = result.window.kernel_w = kernel;
  for (int i = 0; i < oc * ic * kernel * kernel; ++i) result.weights.push_back(static_cast<float>(i + 1));
  if (bias) result.bias.assign(oc, 1.0f);
  return result;
}

}  // namespace bitstrata::graph::testing
