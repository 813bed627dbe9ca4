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
void add_qdq_ops(Handlers& handlers);          ///< QuantizeLinear, DequantizeLinear; they also fold constants
void add_qonnx_ops(Handlers& handlers);        ///< Quant, IntQuant, BipolarQuant; they also fold constants

/// Whether operator `op` of `domain` is one that this module knows: the default domain's, and quantizers in
/// the domains that their writers use.
bool is_known_domain(std::string_view domain, std::string_view op);

/// Clip of a StoredIntegers activation.
void clip_integers(Builder& builder, const NodeView& node);

}  // namespace bitstrata::onnx
