#include "onnx/builder.h"

#include <algorithm>
#include <utility>

#include "graph/shapes.h"
#include "onnx/proto.h"

namespace bitstrata::onnx {

namespace {
constexpr size_t kMaxRank = 5;
}

Builder::Builder(std::string file, std::optional<std::filesystem::path> folder, int64_t budget_elems)
    : budget(budget_elems), file_(std::move(file)), folder_(std::move(folder)) {}

const Operand* Builder::find(const std::string& name) {
  if (const auto known = names_.find(name); known != names_.end()) return &known->second;
  const auto initialiser = initialisers_.find(name);
  if (initialiser == initialisers_.end()) return nullptr;
  const auto& proto = *initialiser->second;
  const std::string where = fmt::format("{}: tensor '{}'", file_, name);
  budget.take(count_elems({proto.dims().begin(), proto.dims().end()}, where), where);
  Operand operand{std::make_shared<const Tensor>(decode_tensor(proto)), -1};
  return &names_.emplace(name, std::move(operand)).first->second;
}

const Operand& Builder::operand(const NodeView& node, size_t input) {
  if (!has(node, input)) node.bad("input {} is missing", input);
  const Operand* operand = find(node.input_name(input));
  if (operand == nullptr)
    node.bad("input {} is '{}', which nothing before it defines", input, printable(node.input_name(input)));
  return *operand;
}

ValueId Builder::activation(const NodeView& node, size_t input) {
  const Operand& o = operand(node, input);
  if (o.is_constant())
    node.unsupported("input {} ('{}') is a constant, supported is an activation", input,
                     printable(node.input_name(input)));
  if (o.integers) {
    node.unsupported(
        "input {} ('{}') holds the integers of a QuantizeLinear, supported on those are Clip, data movement, "
        "QLinear operators and DequantizeLinear",
        input, printable(node.input_name(input)));
  }
  return o.value;
}

const Tensor& Builder::constant(const NodeView& node, size_t input) {
  const Operand& o = operand(node, input);
  if (!o.is_constant()) {
    node.unsupported("input {} ('{}') depends on the network's input, supported is a constant", input,
                     printable(node.input_name(input)));
  }
  return *o.constant;
}

std::vector<int64_t> Builder::int_vector(const NodeView& node, size_t input) {
  const Tensor& tensor = constant(node, input);
  if (tensor.is_float || tensor.dims.size() > 1) node.bad("input {} is no list of integers", input);
  return tensor.ints;
}

std::vector<float> Builder::float_vector(const NodeView& node, size_t input) {
  const Tensor& tensor = constant(node, input);
  if (!tensor.is_float) node.bad("input {} is no floating-point tensor", input);
  budget.take(tensor.elems(), node.where());
  return tensor.floats;
}

float Builder::scalar(const NodeView& node, size_t input) {
  const Tensor& tensor = constant(node, input);
  if (!tensor.is_float || tensor.elems() != 1)
    node.bad("input {} has {} elements, expected one floating-point number", input, tensor.elems());
  return tensor.floats[0];
}

std::optional<graph::ScaledIntegers> Builder::integers_of(const NodeView& node, size_t input,
                                                          size_t channel_axis) {
  const Tensor& tensor = constant(node, input);
  if (!tensor.grid || tensor.floats.empty()) return std::nullopt;
  budget.take(tensor.elems(), node.where());
  const auto channels = static_cast<size_t>(tensor.dims[channel_axis]);
  size_t inner = 1;
  for (size_t i = channel_axis + 1; i < tensor.dims.size(); ++i) inner *= static_cast<size_t>(tensor.dims[i]);
  graph::ScaledIntegers integers{tensor.grid->integers, std::vector<float>(channels)};
  const std::vector<float>& scales = tensor.grid->scales;
  for (size_t c = 0; c < channels; ++c) integers.scale[c] = scales[c * inner];
  for (size_t i = 0; i < scales.size(); ++i) {
    if (scales[i] != integers.scale[i / inner % channels]) return std::nullopt;
  }
  return integers;
}

const graph::Node* Builder::producer(ValueId value) const {
  // Nodes are appended together with their outputs, so those rise.
  const auto found = std::ranges::lower_bound(graph.nodes, value, {}, &graph::Node::output);
  return found != graph.nodes.end() && found->output == value ? &*found : nullptr;
}

const std::optional<quant::CodeType>& Builder::code_of(ValueId value) {
  codes_.resize(graph.values.size());
  return codes_[static_cast<size_t>(value)];
}

Dims Builder::full_dims(ValueId value) const {
  Dims full = {batch};
  full.insert(full.end(), dims(value).begin(), dims(value).end());
  return full;
}

int Builder::image_axis(const NodeView& node, int64_t axis, size_t rank) const {
  const int64_t n = static_cast<int64_t>(rank);
  if (axis < -n || axis >= n) node.bad("axis {} of a tensor of {} dims", axis, rank);
  const int64_t positive = axis < 0 ? axis + n : axis;
  if (positive == 0) node.unsupported("works along the batch (axis 0), supported are the axes behind it");
  return static_cast<int>(positive - 1);
}

std::string Builder::unique_name(const std::string& name) {
  std::string candidate = name;
  while (!node_names_.emplace(candidate, 1).second)
    candidate = fmt::format("{}#{}", name, ++node_names_[name]);
  return candidate;
}

ValueId Builder::emit(const NodeView& node, graph::Kind kind, std::vector<ValueId> inputs, Dims stored) {
  const ValueId output = static_cast<ValueId>(graph.values.size());
  graph.values.push_back({"", std::move(stored), {}});
  graph::Node added{unique_name(node.name()), std::move(kind), std::move(inputs), output};
  try {
    graph.values[output].dims = graph::infer_dims(graph, added);
  } catch (const Error& error) {
    fail(error.code(), "{}: {}", printable(file_), error.what());
  }
  if (graph.values[output].dims.size() > kMaxRank) {
    node.unsupported("output of {} dims behind the batch, supported are up to {}",
                     graph.values[output].dims.size(), kMaxRank);
  }
  std::vector<std::optional<quant::CodeType>> codes;
  for (ValueId v : added.inputs) codes.push_back(code_of(v));
  codes_[static_cast<size_t>(output)] = graph::carried_code(added, codes);
  graph.nodes.push_back(std::move(added));
  return output;
}

ValueId Builder::emit_reshape(const NodeView& node, ValueId input, Dims image_dims) {
  if (image_dims.empty())
    node.unsupported("output has no dim behind the batch, supported are 1 to {}", kMaxRank);
  if (image_dims == dims(input)) return input;
  return emit(node, program::Reshape{}, {input}, std::move(image_dims));
}

ValueId Builder::emit_constant(const NodeView& node, std::vector<float> data, Dims image_dims) {
  if (image_dims.empty()) image_dims = {1};
  if (data.empty() || image_dims.size() > kMaxRank) {
    node.unsupported("constant operand of dims {}, supported are 1 to {} dims with elements",
                     graph::to_string(image_dims), kMaxRank);
  }
  graph.values.push_back({fmt::format("{}.constant", node.name()), std::move(image_dims), std::move(data)});
  return static_cast<ValueId>(graph.values.size()) - 1;
}

void Builder::bind(const NodeView& node, size_t output, ValueId value) {
  std::string& name = graph.values[value].name;
  if (name.empty()) name = node.output_name(output);
  bind(node, output, Operand{nullptr, value});
}

void Builder::bind(const NodeView& node, size_t output, Tensor tensor) {
  bind(node, output, Operand{std::make_shared<const Tensor>(std::move(tensor)), -1});
}

void Builder::bind(const NodeView& node, size_t output, const Operand& operand) {
  const std::string name = node.output_name(output);
  if (name.empty()) return;
  if (is_defined(name)) node.bad("output '{}' is defined twice", printable(name));
  names_.emplace(name, Operand(operand));
}

void Builder::define(const std::string& name, Operand operand) {
  names_[name] = std::move(operand);
}

void Builder::define_initialiser(const std::string& name, const pb::TensorProto& proto) {
  initialisers_[name] = &proto;
}

}  // namespace bitstrata::onnx
