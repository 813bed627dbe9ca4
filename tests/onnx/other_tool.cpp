#include "tests/onnx/other_tool.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <stdexcept>

#include "compile/lower.h"
#include "core/file.h"
#include "graph/overloaded.h"
#include "runtime/session.h"
#include "tests/unit/onnx/model.h"

namespace bitstrata::testing {

namespace {

using graph::Graph;
using graph::Node;
using graph::ValueId;
using onnx::testing::kInt32;
using onnx::testing::kInt8;
using onnx::testing::kUint8;
using onnx::testing::Model;
using onnx::testing::NodeMaker;

bool is_relu(const graph::Kind& kind) {
  const auto* activation = std::get_if<graph::Activation>(&kind);
  return activation && activation->step.kind == program::StepKind::kClip && activation->step.a == 0 &&
         activation->step.b == std::numeric_limits<float>::infinity();
}

/// Names of the scale and zero point of a tensor, and their values.
struct Scale {
  std::string scale, zero;
  float step = 1;
  int zero_point = 0;
};

class Writer {
 public:
  Writer(const Graph& graph, const std::vector<ValueRange>& ranges, const OtherTool& tool)
      : graph_(graph),
        ranges_(ranges),
        tool_(tool),
        uses_(graph::consumers(graph)),
        model_(with_batch(graph.values[index(graph.input)].dims)) {
    auto& domain = *model_.proto.add_opset_import();
    domain.set_domain("com.microsoft");
    domain.set_version(1);
  }

  std::string run() {
    quantize(graph_.input, "x");
    for (const Node& node : graph_.nodes) write(node);
    model_.node("Identity", {real(graph_.outputs.at(0))}, {"y"});
    return model_.bytes();
  }

 private:
  static size_t index(ValueId v) { return static_cast<size_t>(v); }
  static std::vector<int64_t> with_batch(const program::Dims& dims) {
    std::vector<int64_t> all = {0};
    all.insert(all.end(), dims.begin(), dims.end());
    return all;
  }
  const program::Dims& dims(ValueId v) const { return graph_.values[index(v)].dims; }
  static std::string name(ValueId v, const char* what) { return fmt::format("v{}.{}", v, what); }

  // ---- Scales, and values in either form.

  const Scale& scale_of(ValueId v) {
    if (const auto known = scales_.find(v); known != scales_.end()) return known->second;
    Scale s;
    const float low = std::min(0.0f, ranges_[index(v)].low), high = std::max(0.0f, ranges_[index(v)].high);
    if (tool_.symmetric) {
      s.step = std::max(-low, high) / 127;
    } else {
      s.step = (high - low) / 255;
      s.zero_point = static_cast<int>(std::nearbyint(-low / s.step));
    }
    s.scale = name(v, "scale");
    s.zero = name(v, "zero");
    model_.floats(s.scale, {s.step}, {}).integers(s.zero, code_type(), {s.zero_point}, {});
    return scales_.emplace(v, std::move(s)).first->second;
  }
  int code_type() const { return tool_.symmetric ? kInt8 : kUint8; }

  void quantize(ValueId v, const std::string& x) {
    const Scale& s = scale_of(v);
    codes_[v] = name(v, "codes");
    model_.node("QuantizeLinear", {x, s.scale, s.zero}, {codes_[v]});
    real_.erase(v);
  }

  const std::string& real(ValueId v) {
    if (const auto known = real_.find(v); known != real_.end()) return known->second;
    const Scale& s = scale_of(v);
    model_.node("DequantizeLinear", {codes_.at(v), s.scale, s.zero}, {name(v, "real")});
    return real_[v] = name(v, "real");
  }

  // ---- Nodes.

  /// The Relu that alone reads `v`, so that nothing is rounded in between; nullptr otherwise.
  const Node* following_relu(ValueId v) const {
    const auto& readers = uses_[index(v)];
    if (readers.size() != 1 || v == graph_.outputs[0]) return nullptr;
    const Node& reader = graph_.nodes[static_cast<size_t>(readers[0])];
    return is_relu(reader.kind) ? &reader : nullptr;
  }

