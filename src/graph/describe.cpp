#include <string>

#include "core/error.h"
#include "graph/graph.h"
#include "graph/overloaded.h"
#include "graph/shapes.h"

namespace bitstrata::graph {

namespace {

std::string describe_window(const program::Window& w) {
  std::string text = fmt::format("{}x{}", w.kernel_h, w.kernel_w);
  if (w.stride_h != 1 || w.stride_w != 1) text += fmt::format(" stride {}x{}", w.stride_h, w.stride_w);
  if (w.dilation_h != 1 || w.dilation_w != 1)
    text += fmt::format(" dilation {}x{}", w.dilation_h, w.dilation_w);
  if (w.pad_top != 0 || w.pad_left != 0 || w.pad_bottom != 0 || w.pad_right != 0) {
    text += fmt::format(" pad {},{},{},{}", w.pad_top, w.pad_left, w.pad_bottom, w.pad_right);
  }
  return text;
}

std::string describe_step(const program::Step& step) {
  using program::StepKind;
  switch (step.kind) {
    case StepKind::kClip:
    case StepKind::kHardSigmoid:
      return fmt::format("{} {}", step.a, step.b);
    case StepKind::kLeakyRelu:
      return fmt::format("{}", step.a);
    case StepKind::kPRelu:
      return fmt::format("slopes {}", step.mul.size());
    default:
      return "";
  }
}

std::string describe_parameters(const Kind& kind) {
  return std::visit(
      Overloaded{
          [](const Conv& k) {
            std::string text = fmt::format("{} oc {}", describe_window(k.window), k.oc);
            if (k.groups != 1) text += fmt::format(" groups {}", k.groups);
            return text + (k.bias.empty() ? "" : " bias") + (k.integers ? " integers" : "");
          },
          [](const Linear& k) {
            return fmt::format("out {}{}{}", k.out, k.bias.empty() ? "" : " bias",
                               k.integers ? " integers" : "");
          },
          [](const BatchNorm&) { return std::string(); },
          [](const Affine& k) { return fmt::format("mul {} add {}", k.mul.size(), k.add.size()); },
          [](const Activation& k) { return describe_step(k.step); },
          [](const Binary&) { return std::string(); },
          [](const program::AveragePool& k) {
            return describe_window(k.window) + (k.count_include_pad ? " count-pad" : "");
          },
          [](const program::ReduceMean& k) {
            return fmt::format("axes {}{}", fmt::join(k.axes, ","), k.keep_dims ? " keep" : "");
          },
          [](const program::Softmax& k) { return fmt::format("axis {}", k.axis); },
          [](const program::MatMul&) { return std::string(); },
          [](const program::MaxPool& k) { return describe_window(k.window); },
          [](const program::Concat& k) { return fmt::format("axis {}", k.axis); },
          [](const program::Slice& k) {
            return fmt::format("axis {} start {} step {}", k.axis, k.start, k.step);
          },
          [](const program::Pad& k) {
            return fmt::format("{} {} value {}", fmt::join(k.before, ","), fmt::join(k.after, ","), k.value);
          },
          [](const program::Transpose& k) { return fmt::format("perm {}", fmt::join(k.perm, ",")); },
          [](const program::Reshape&) { return std::string(); },
          [](const program::Gather& k) {
            return fmt::format("axis {} indices {}", k.axis, fmt::join(k.indices, ","));
          },
          [](const Quantize& k) {
            return fmt::format("bits {} zero {} scale {}", k.code.bits, k.code.zero, k.code.scale);
          },
          [](const program::Lookup& k) { return fmt::format("table {}", k.table.size()); },
      },
      kind);
}

}  // namespace

std::string describe(const Graph& graph) {
  std::string text =
      fmt::format("input {} {}\n", graph.values[graph.input].name, to_string(graph.values[graph.input].dims));
  for (const Node& node : graph.nodes) {
    std::string inputs;
    for (ValueId v : node.inputs) {
      const Value& value = graph.values[v];
      if (!inputs.empty()) inputs += ", ";
      inputs += value.is_constant() ? "constant" + to_string(value.dims) : value.name;
    }
    const std::string parameters = describe_parameters(node.kind);
    const Value& output = graph.values[node.output];
    text += fmt::format("{}: {} = {}({}){}{} -> {}\n", node.name, output.name, kind_name(node.kind), inputs,
                        parameters.empty() ? "" : " ", parameters, to_string(output.dims));
  }
  for (ValueId v : graph.outputs) text += fmt::format("output {}\n", graph.values[v].name);
  return text;
}

}  // namespace bitstrata::graph
