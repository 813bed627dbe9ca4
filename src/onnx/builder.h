#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph/graph.h"
#include "onnx/node.h"
#include "onnx/tensor.h"

namespace bitstrata::onnx {

using graph::Dims;
using graph::ValueId;

/// An activation between QuantizeLinear and DequantizeLinear: rint(source / scale) + zero_point, clamped.
struct StoredIntegers {
  ValueId source = -1;
  float scale = 1;
  int64_t zero_point = 0;
  int64_t low = 0, high = 0;  ///< what it is clamped to; low <= high
  int element_type = 0;       ///< of the integers
};

/// What a name of the file stands for: a constant, or an activation of the graph being built.
struct Operand {
  std::shared_ptr<const Tensor> constant;
  ValueId value = -1;
  std::shared_ptr<const StoredIntegers> integers = nullptr;  ///< set for integer activations; value is -1
  bool is_constant() const noexcept { return constant != nullptr; }
};

/// The graph under construction and the names defined so far.
class Builder {
 public:
  Builder(std::string file, std::optional<std::filesystem::path> folder, int64_t budget_elems);

  // Reading a node's inputs.
  bool has(const NodeView& node, size_t input) const { return !node.input_name(input).empty(); }
  /// kBadInput when the input is absent or not defined.
  const Operand& operand(const NodeView& node, size_t input);
  /// The activation; kUnsupported when it is a constant or holds integers.
  ValueId activation(const NodeView& node, size_t input);
  /// The constant; kUnsupported when it depends on the network's input.
  const Tensor& constant(const NodeView& node, size_t input);
  std::vector<int64_t> int_vector(const NodeView& node, size_t input);
  std::vector<float> float_vector(const NodeView& node, size_t input);
  /// A constant of one element.
  float scalar(const NodeView& node, size_t input);

  /// The integers of a constant that a quantizer made, with one scale for each index of `channel_axis`; empty
  /// for other constants.
  std::optional<graph::ScaledIntegers> integers_of(const NodeView& node, size_t input, size_t channel_axis);
  /// The node that made `value`; nullptr for the graph's input and constants.
  const graph::Node* producer(ValueId value) const;
  /// graph::carried_code of the node that made `value`.
  const std::optional<quant::CodeType>& code_of(ValueId value);

  const Dims& dims(ValueId value) const { return graph.values[value].dims; }
  /// dims() behind the batch.
  Dims full_dims(ValueId value) const;
  /// Index of a per-image dim for an axis of the file, negative ones from the end of `rank` dims with the
  /// batch. kUnsupported for the batch itself, kBadInput outside.
  int image_axis(const NodeView& node, int64_t axis, size_t rank) const;

  // Writing a node's outputs.
  /// Appends a graph node. `stored` are the output dims of kinds that do not imply them.
  ValueId emit(const NodeView& node, graph::Kind kind, std::vector<ValueId> inputs, Dims stored = {});
  /// As emit of a Reshape, or `input` itself when nothing changes.
  ValueId emit_reshape(const NodeView& node, ValueId input, Dims image_dims);
  /// A constant operand of a graph node; `image_dims` without the batch.
  ValueId emit_constant(const NodeView& node, std::vector<float> data, Dims image_dims);
  void bind(const NodeView& node, size_t output, ValueId value);
  void bind(const NodeView& node, size_t output, Tensor tensor);
  void bind(const NodeView& node, size_t output, const Operand& operand);

  void define(const std::string& name, Operand operand);
  /// Registers an initialiser; decoded when first read.
  void define_initialiser(const std::string& name, const ::onnx::TensorProto& proto);
  bool is_defined(const std::string& name) const {
    return names_.contains(name) || initialisers_.contains(name);
  }
  const Operand* find(const std::string& name);
  Tensor decode_tensor(const ::onnx::TensorProto& proto) const { return decode(proto, folder_, file_); }

  graph::Graph graph;
  int64_t batch = 1;  ///< of the file, 1 when dynamic
  bool dynamic_batch = false;
  Budget budget;

 private:
  std::string unique_name(const std::string& name);

  std::string file_;
  std::vector<std::optional<quant::CodeType>> codes_;  ///< by value
  std::optional<std::filesystem::path> folder_;
  std::unordered_map<std::string, Operand> names_;
  std::unordered_map<std::string, const ::onnx::TensorProto*> initialisers_;
  std::unordered_map<std::string, int> node_names_;
};

}  // namespace bitstrata::onnx
