#include "onnx/export.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "graph/overloaded.h"
#include "graph/shapes.h"
#include "onnx/proto.h"

namespace bitstrata::onnx {

namespace {

using graph::Dims;
using graph::ValueId;
using program::Function;
using program::Step;
using program::StepKind;

constexpr int kOpset = 17;
constexpr int kIrVersion = 8;
constexpr size_t kMaxFileBytes = (size_t{1} << 31) - 1;

bool is_constant_vector(const std::vector<float>& values, float expected) {
  return std::all_of(values.begin(), values.end(), [&](float v) { return v == expected; });
}

/// One ONNX node being filled in.
class NodeWriter {
 public:
  explicit NodeWriter(pb::NodeProto& proto) : proto_(proto) {}

  NodeWriter& set(const char* name, int64_t value) {
    auto& a = add(name, pb::AttributeProto::INT);
    a.set_i(value);
    return *this;
  }
  NodeWriter& set(const char* name, float value) {
    auto& a = add(name, pb::AttributeProto::FLOAT);
    a.set_f(value);
    return *this;
  }
  NodeWriter& set(const char* name, const std::vector<int64_t>& values) {
    auto& a = add(name, pb::AttributeProto::INTS);
    a.mutable_ints()->Add(values.begin(), values.end());
    return *this;
  }
  NodeWriter& window(const program::Window& w) {
    return set("kernel_shape", std::vector<int64_t>{w.kernel_h, w.kernel_w})
        .set("strides", std::vector<int64_t>{w.stride_h, w.stride_w})
        .set("pads", std::vector<int64_t>{w.pad_top, w.pad_left, w.pad_bottom, w.pad_right});
  }

 private:
  pb::AttributeProto& add(const char* name, pb::AttributeProto::AttributeType type) {
    auto& a = *proto_.add_attribute();
    a.set_name(name);
    a.set_type(type);
    return a;
  }

  pb::NodeProto& proto_;
};

/// Writes one graph.
class Exporter {
 public:
  explicit Exporter(const graph::Graph& graph) : graph_(graph), names_(graph.values.size()) {}

  pb::ModelProto operator()() {
    graph::verify(graph_);
    write_header();
    name_values();
    describe_value(*onnx().add_input(), graph_.input);
    for (ValueId v : graph_.outputs) describe_value(*onnx().add_output(), v);
    for (const graph::Node& node : graph_.nodes) write_node(node);
    return std::move(model_);
  }

 private:
  pb::GraphProto& onnx() { return *model_.mutable_graph(); }
  const Dims& dims(ValueId v) const { return graph_.values[v].dims; }

  void write_header() {
    model_.set_ir_version(kIrVersion);
    model_.set_producer_name("bitstrata");
    auto& opset = *model_.add_opset_import();
    opset.set_domain("");
    opset.set_version(kOpset);
    onnx().set_name(graph_.name.empty() ? "network" : graph_.name);
    for (const auto& [key, value] : graph_.metadata) write_metadata(key, value);
    if (!graph_.mean.empty()) write_metadata("bitstrata.mean", json_text(graph_.mean));
    if (!graph_.std.empty()) write_metadata("bitstrata.std", json_text(graph_.std));
    if (!graph_.class_names.empty()) write_metadata("bitstrata.classes", json_text(graph_.class_names));
  }

  template <typename Values>
  static std::string json_text(const Values& values) {
    return nlohmann::json(values).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }

  void write_metadata(const std::string& key, const std::string& value) {
    auto& entry = *model_.add_metadata_props();
    entry.set_key(key);
    entry.set_value(value);
  }

  /// The input is "input", outputs keep their names, the others too unless that would clash.
  void name_values() {
    names_[graph_.input] = unique("input");
    for (ValueId v : graph_.outputs) {
      if (names_[v].empty())
        names_[v] = unique(graph_.values[v].name.empty() ? "output" : graph_.values[v].name);
    }
    for (size_t v = 0; v < names_.size(); ++v) {
      const std::string& name = graph_.values[v].name;
      if (names_[v].empty()) names_[v] = unique(name.empty() ? fmt::format("value{}", v) : name);
    }
  }

  std::string unique(const std::string& name) {
    std::string candidate = name;
    for (int i = 2; !used_.insert(candidate).second; ++i) candidate = fmt::format("{}#{}", name, i);
    return candidate;
  }

  void describe_value(pb::ValueInfoProto& info, ValueId v) {
    info.set_name(names_[v]);
    auto& type = *info.mutable_type()->mutable_tensor_type();
    type.set_elem_type(pb::TensorProto::FLOAT);
    type.mutable_shape()->add_dim()->set_dim_param("batch");
    for (int64_t d : dims(v)) type.mutable_shape()->add_dim()->set_dim_value(d);
  }

