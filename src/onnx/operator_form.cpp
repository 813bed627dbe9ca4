#include "onnx/operator_form.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

namespace bitstrata::onnx {

namespace {

/// How an integer operator's inputs are arranged. A tensor is followed by its scale and zero point.
struct Arrangement {
  const char* op;        ///< the operator on floats
  int tensors;           ///< of inputs 0, 1, 2 and, when 2, of 3, 4, 5; 0: any number behind the output's
  int result = -1;       ///< first input of the output's scale and zero point
  int bias = -1;         ///< input of int32 with the product of the scales of both tensors
  bool in_onnx = false;  ///< of ONNX itself, otherwise of com.microsoft only
};

constexpr std::pair<std::string_view, Arrangement> kOperators[] = {
    {"QLinearConv", {"Conv", 2, 6, 8, true}},
    {"QLinearMatMul", {"MatMul", 2, 6, -1, true}},
    {"QGemm", {"Gemm", 2, 7, 6}},
    {"QLinearAdd", {"Add", 2, 6}},
    {"QLinearMul", {"Mul", 2, 6}},
    {"QLinearConcat", {"Concat", 0, 0}},
    {"QLinearGlobalAveragePool", {"GlobalAveragePool", 1, 3}},
    {"QLinearAveragePool", {"AveragePool", 1, 3}},
    {"QLinearLeakyRelu", {"LeakyRelu", 1, 3}},
    {"QLinearSigmoid", {"Sigmoid", 1, 3}},
    {"QLinearSoftmax", {"Softmax", 1, 3}},
};

constexpr std::string_view kMovement[] = {"Concat",  "DepthToSpace", "Flatten",   "Gather",   "Identity",
                                          "MaxPool", "Pad",          "Reshape",   "Slice",    "SpaceToDepth",
                                          "Split",   "Squeeze",      "Transpose", "Unsqueeze"};

const Arrangement* find(std::string_view domain, std::string_view op) {
  const auto found = std::ranges::find(kOperators, op, [](const auto& entry) { return entry.first; });
  if (found == std::end(kOperators)) return nullptr;
  const bool is_onnx = domain.empty() || domain == "ai.onnx";
  return domain == "com.microsoft" || (is_onnx && found->second.in_onnx) ? &found->second : nullptr;
}

/// The nodes in place of one.
class Expansion {
 public:
  Expansion(Builder& builder, const NodeView& node, const pb::NodeProto& proto)
      : builder_(builder), node_(node), proto_(proto) {}

  std::vector<pb::NodeProto> integer_operator(const Arrangement& arrangement) {
    if (node_.integer("channels_last", 0) != 0)
      node_.unsupported("channels_last = 1, supported is 0: channels before height and width");
    std::vector<std::string> inputs;
    if (arrangement.tensors == 0) {
      for (size_t i = 2; i < node_.num_inputs(); i += 3) inputs.push_back(dequantized(i, 0));
    } else {
      inputs.push_back(dequantized(0, 0));
    }
    if (arrangement.tensors == 2) inputs.push_back(dequantized(3, channel_axis(arrangement)));
    if (arrangement.bias >= 0 && has(arrangement.bias)) inputs.push_back(bias(arrangement.bias));
    const std::string result = fresh("result");
    pb::NodeProto& made = add(arrangement.op, inputs, result);
    made.set_name(node_.name());
    for (const auto& attribute : proto_.attribute()) {
      if (attribute.name() != "channels_last" && attribute.name() != "opset")
        *made.add_attribute() = attribute;
    }
    if (made.op_type() == "Softmax") softmax_axis(made);
    if (!has(arrangement.result) && std::string_view(arrangement.op) == "Gemm") {
      made.set_output(0, proto_.output(0));  // QGemm without a scale for its output yields floats
      return std::move(nodes_);
    }
    // A QuantizeLinear without zero point would yield uint8, whatever the inputs are.
    if (!has(arrangement.result + 1))
      node_.unsupported("input {}, the zero point of the output, is missing, supported is a constant",
                        arrangement.result + 1);
    add("QuantizeLinear", {result, input(arrangement.result), input(arrangement.result + 1)},
        proto_.output(0));
    return std::move(nodes_);
  }

  /// Data movement of the integers that `first` stands for.
  std::vector<pb::NodeProto> movement(const StoredIntegers& first) {
    const std::string scale = fresh("scale"), zero_point = fresh("zero_point");
    builder_.define(scale, constant(Tensor::of_floats({first.scale}, {})));
    builder_.define(zero_point, constant(integer(first, first.zero_point)));
    pb::NodeProto moved = proto_;
    const size_t data = node_.op() == "Concat" ? node_.num_inputs() : 1;
    for (size_t i = 0; i < data; ++i) {
      const auto& other = builder_.operand(node_, i).integers;
      if (other && (other->scale != first.scale || other->zero_point != first.zero_point))
        node_.unsupported("integers of scales {} and {} and zero points {} and {}, supported are equal ones",
                          first.scale, other->scale, first.zero_point, other->zero_point);
      moved.set_input(static_cast<int>(i), add_dequantize(node_.input_name(i), scale, zero_point));
    }
    if (node_.op() == "Pad" && node_.text("mode", "constant") == "constant") {
      std::string value = has(2) ? input(2) : fresh("padding");
      if (!has(2)) builder_.define(value, constant(integer(first, 0)));
      while (moved.input_size() < 3) moved.add_input("");
      moved.set_input(2, add_dequantize(value, scale, zero_point));
    }
    nodes_.push_back(std::move(moved));
    const size_t at = nodes_.size() - 1;
    const int outputs = node_.op() == "Split" ? proto_.output_size() : 1;
    for (int i = 0; i < outputs; ++i) {
      if (proto_.output(i).empty()) continue;
      const std::string result = fresh("moved");
      nodes_[at].set_output(i, result);
      add("QuantizeLinear", {result, scale, zero_point}, proto_.output(i));
    }
    return std::move(nodes_);
  }