  /// What quantizes the result of a node: itself, or the Relu behind it, where codes clamp as the Relu does.
  ValueId stored_as(const Node& node) const {
    const Node* relu = following_relu(node.output);
    return relu && !tool_.symmetric ? relu->output : node.output;
  }

  /// `result` is the float result of `node`.
  void store(const Node& node, const std::string& result) {
    if (following_relu(node.output) && tool_.symmetric)
      real_[node.output] = result;
    else
      quantize(stored_as(node), result);
  }

  void write(const Node& node) {
    if (codes_.contains(node.output)) return;  // a Relu that is part of the node in front
    // Integer operators have no Relu inside but the clamp of their codes.
    const bool on_integers = tool_.operators && !(following_relu(node.output) && tool_.symmetric);
    std::visit(graph::Overloaded{
                   [&](const graph::Conv& k) { layer(node, k, on_integers); },
                   [&](const graph::Linear& k) { layer(node, k, on_integers); },
                   [&](const graph::Activation&) { relu(node); },
                   [&](const graph::Binary& k) { add(node, k, on_integers); },
                   [&](const program::ReduceMean& k) { mean(node, k, on_integers); },
                   [&](const program::MaxPool& k) { window(move("MaxPool", node, {}), k.window); },
                   [&](const program::Reshape&) { move("Reshape", node, {batch_and(dims(node.output))}); },
                   [&](const program::Slice& k) { slice(node, k); },
                   [&](const program::Pad& k) { pad(node, k); },
                   [&](const auto&) { refuse(node); },
               },
               node.kind);
  }

  [[noreturn]] static void refuse(const Node& node) {
    throw std::runtime_error(fmt::format("node '{}' is not one that is quantized here", node.name));
  }

  void relu(const Node& node) {
    if (!is_relu(node.kind)) refuse(node);
    const std::string result = name(node.output, "relu");
    model_.node("Relu", {real(node.inputs[0])}, {result});
    store(node, result);
  }

  void add(const Node& node, const graph::Binary& binary, bool on_integers) {
    if (binary.kind != graph::Binary::Kind::kAdd) refuse(node);
    const ValueId a = node.inputs[0], b = node.inputs[1];
    if (on_integers) {
      const Scale sa = scale_of(a), sb = scale_of(b);
      integers(node, "QLinearAdd", {codes_.at(a), sa.scale, sa.zero, codes_.at(b), sb.scale, sb.zero})
          .domain("com.microsoft");
      return;
    }
    const std::string result = name(node.output, "sum"), x = real(a), y = real(b);
    model_.node("Add", {x, y}, {result});
    store(node, result);
  }

  void mean(const Node& node, const program::ReduceMean& k, bool on_integers) {
    if (k.axes != std::vector<int>{1, 2} || !k.keep_dims) refuse(node);
    const ValueId x = node.inputs[0];
    if (on_integers) {
      const Scale s = scale_of(x);
      integers(node, "QLinearGlobalAveragePool", {codes_.at(x), s.scale, s.zero})
          .domain("com.microsoft")
          .set("channels_last", 0);
      return;
    }
    const std::string result = name(node.output, "mean"), input = real(x);
    model_.node("GlobalAveragePool", {input}, {result});
    store(node, result);
  }

  /// An operator of integers that yields codes of `node`'s result; `last` follow the scale of these.
  NodeMaker integers(const Node& node, const char* op, std::vector<std::string> inputs,
                     const std::vector<std::string>& last = {}) {
    const ValueId stored = stored_as(node);
    const Scale& s = scale_of(stored);
    codes_[stored] = name(stored, "codes");
    inputs.insert(inputs.end(), {s.scale, s.zero});
    inputs.insert(inputs.end(), last.begin(), last.end());
    return model_.node(op, inputs, {codes_[stored]});
  }

