#pragma once

#include <map>
#include <string>
#include <string_view>

#include "onnx/builder.h"

namespace bitstrata::onnx {

/// Turns one node, at least one of whose inputs is an activation, into graph nodes.
using Handler = void (*)(Builder&, const NodeView&);
using Handlers = std::map<std::string_view, Handler>;

void add_layer_ops(Handlers& handlers);        ///< Gemm, MatMul, BatchNormalization
void add_window_ops(Handlers& handlers);       ///< Conv and pooling
void add_elementwise_ops(Handlers& handlers);  ///< activations, arithmetic, softmax
void add_shape_ops(Handlers& handlers);        ///< data movement

}  // namespace bitstrata::onnx