 private:
  /// Softmax has had another axis by default, and another meaning of it, before opset 13.
  void softmax_axis(pb::NodeProto& softmax) const {
    constexpr int kChange = 13;
    const int64_t own = node_.integer("opset", node_.opset());
    if ((own < kChange) != (node_.opset() < kChange))
      node_.unsupported("opset {} in a file of opset {}, supported is the file's", own, node_.opset());
    if (!node_.has("axis")) set_axis(softmax, -1);
  }

  static void set_axis(pb::NodeProto& node, int64_t axis) {
    auto& attribute = *node.add_attribute();
    attribute.set_name("axis");
    attribute.set_type(pb::AttributeProto::INT);
    attribute.set_i(axis);
  }

  bool has(int i) const { return i < proto_.input_size() && !proto_.input(i).empty(); }
  std::string input(int i) const { return has(i) ? proto_.input(i) : std::string(); }
  /// A name that nothing before this node has; one behind it cannot take it either.
  std::string fresh(const char* what) {
    std::string name;
    do {
      name = fmt::format("{}/{}{}", node_.output_name(0), what, count_++);
    } while (builder_.is_defined(name));
    return name;
  }

  static Operand constant(Tensor tensor) { return {std::make_shared<const Tensor>(std::move(tensor)), -1}; }
  static Tensor integer(const StoredIntegers& like, int64_t value) {
    Tensor tensor = Tensor::of_scalar(value);
    tensor.element_type = like.element_type;
    return tensor;
  }

  pb::NodeProto& add(const char* op, const std::vector<std::string>& inputs, const std::string& output) {
    pb::NodeProto& made = nodes_.emplace_back();
    made.set_name(fmt::format("{}/{}", node_.name(), op));
    made.set_op_type(op);
    for (const std::string& name : inputs) made.add_input(name);
    made.add_output(output);
    return made;
  }

  std::string add_dequantize(const std::string& x, const std::string& scale, const std::string& zero_point,
                             int64_t axis = 0) {
    const std::string y = fresh("real");
    set_axis(add("DequantizeLinear", {x, scale, zero_point}, y), axis);
    return y;
  }

  std::string dequantized(size_t first, int64_t axis) {
    for (size_t i = first; i < first + 2; ++i) builder_.operand(node_, i);  // says which is missing
    const int i = static_cast<int>(first);
    return add_dequantize(input(i), input(i + 1), input(i + 2), axis);
  }

  int64_t channel_axis(const Arrangement& arrangement) const {
    const bool transposed = node_.integer("transB", 0) != 0;
    if (std::string_view(arrangement.op) == "Gemm") return transposed ? 0 : 1;
    return std::string_view(arrangement.op) == "MatMul" ? -1 : 0;
  }

  std::string bias(int at) {
    if (node_.real("alpha", 1.0f) != 1.0f)
      node_.unsupported("alpha {} with C, supported is 1", node_.real("alpha", 1.0f));
    const std::string scale = fresh("bias_scale");
    add("Mul", {input(1), input(4)}, scale);
    return add_dequantize(input(at), scale, "");
  }

  Builder& builder_;
  const NodeView& node_;
  const pb::NodeProto& proto_;
  std::vector<pb::NodeProto> nodes_;
  int count_ = 0;
};

}  // namespace

bool is_integer_operator(std::string_view domain, std::string_view op) {
  return find(domain, op) != nullptr;
}

std::vector<std::string_view> integer_operators() {
  std::vector<std::string_view> names;
  for (const auto& [name, arrangement] : kOperators) names.push_back(name);
  return names;
}

std::vector<pb::NodeProto> between_quantizers(Builder& builder, const NodeView& node,
                                              const pb::NodeProto& proto) {
  if (const Arrangement* arrangement = find(proto.domain(), node.op()))
    return Expansion(builder, node, proto).integer_operator(*arrangement);
  const bool moves = std::ranges::find(kMovement, node.op()) != std::end(kMovement);
  for (size_t i = 0; moves && i < node.num_inputs(); ++i) {
    const Operand* operand = builder.find(node.input_name(i));
    if (operand != nullptr && operand->integers)
      return Expansion(builder, node, proto).movement(*operand->integers);
    if (node.op() != "Concat") break;
  }
  return {};
}

}  // namespace bitstrata::onnx
