#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include "core/error.h"
#include "graph/graph.h"
#include "graph/overloaded.h"
#include "graph/shapes.h"

namespace bitstrata::graph {

namespace {

constexpr size_t kMaxRank = 5;

void check_values(const Graph& graph) {
  for (const Value& value : graph.values) {
    if (value.dims.empty() || value.dims.size() > kMaxRank) {
      fail(ErrorCode::kBadInput, "value '{}': {} dims per image, expected 1 to {}", printable(value.name),
           value.dims.size(), kMaxRank);
    }
    const int64_t elems = checked_elements(value.dims, fmt::format("value '{}'", value.name));
    if (value.is_constant() && static_cast<int64_t>(value.data.size()) != elems) {
      fail(ErrorCode::kBadInput, "constant '{}': {} values, expected {} for dims {}", printable(value.name),
           value.data.size(), elems, to_string(value.dims));
    }
  }
}

void check_id(const Graph& graph, ValueId id, const std::string& where) {
  if (id < 0 || id >= static_cast<ValueId>(graph.values.size())) {
    fail(ErrorCode::kBadInput, "{}: value {} does not exist, the graph has {}", printable(where), id,
         graph.values.size());
  }
}

void check_finite(const Node& node, std::initializer_list<const std::vector<float>*> parameters) {
  for (const auto* values : parameters) {
    const auto bad = std::find_if(values->begin(), values->end(), [](float v) { return !std::isfinite(v); });
    if (bad != values->end()) {
      fail(ErrorCode::kBadInput, "node '{}' ({}): parameter {} is {}, expected finite numbers",
           printable(node.name), kind_name(node.kind), bad - values->begin(), *bad);
    }
  }
}

void check_integers(const Node& node, const std::optional<ScaledIntegers>& integers, size_t weights,
                    int channels) {
  if (!integers) return;
  const auto is_scale = [](float s) { return s > 0 && std::isfinite(s); };
  if (integers->values.size() != weights || integers->scale.size() != static_cast<size_t>(channels) ||
      !std::all_of(integers->scale.begin(), integers->scale.end(), is_scale)) {
    fail(ErrorCode::kBadInput, "node '{}' ({}): {} integers and {} scales, expected {} and {} above 0",
         printable(node.name), kind_name(node.kind), integers->values.size(), integers->scale.size(), weights,
         channels);
  }
}

void check_code(const Node& node, const quant::CodeType& code) {
  const bool fits = code.bits >= 1 && code.bits <= 8 && code.zero <= 0 && code.zero >= -code.max_code() &&
                    code.scale > 0 && std::isfinite(code.scale) && std::isfinite(code.inverse_scale());
  if (!fits) {
    fail(ErrorCode::kBadInput, "node '{}' (quantize): bits {}, zero {}, scale {}, which is no code type",
         printable(node.name), code.bits, code.zero, code.scale);
  }
}

void check_parameters(const Node& node) {
  std::visit(Overloaded{
                 [&](const Conv& k) {
                   check_finite(node, {&k.weights, &k.bias});
                   check_integers(node, k.integers, k.weights.size(), k.oc);
                 },
                 [&](const Linear& k) {
                   check_finite(node, {&k.weights, &k.bias});
                   check_integers(node, k.integers, k.weights.size(), k.out);
                 },
                 [&](const BatchNorm& k) {
                   check_finite(node, {&k.gamma, &k.beta, &k.mean, &k.variance});
                   for (float v : k.variance) {
                     if (v + k.epsilon <= 0) {
                       fail(ErrorCode::kBadInput,
                            "node '{}' (batch-norm): variance {} + epsilon {} is not positive",
                            printable(node.name), v, k.epsilon);
                     }
                   }
                 },
                 [&](const Affine& k) {
                   check_finite(node, {&k.mul, &k.add});
                 },
                 [&](const Activation& k) { check_finite(node, {&k.step.mul}); },
                 [&](const Quantize& k) { check_code(node, k.code); },
                 [](const auto&) {},
             },
             node.kind);
}

bool may_read_constants(const Kind& kind) {
  return std::holds_alternative<Binary>(kind) || std::holds_alternative<program::Concat>(kind);
}

void check_node(const Graph& graph, const Node& node, const std::vector<bool>& defined) {
  const std::string where = fmt::format("node '{}'", node.name);
  check_id(graph, node.output, where);
  size_t constants = 0;
  for (ValueId v : node.inputs) {
    check_id(graph, v, where);
    constants += graph.values[v].is_constant();
    if (!defined[v]) {
      fail(ErrorCode::kBadInput, "{}: reads '{}' before any node wrote it", printable(where),
           printable(graph.values[v].name));
    }
  }
  if (constants > 0 && (!may_read_constants(node.kind) || constants == node.inputs.size())) {
    fail(ErrorCode::kBadInput, "{} ({}): input is a constant, expected an activation", printable(where),
         kind_name(node.kind));
  }
  if (defined[node.output]) {
    fail(ErrorCode::kBadInput, "{}: writes '{}', which is already written", printable(where),
         printable(graph.values[node.output].name));
  }
  const Dims dims = infer_dims(graph, node);
  if (dims != graph.values[node.output].dims) {
    fail(ErrorCode::kBadInput, "{} ({}): output dims {}, expected {}", printable(where), kind_name(node.kind),
         to_string(graph.values[node.output].dims), to_string(dims));
  }
  check_parameters(node);
}

}  // namespace

void verify(const Graph& graph) {
  check_values(graph);
  check_id(graph, graph.input, "graph input");
  std::vector<bool> defined(graph.values.size());
  for (size_t v = 0; v < graph.values.size(); ++v) defined[v] = graph.values[v].is_constant();
  if (defined[graph.input]) fail(ErrorCode::kBadInput, "graph input: is a constant, expected an activation");
  defined[graph.input] = true;

  std::set<std::string> names;
  for (const Node& node : graph.nodes) {
    if (node.name.empty() || !names.insert(node.name).second) {
      fail(ErrorCode::kBadInput, "node '{}': names must be unique and not empty", printable(node.name));
    }
    check_node(graph, node, defined);
    defined[node.output] = true;
  }

  if (graph.outputs.empty()) fail(ErrorCode::kBadInput, "graph '{}': no outputs", printable(graph.name));
  for (ValueId v : graph.outputs) {
    check_id(graph, v, "graph output");
    if (!defined[v] || graph.values[v].is_constant()) {
      fail(ErrorCode::kBadInput, "graph output '{}': is not computed from the input",
           printable(graph.values[v].name));
    }
  }
}

}  // namespace bitstrata::graph
