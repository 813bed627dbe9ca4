#include "plan/layer_shape.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "plan/scheme.h"

namespace bitstrata::plan {
namespace {

using graph::Graph;
using graph::Node;
using graph::ValueId;
using program::StepKind;

void set_geometry(LayerShape& shape, const program::Dims& in, int out_channels) {
  shape.out_channels = out_channels;
  if (shape.is_linear) {
    shape.in_channels = static_cast<int>(in.back());
    shape.width = static_cast<int>(program::elements(in) / in.back());
  } else {
    shape.in_channels = static_cast<int>(in[0]);
    shape.height = static_cast<int>(in[1]);
    shape.width = static_cast<int>(in[2]);
  }
}

/// Clips cost next to nothing, and lowering drops those that a store implies.
void append_step(std::string& epilogue, StepKind kind) {
  if (kind == StepKind::kClip) return;
  if (!epilogue.empty()) epilogue += '+';
  epilogue += program::to_string(kind == StepKind::kReverseSubtract ? StepKind::kSubtract : kind);
}

/// Steps of a node that continues an op; `running` is the input that it continues.
void append_steps(std::string& epilogue, const Node& node, int running) {
  if (const auto* activation = std::get_if<graph::Activation>(&node.kind)) {
    append_step(epilogue, activation->step.kind);
  } else if (const auto* binary = std::get_if<graph::Binary>(&node.kind)) {
    switch (binary->kind) {
      case graph::Binary::Kind::kAdd:
        append_step(epilogue, StepKind::kAdd);
        break;
      case graph::Binary::Kind::kSubtract:
        append_step(epilogue, StepKind::kSubtract);
        break;
      case graph::Binary::Kind::kMultiply:
        append_step(epilogue, StepKind::kMultiply);
        break;
      case graph::Binary::Kind::kDivide:
        if (running != 0) append_step(epilogue, StepKind::kFunction);
        append_step(epilogue, running == 0 ? StepKind::kDivide : StepKind::kMultiply);
        break;
    }
  } else {
    append_step(epilogue, StepKind::kAffine);
  }
}

/// Entries of a per-channel constant node; 0 for others.
size_t affine_entries(const graph::Kind& kind) {
  if (const auto* norm = std::get_if<graph::BatchNorm>(&kind)) return norm->gamma.size();
  if (const auto* affine = std::get_if<graph::Affine>(&kind))
    return std::max(affine->mul.size(), affine->add.size());
  return 0;
}

class Shapes {
 public:
  explicit Shapes(const Graph& graph)
      : graph_(graph),
        scheme_(derive_scheme(graph)),
        next_(graph.nodes.size(), -1),
        readers_(graph.values.size()) {
    std::vector<graph::NodeId> producers(graph.values.size(), -1);
    for (size_t n = 0; n < graph.nodes.size(); ++n) {
      producers[static_cast<size_t>(graph.nodes[n].output)] = static_cast<graph::NodeId>(n);
      const int running = scheme_.running_input(static_cast<graph::NodeId>(n));
      if (running < 0) continue;
      const ValueId from = graph.nodes[n].inputs[static_cast<size_t>(running)];
      next_[static_cast<size_t>(producers[static_cast<size_t>(from)])] = static_cast<graph::NodeId>(n);
    }
    collect_readers();
  }

  std::vector<NamedShape> run() const {
    std::vector<NamedShape> shapes;
    for (size_t n = 0; n < graph_.nodes.size(); ++n) {
      const Node& node = graph_.nodes[n];
      LayerShape shape;
      if (const auto* conv = std::get_if<graph::Conv>(&node.kind)) {
        shape.groups = conv->groups;
        shape.window = conv->window;
        set_geometry(shape, value(node.inputs[0]).dims, conv->oc);
      } else if (const auto* linear = std::get_if<graph::Linear>(&node.kind)) {
        shape.is_linear = true;
        set_geometry(shape, value(node.inputs[0]).dims, linear->out);
      } else {
        continue;
      }
      shape.signed_input = !graph::is_nonnegative(graph_, node.inputs[0]);
      set_epilogue(shape, n);
      shapes.push_back({node.name, std::move(shape), is_graph_input(graph_, node.inputs[0])});
    }
    return shapes;
  }