  std::string floats(const std::string& name, const std::vector<float>& values, const Dims& value_dims) {
    auto& tensor = *onnx().add_initializer();
    tensor.set_name(unique(name));
    tensor.set_data_type(pb::TensorProto::FLOAT);
    tensor.mutable_dims()->Add(value_dims.begin(), value_dims.end());
    tensor.set_raw_data(values.data(), values.size() * sizeof(float));
    return tensor.name();
  }

  std::string vector(const std::string& name, const std::vector<float>& values) {
    return floats(name, values, {static_cast<int64_t>(values.size())});
  }

  /// One value per index of an image's first dim, shaped to broadcast.
  std::string per_channel(const std::string& name, const std::vector<float>& values, size_t rank) {
    Dims shape(rank, 1);
    shape[0] = static_cast<int64_t>(values.size());
    return floats(name, values, shape);
  }

  std::string ints(const std::string& name, const std::vector<int64_t>& values) {
    auto& tensor = *onnx().add_initializer();
    tensor.set_name(unique(name));
    tensor.set_data_type(pb::TensorProto::INT64);
    tensor.add_dims(static_cast<int64_t>(values.size()));
    tensor.set_raw_data(values.data(), values.size() * sizeof(int64_t));
    return tensor.name();
  }

  NodeWriter add(const char* op, const std::vector<std::string>& inputs, const std::string& output,
                 const std::string& name) {
    auto& node = *onnx().add_node();
    node.set_op_type(op);
    node.set_name(name);
    for (const std::string& input : inputs) node.add_input(input);
    node.add_output(output);
    return NodeWriter(node);
  }

  /// The names of a constant operand's initialiser or of an activation.
  std::string operand(const graph::Node& node, size_t i) {
    const graph::Value& value = graph_.values[node.inputs[i]];
    if (!value.is_constant()) return names_[node.inputs[i]];
    return floats(node.name + ".constant", value.data, value.dims);
  }

  void write_node(const graph::Node& node) {
    const std::string& x = names_[node.inputs[0]];
    const std::string& y = names_[node.output];
    std::visit(
        graph::Overloaded{
            [&](const graph::Conv& k) { write(node, k, x, y); },
            [&](const graph::Linear& k) { write(node, k, x, y); },
            [&](const graph::BatchNorm& k) {
              add("BatchNormalization",
                  {x, vector(node.name + ".weight", k.gamma), vector(node.name + ".bias", k.beta),
                   vector(node.name + ".running_mean", k.mean),
                   vector(node.name + ".running_var", k.variance)},
                  y, node.name)
                  .set("epsilon", k.epsilon);
            },
            [&](const graph::Affine& k) { write(node, k, x, y); },
            [&](const graph::Activation& k) { write_step(node, k.step, x, y); },
            [&](const graph::Binary& k) {
              static const char* const kOps[] = {"Add", "Sub", "Mul", "Div"};
              add(kOps[static_cast<int>(k.kind)], {operand(node, 0), operand(node, 1)}, y, node.name);
            },
            [&](const program::AveragePool& k) {
              if (k.window.dilation_h != 1 || k.window.dilation_w != 1)
                refuse(node, "dilated average pooling");
              add("AveragePool", {x}, y, node.name)
                  .window(k.window)
                  .set("count_include_pad", int64_t{k.count_include_pad});
            },
            [&](const program::ReduceMean& k) {
              std::vector<int64_t> axes;
              for (int axis : k.axes) axes.push_back(axis + 1);
              add("ReduceMean", {x}, y, node.name).set("axes", axes).set("keepdims", int64_t{k.keep_dims});
            },
            [&](const program::Softmax& k) {
              add("Softmax", {x}, y, node.name).set("axis", int64_t{k.axis + 1});
            },
            [&](const program::MatMul&) {
              add("MatMul", {x, names_[node.inputs[1]]}, y, node.name);
            },
            [&](const program::MaxPool& k) {
              add("MaxPool", {x}, y, node.name).window(k.window).set("dilations", dilations(k.window));
            },
            [&](const program::Concat& k) { write(node, k, y); },
            [&](const program::Slice& k) { write(node, k, x, y); },
            [&](const program::Pad& k) { write(node, k, x, y); },
            [&](const program::Transpose& k) {
              std::vector<int64_t> perm = {0};
              for (int axis : k.perm) perm.push_back(axis + 1);
              add("Transpose", {x}, y, node.name).set("perm", perm);
            },
            [&](const program::Reshape&) {
              std::vector<int64_t> shape = {0};
              shape.insert(shape.end(), dims(node.output).begin(), dims(node.output).end());
              add("Reshape", {x, ints(node.name + ".shape", shape)}, y, node.name);
            },
            [&](const program::Gather& k) {
              add("Gather", {x, ints(node.name + ".indices", k.indices)}, y, node.name)
                  .set("axis", int64_t{k.axis + 1});
            },
        },
        node.kind);
  }