  // ---- Data movement keeps scale and zero point.

  NodeMaker move(const char* op, const Node& node, const std::vector<std::string>& arguments) {
    const ValueId x = node.inputs[0];
    scales_[node.output] = scale_of(x);
    std::vector<std::string> inputs = {tool_.operators ? codes_.at(x) : real(x)};
    inputs.insert(inputs.end(), arguments.begin(), arguments.end());
    const std::string result = name(node.output, "moved");
    const NodeMaker made = model_.node(op, inputs, {result});
    if (tool_.operators)
      codes_[node.output] = result;
    else
      quantize(node.output, result);
    return made;
  }

  std::string batch_and(const program::Dims& dims) {
    std::vector<int64_t> shape = {-1};
    shape.insert(shape.end(), dims.begin(), dims.end());
    return constant(shape);
  }

  std::string constant(const std::vector<int64_t>& values) {
    const std::string name = fmt::format("c{}", constants_++);
    model_.ints(name, values);
    return name;
  }

  void slice(const Node& node, const program::Slice& k) {
    const int64_t end = k.start + k.step * dims(node.output)[static_cast<size_t>(k.axis)];
    if (k.step < 0) refuse(node);
    const std::string starts = constant({k.start}), ends = constant({end}), axes = constant({k.axis + 1}),
                      steps = constant({k.step});
    move("Slice", node, {starts, ends, axes, steps});
  }

  void pad(const Node& node, const program::Pad& k) {
    if (k.value != 0) refuse(node);
    std::vector<int64_t> pads = {0};
    pads.insert(pads.end(), k.before.begin(), k.before.end());
    pads.push_back(0);
    pads.insert(pads.end(), k.after.begin(), k.after.end());
    std::vector<std::string> arguments = {constant(pads)};
    if (tool_.operators) arguments.push_back(scale_of(node.inputs[0]).zero);
    move("Pad", node, arguments);
  }

  static void window(NodeMaker maker, const program::Window& w) {
    maker.set("kernel_shape", std::vector<int64_t>{w.kernel_h, w.kernel_w})
        .set("strides", std::vector<int64_t>{w.stride_h, w.stride_w})
        .set("dilations", std::vector<int64_t>{w.dilation_h, w.dilation_w})
        .set("pads", std::vector<int64_t>{w.pad_top, w.pad_left, w.pad_bottom, w.pad_right});
  }

  // ---- Layers.

  template <typename Layer>
  void layer(const Node& node, const Layer& k, bool on_integers) {
    constexpr bool kIsConv = std::is_same_v<Layer, graph::Conv>;
    const ValueId x = node.inputs[0];
    size_t channels = 0;
    std::vector<int64_t> weight_dims;
    const char* op = "Gemm";
    if constexpr (kIsConv) {
      channels = static_cast<size_t>(k.oc);
      weight_dims = {k.oc, dims(x)[0] / k.groups, k.window.kernel_h, k.window.kernel_w};
      op = on_integers ? "QLinearConv" : "Conv";
    } else {
      channels = static_cast<size_t>(k.out);
      weight_dims = {k.out, dims(x).back()};
      if (on_integers) op = "QGemm";
    }
    const Scale input = scale_of(x);
    const std::vector<float> scale = weight_scale(k.weights, channels);
    const std::string stem = fmt::format("v{}.weight", node.output);
    model_.integers(stem, kInt8, rounded(k.weights, scale), weight_dims);
    const auto parameter_dims =
        scale.size() == 1 ? std::vector<int64_t>{} : std::vector<int64_t>{static_cast<int64_t>(channels)};
    model_.floats(stem + ".scale", scale, parameter_dims)
        .integers(stem + ".zero", kInt8, std::vector<int>(scale.size(), 0), parameter_dims);
    std::vector<float> bias_scale;
    for (float s : scale) bias_scale.push_back(s * input.step);
    std::vector<float> bias = k.bias;
    bias.resize(channels, 0.0f);
    model_.integers(stem + ".bias", kInt32, rounded(bias, bias_scale), {static_cast<int64_t>(channels)});
    std::vector<std::string> inputs, last;
    if (on_integers) {
      inputs = {codes_.at(x), input.scale, input.zero, stem, stem + ".scale", stem + ".zero"};
      (kIsConv ? last : inputs).push_back(stem + ".bias");
    } else {
      model_.floats(stem + ".bias.scale", bias_scale, parameter_dims);
      inputs = {real(x), stem + ".real", stem + ".bias.real"};
      model_.node("DequantizeLinear", {stem, stem + ".scale", stem + ".zero"}, {inputs[1]}).set("axis", 0);
      model_.node("DequantizeLinear", {stem + ".bias", stem + ".bias.scale"}, {inputs[2]}).set("axis", 0);
    }
    const std::string result = name(node.output, "layer");
    NodeMaker maker = on_integers ? integers(node, op, inputs, last) : model_.node(op, inputs, {result});
    if constexpr (kIsConv) {
      window(maker, k.window);
      maker.set("group", k.groups);
    } else {
      if (on_integers) maker.domain("com.microsoft");
      maker.set("transB", 1);
    }
    if (!on_integers) store(node, result);
  }

