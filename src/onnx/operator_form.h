#pragma once

#include <string_view>
#include <vector>

#include "onnx/builder.h"
#include "onnx/proto.h"

namespace bitstrata::onnx {

/// Operators on integers that read and write quantized tensors themselves: QLinearConv, QLinearMatMul, and
/// QLinearAdd, QGemm and their kind of domain com.microsoft.
bool is_integer_operator(std::string_view domain, std::string_view op);

/// Names of these, for messages.
std::vector<std::string_view> integer_operators();

/// The nodes that `proto`, seen as `node`, stands for when it computes on the integers of a QuantizeLinear:
/// one of the operators above, or data movement. DequantizeLinear of what it reads, the operator on floats,
/// QuantizeLinear of what it writes. Empty for other nodes. Defines constants in `builder`. Errors as import.
std::vector<pb::NodeProto> between_quantizers(Builder& builder, const NodeView& node,
                                              const pb::NodeProto& proto);

}  // namespace bitstrata::onnx