  static std::vector<int64_t> dilations(const program::Window& w) { return {w.dilation_h, w.dilation_w}; }

  void write(const graph::Node& node, const graph::Conv& k, const std::string& x, const std::string& y) {
    const int64_t ic = dims(node.inputs[0])[0] / k.groups;
    std::vector<std::string> inputs = {
        x, floats(node.name + ".weight", k.weights, {k.oc, ic, k.window.kernel_h, k.window.kernel_w})};
    if (!k.bias.empty()) inputs.push_back(vector(node.name + ".bias", k.bias));
    add("Conv", inputs, y, node.name)
        .window(k.window)
        .set("dilations", dilations(k.window))
        .set("group", int64_t{k.groups});
  }

  void write(const graph::Node& node, const graph::Linear& k, const std::string& x, const std::string& y) {
    const int64_t in = dims(node.inputs[0]).back();
    if (dims(node.inputs[0]).size() == 1) {
      std::vector<std::string> inputs = {x, floats(node.name + ".weight", k.weights, {k.out, in})};
      if (!k.bias.empty()) inputs.push_back(vector(node.name + ".bias", k.bias));
      add("Gemm", inputs, y, node.name).set("transB", int64_t{1});
      return;
    }
    std::vector<float> columns(k.weights.size());
    for (int64_t o = 0; o < k.out; ++o) {
      for (int64_t i = 0; i < in; ++i) columns[i * k.out + o] = k.weights[o * in + i];
    }
    const std::string product = k.bias.empty() ? y : unique(y + ".product");
    add("MatMul", {x, floats(node.name + ".weight", columns, {in, k.out})}, product, node.name);
    if (!k.bias.empty()) add("Add", {product, vector(node.name + ".bias", k.bias)}, y, node.name + ".add");
  }

  void write(const graph::Node& node, const graph::Affine& k, const std::string& x, const std::string& y) {
    const size_t rank = dims(node.output).size();
    const bool multiplies = !is_constant_vector(k.mul, 1), adds = !is_constant_vector(k.add, 0);
    if (!multiplies && !adds) add("Identity", {x}, y, node.name);
    const std::string product = multiplies && adds ? unique(y + ".product") : multiplies ? y : x;
    if (multiplies) add("Mul", {x, per_channel(node.name + ".mul", k.mul, rank)}, product, node.name);
    if (adds) {
      add("Add", {product, per_channel(node.name + ".add", k.add, rank)}, y,
          multiplies ? node.name + ".add" : node.name);
    }
  }

  void write(const graph::Node& node, const program::Concat& k, const std::string& y) {
    std::vector<std::string> inputs;
    for (ValueId v : node.inputs) {
      if (graph_.values[v].is_constant()) refuse(node, "joining a constant");
      inputs.push_back(names_[v]);
    }
    add("Concat", inputs, y, node.name).set("axis", int64_t{k.axis + 1});
  }

  void write(const graph::Node& node, const program::Slice& k, const std::string& x, const std::string& y) {
    const int64_t in = dims(node.inputs[0])[k.axis], extent = dims(node.output)[k.axis];
    int64_t end = k.start + (extent - 1) * k.step + (k.step > 0 ? 1 : -1);
    if (end < 0) end = -in - 1;  // before the first element: -1 would mean the last
    add("Slice",
        {x, ints(node.name + ".starts", {k.start}), ints(node.name + ".ends", {end}),
         ints(node.name + ".axes", {k.axis + 1}), ints(node.name + ".steps", {k.step})},
        y, node.name);
  }

  void write(const graph::Node& node, const program::Pad& k, const std::string& x, const std::string& y) {
    std::vector<int64_t> pads = {0};
    pads.insert(pads.end(), k.before.begin(), k.before.end());
    pads.push_back(0);
    pads.insert(pads.end(), k.after.begin(), k.after.end());
    add("Pad", {x, ints(node.name + ".pads", pads), floats(node.name + ".value", {k.value}, {})}, y,
        node.name);
  }