 private:
  const graph::Value& value(ValueId v) const { return graph_.values[static_cast<size_t>(v)]; }

  /// readers_[v]: what reads value v, itself or moved around, each with a form of its own.
  void collect_readers() {
    for (ValueId v : graph_.outputs) readers_[static_cast<size_t>(v)].insert("float");
    for (size_t n = graph_.nodes.size(); n-- > 0;) {
      const Node& node = graph_.nodes[n];
      for (size_t i = 0; i < node.inputs.size(); ++i) {
        auto& readers = readers_[static_cast<size_t>(node.inputs[i])];
        switch (scheme_.roles[n][i]) {
          case EdgeRole::kRunning:
            break;
          case EdgeRole::kLayerInput:
            readers.insert("layer " + node.name);
            break;
          case EdgeRole::kStream:
            readers.insert("stream " + value(node.inputs[i]).name);
            break;
          case EdgeRole::kFloat:
            readers.insert("float");
            break;
          case EdgeRole::kThrough: {
            const auto& beyond = readers_[static_cast<size_t>(node.output)];
            readers.insert(beyond.begin(), beyond.end());
            break;
          }
        }
      }
    }
  }

  bool is_folded(const LayerShape& shape, const Node& layer, const Node& node) const {
    const size_t entries = affine_entries(node.kind);
    if (entries == 1) return true;
    if (entries != static_cast<size_t>(shape.out_channels)) return false;
    return !shape.is_linear || value(layer.output).dims.size() == 1;
  }

  void set_epilogue(LayerShape& shape, size_t layer) const {
    size_t tail = layer;
    bool folding = true;
    while (next_[tail] >= 0) {
      tail = static_cast<size_t>(next_[tail]);
      const Node& node = graph_.nodes[tail];
      folding = folding && is_folded(shape, graph_.nodes[layer], node);
      if (!folding)
        append_steps(shape.epilogue, node, scheme_.running_input(static_cast<graph::NodeId>(tail)));
    }
    shape.stores =
        std::max(1, static_cast<int>(readers_[static_cast<size_t>(graph_.nodes[tail].output)].size()));
  }

  const Graph& graph_;
  Scheme scheme_;
  std::vector<graph::NodeId> next_;
  std::vector<std::set<std::string>> readers_;
};

}  // namespace

std::string to_string(const LayerShape& shape) {
  const program::Window& w = shape.window;
  std::string text =
      fmt::format("{}x{}x{} to {}, {}", shape.in_channels, shape.height, shape.width, shape.out_channels,
                  shape.is_linear ? "linear" : fmt::format("{}x{}", w.kernel_h, w.kernel_w));
  if (w.stride_h != 1 || w.stride_w != 1) text += fmt::format(" / {}x{}", w.stride_h, w.stride_w);
  if (w.dilation_h != 1 || w.dilation_w != 1)
    text += fmt::format(", dilation {}x{}", w.dilation_h, w.dilation_w);
  if (shape.groups != 1) text += fmt::format(", {} groups", shape.groups);
  if (shape.signed_input) text += ", signed";
  if (!shape.epilogue.empty()) text += ", " + printable(shape.epilogue, 60);
  if (shape.stores != 1) text += fmt::format(", {} stores", shape.stores);
  return text;
}

std::vector<NamedShape> layer_shapes(const Graph& graph) {
  return Shapes(graph).run();
}

LayerShape shape_of(const program::Program& program, const program::Op& op) {
  const program::Tensor& in = program.tensors[static_cast<size_t>(op.inputs.at(0))];
  LayerShape shape;
  if (const auto* conv = std::get_if<program::Conv>(&op.kind)) {
    shape.groups = conv->groups;
    shape.window = conv->window;
    set_geometry(shape, in.dims, conv->oc);
  } else if (const auto* linear = std::get_if<program::Linear>(&op.kind)) {
    shape.is_linear = true;
    set_geometry(shape, in.dims, linear->out);
  } else {
    fail(ErrorCode::kInternal, "op '{}' is no layer", printable(op.name));
  }
  shape.signed_input = in.code && in.code->zero != 0;
  for (const program::Step& step : op.steps) append_step(shape.epilogue, step.kind);
  shape.stores = static_cast<int>(op.outputs.size());
  return shape;
}

}  // namespace bitstrata::plan
