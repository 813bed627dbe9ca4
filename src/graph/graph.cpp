#include "graph/graph.h"

#include <algorithm>
#include <limits>

#include "graph/overloaded.h"

namespace bitstrata::graph {

namespace {

using program::Function;
using program::Step;
using program::StepKind;

const char* function_name(Function function) {
  switch (function) {
    case Function::kNone:
      return "none";
    case Function::kSigmoid:
      return "sigmoid";
    case Function::kTanh:
      return "tanh";
    case Function::kExp:
      return "exp";
    case Function::kLog:
      return "log";
    case Function::kSqrt:
      return "sqrt";
    case Function::kErf:
      return "erf";
    case Function::kSoftplus:
      return "softplus";
    case Function::kElu:
      return "elu";
    case Function::kSilu:
      return "silu";
    case Function::kGelu:
      return "gelu";
    case Function::kAbs:
      return "abs";
    case Function::kNegate:
      return "negate";
    case Function::kReciprocal:
      return "reciprocal";
    case Function::kPower:
      return "power";
  }
  return "none";
}

const char* step_name(const Step& step) {
  switch (step.kind) {
    case StepKind::kClip:
      return step.a == 0 && step.b == std::numeric_limits<float>::infinity() ? "relu" : "clip";
    case StepKind::kLeakyRelu:
      return "leaky-relu";
    case StepKind::kPRelu:
      return "prelu";
    case StepKind::kHardSigmoid:
      return "hard-sigmoid";
    case StepKind::kHardSwish:
      return "hard-swish";
    case StepKind::kFunction:
      return function_name(step.function);
    default:
      return "unknown";
  }
}

const char* binary_name(Binary::Kind kind) {
  switch (kind) {
    case Binary::Kind::kAdd:
      return "add";
    case Binary::Kind::kSubtract:
      return "subtract";
    case Binary::Kind::kMultiply:
      return "multiply";
    case Binary::Kind::kDivide:
      return "divide";
  }
  return "unknown";
}

bool all_nonnegative(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return v >= 0; });
}

bool step_is_nonnegative(const Step& step, bool input) {
  switch (step.kind) {
    case StepKind::kClip:
      return step.a >= 0 || (input && step.b >= 0);
    case StepKind::kLeakyRelu:
    case StepKind::kPRelu:
      return input;
    case StepKind::kHardSigmoid:
      return true;
    case StepKind::kHardSwish:
      return input;
    case StepKind::kFunction:
      break;
    default:
      return false;
  }
  switch (step.function) {
    case Function::kSigmoid:
    case Function::kExp:
    case Function::kSqrt:
    case Function::kSoftplus:
    case Function::kAbs:
      return true;
    case Function::kTanh:
    case Function::kErf:
    case Function::kElu:
    case Function::kSilu:
    case Function::kGelu:
    case Function::kReciprocal:
    case Function::kPower:
      return input;
    default:
      return false;
  }
}

bool node_is_nonnegative(const Node& node, const std::vector<bool>& known) {
  const auto input = [&](size_t i) { return known[node.inputs[i]]; };
  const auto all_inputs = [&] {
    return std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return known[v]; });
  };
  return std::visit(
      Overloaded{
          [](const Conv&) { return false; },
          [](const Linear&) { return false; },
          [](const BatchNorm&) { return false; },
          [&](const Affine& k) { return input(0) && all_nonnegative(k.mul) && all_nonnegative(k.add); },
          [&](const Activation& k) { return step_is_nonnegative(k.step, input(0)); },
          [&](const Binary& k) {
            const bool square = k.kind == Binary::Kind::kMultiply && node.inputs[0] == node.inputs[1];
            return square || (k.kind != Binary::Kind::kSubtract && all_inputs());
          },
          [](const program::Softmax&) { return true; },
          [&](const program::Pad& k) { return input(0) && k.value >= 0; },
          [&](const auto&) { return all_inputs(); },
      },
      node.kind);
}

}  // namespace

std::string kind_name(const Kind& kind) {
  return std::visit(Overloaded{
                        [](const Conv&) { return "conv"; },
                        [](const Linear&) { return "linear"; },
                        [](const BatchNorm&) { return "batch-norm"; },
                        [](const Affine&) { return "affine"; },
                        [](const Activation& k) { return step_name(k.step); },
                        [](const Binary& k) { return binary_name(k.kind); },
                        [](const program::AveragePool&) { return "average-pool"; },
                        [](const program::ReduceMean&) { return "reduce-mean"; },
                        [](const program::Softmax&) { return "softmax"; },
                        [](const program::MatMul&) { return "matmul"; },
                        [](const program::MaxPool&) { return "max-pool"; },
                        [](const program::Concat&) { return "concat"; },
                        [](const program::Slice&) { return "slice"; },
                        [](const program::Pad&) { return "pad"; },
                        [](const program::Transpose&) { return "transpose"; },
                        [](const program::Reshape&) { return "reshape"; },
                        [](const program::Gather&) { return "gather"; },
                        [](const Quantize&) { return "quantize"; },
                        [](const program::Lookup&) { return "lookup"; },
                    },
                    kind);
}

bool is_data_movement(const Kind& kind) noexcept {
  return std::holds_alternative<program::MaxPool>(kind) || std::holds_alternative<program::Concat>(kind) ||
         std::holds_alternative<program::Slice>(kind) || std::holds_alternative<program::Pad>(kind) ||
         std::holds_alternative<program::Transpose>(kind) || std::holds_alternative<program::Reshape>(kind) ||
         std::holds_alternative<program::Gather>(kind);
}

NodeId producer(const Graph& graph, ValueId value) {
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    if (graph.nodes[i].output == value) return static_cast<NodeId>(i);
  }
  return -1;
}

std::vector<std::vector<NodeId>> consumers(const Graph& graph) {
  std::vector<std::vector<NodeId>> result(graph.values.size());
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    for (ValueId v : graph.nodes[i].inputs) result[v].push_back(static_cast<NodeId>(i));
  }
  return result;
}

bool is_nonnegative(const Graph& graph, ValueId value) {
  std::vector<bool> known(graph.values.size(), false);
  for (size_t v = 0; v < graph.values.size(); ++v) {
    if (graph.values[v].is_constant()) known[v] = all_nonnegative(graph.values[v].data);
  }
  for (const Node& node : graph.nodes) {
    if (known[value]) return true;
    known[node.output] = node_is_nonnegative(node, known);
  }
  return known[value];
}

int64_t macs(const Graph& graph, const Node& node) {
  const Dims& out = graph.values[node.output].dims;
  int64_t out_elems = 1;
  for (int64_t d : out) out_elems *= d;
  if (const auto* conv = std::get_if<Conv>(&node.kind)) {
    const int64_t ic = graph.values[node.inputs[0]].dims[0];
    return out_elems * (ic / conv->groups) * conv->window.kernel_h * conv->window.kernel_w;
  }
  if (std::holds_alternative<Linear>(node.kind)) return out_elems * graph.values[node.inputs[0]].dims.back();
  return 0;
}

}  // namespace bitstrata::graph