  void write_step(const graph::Node& node, const Step& step, const std::string& x, const std::string& y) {
    switch (step.kind) {
      case StepKind::kClip:
        return write_clip(node, step, x, y);
      case StepKind::kLeakyRelu:
        add("LeakyRelu", {x}, y, node.name).set("alpha", step.a);
        return;
      case StepKind::kPRelu:
        add("PRelu", {x, per_channel(node.name + ".slope", step.mul, dims(node.output).size())}, y,
            node.name);
        return;
      case StepKind::kHardSigmoid:
        add("HardSigmoid", {x}, y, node.name).set("alpha", step.a).set("beta", step.b);
        return;
      case StepKind::kHardSwish:
        add("HardSwish", {x}, y, node.name);
        return;
      case StepKind::kFunction:
        return write_function(node, step, x, y);
      default:
        refuse(node, "an activation with an operand");
    }
  }

  void write_clip(const graph::Node& node, const Step& step, const std::string& x, const std::string& y) {
    const bool low = !std::isinf(step.a), high = !std::isinf(step.b);
    if (step.a == 0 && !high) {
      add("Relu", {x}, y, node.name);
      return;
    }
    std::vector<std::string> inputs = {x, low ? floats(node.name + ".min", {step.a}, {}) : ""};
    if (high) inputs.push_back(floats(node.name + ".max", {step.b}, {}));
    if (!high && !low) inputs.pop_back();
    add("Clip", inputs, y, node.name);
  }

  void write_function(const graph::Node& node, const Step& step, const std::string& x, const std::string& y) {
    switch (step.function) {
      case Function::kSigmoid:
        add("Sigmoid", {x}, y, node.name);
        return;
      case Function::kTanh:
        add("Tanh", {x}, y, node.name);
        return;
      case Function::kExp:
        add("Exp", {x}, y, node.name);
        return;
      case Function::kLog:
        add("Log", {x}, y, node.name);
        return;
      case Function::kSqrt:
        add("Sqrt", {x}, y, node.name);
        return;
      case Function::kErf:
        add("Erf", {x}, y, node.name);
        return;
      case Function::kSoftplus:
        add("Softplus", {x}, y, node.name);
        return;
      case Function::kElu:
        add("Elu", {x}, y, node.name).set("alpha", step.a);
        return;
      case Function::kAbs:
        add("Abs", {x}, y, node.name);
        return;
      case Function::kNegate:
        add("Neg", {x}, y, node.name);
        return;
      case Function::kReciprocal:
        add("Reciprocal", {x}, y, node.name);
        return;
      case Function::kPower:
        add("Pow", {x, floats(node.name + ".exponent", {step.a}, {})}, y, node.name);
        return;
      case Function::kSilu: {
        const std::string gate = unique(y + ".sigmoid");
        add("Sigmoid", {x}, gate, node.name + ".sigmoid");
        add("Mul", {x, gate}, y, node.name);
        return;
      }
      case Function::kGelu:
        return write_gelu(node, x, y);
      case Function::kNone:
        refuse(node, "an activation without a function");
    }
  }

  /// x / 2 * (1 + erf(x / sqrt(2))): opset 17 has no Gelu.
  void write_gelu(const graph::Node& node, const std::string& x, const std::string& y) {
    const std::string scaled = unique(y + ".scaled"), erf = unique(y + ".erf"), gate = unique(y + ".gate"),
                      half = unique(y + ".half");
    add("Mul", {x, floats(node.name + ".rsqrt2", {static_cast<float>(M_SQRT1_2)}, {})}, scaled,
        node.name + ".scaled");
    add("Erf", {scaled}, erf, node.name + ".erf");
    add("Add", {erf, floats(node.name + ".one", {1.0f}, {})}, gate, node.name + ".gate");
    add("Mul", {x, floats(node.name + ".one_half", {0.5f}, {})}, half, node.name + ".half");
    add("Mul", {half, gate}, y, node.name);
  }

  [[noreturn]] void refuse(const graph::Node& node, const char* what) const {
    fail(ErrorCode::kUnsupported, "ONNX export: node '{}' ({}): {} has no form in opset {}",
         printable(node.name), graph::kind_name(node.kind), what, kOpset);
  }

  const graph::Graph& graph_;
  pb::ModelProto model_;
  std::vector<std::string> names_;
  std::set<std::string> used_;
};

}  // namespace

void export_float(const graph::Graph& graph, const std::filesystem::path& path) {
  const pb::ModelProto model = Exporter(graph)();
  if (model.ByteSizeLong() > kMaxFileBytes) {
    fail(ErrorCode::kUnsupported, "{}: the model has {} bytes, ONNX files without external data hold {}",
         path.string(), model.ByteSizeLong(), kMaxFileBytes);
  }
  write_file_atomically(path, std::string_view(model.SerializeAsString()));
}

}  // namespace bitstrata::onnx