  std::vector<float> weight_scale(const std::vector<float>& weights, size_t channels) const {
    const size_t count = tool_.per_channel ? channels : 1, row = weights.size() / count;
    std::vector<float> scale(count, 1e-6f);
    for (size_t i = 0; i < weights.size(); ++i)
      scale[i / row] = std::max(scale[i / row], std::fabs(weights[i]) / 127);
    return scale;
  }

  static std::vector<int> rounded(const std::vector<float>& values, const std::vector<float>& scale) {
    const size_t row = std::max<size_t>(values.size() / scale.size(), 1);
    std::vector<int> integers;
    for (size_t i = 0; i < values.size(); ++i)
      integers.push_back(static_cast<int>(std::nearbyint(values[i] / scale[i / row])));
    return integers;
  }

  const Graph& graph_;
  const std::vector<ValueRange>& ranges_;
  const OtherTool tool_;
  std::vector<std::vector<graph::NodeId>> uses_;
  Model model_;
  std::map<ValueId, Scale> scales_;
  std::map<ValueId, std::string> codes_, real_;  ///< names of a value as integers and as floats
  int constants_ = 0;
};

}  // namespace

std::vector<ValueRange> value_ranges(const Graph& graph, std::span<const float> input, int images) {
  Graph all = graph;
  all.outputs.clear();
  for (const Node& node : graph.nodes) all.outputs.push_back(node.output);
  const program::Program program = compile::lower_float(all);
  runtime::Options options;
  options.max_batch = images;
  runtime::Session session(runtime::Model::prepare(program, options));
  std::vector<std::vector<float>> values;
  for (program::TensorId id : program.outputs) {
    const auto elems = program::elements(program.tensors[static_cast<size_t>(id)].dims);
    values.emplace_back(static_cast<size_t>(elems * images));
  }
  const std::vector<std::span<float>> outputs(values.begin(), values.end());
  session.run(input, images, outputs);
  std::vector<ValueRange> ranges(graph.values.size());
  const auto range_of = [](std::span<const float> of) {
    const auto [low, high] = std::ranges::minmax(of);
    return ValueRange{low, high};
  };
  ranges[static_cast<size_t>(graph.input)] = range_of(input);
  for (size_t i = 0; i < values.size(); ++i)
    ranges[static_cast<size_t>(all.outputs[i])] = range_of(values[i]);
  return ranges;
}

void write_as_other_tool(const Graph& graph, const std::vector<ValueRange>& ranges, const OtherTool& tool,
                         const std::filesystem::path& path) {
  const std::string bytes = Writer(graph, ranges, tool).run();
  write_file_atomically(path, std::span(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()));
}

}  // namespace bitstrata::testing
