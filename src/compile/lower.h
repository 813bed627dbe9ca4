#pragma once

#include <map>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "plan/plan.h"
#include "program/program.h"
#include "quant/code_type.h"

namespace bitstrata::compile {

/// What training or calibration has learned for one quantized layer.
struct LayerQuantizer {
  std::vector<float> weight_params;  ///< quant::quantize_weights' params, 1 or oc entries
  quant::CodeType input;             ///< bits must equal the plan's activation bits
};

/// All learned quantizer parameters of one network.
struct Quantizers {
  std::map<std::string, LayerQuantizer> layers;   ///< by layer name; the plan's quantized layers
  std::map<std::string, quant::CodeType> streams; ///< by value name; the plan's quantized streams
};

/// Lowers a float graph without quantizers of its own, a plan for it and its quantizers to the deployed program: weights quantized by quant::quantize_weights, batch
/// norms folded into multipliers (float64, rounded once), chains of elementwise nodes fused behind the op they follow, quantizers moved in
/// front of data movement. Pure and deterministic. Errors: kBadInput when plan or quantizers do not fit the graph, kUnsupported for a
/// broadcast that no op does, and everything program::validate finds.
program::Program lower(const graph::Graph& graph, const plan::Plan& plan, const Quantizers& quantizers);

/// The float network as a program: every layer float. kBadInput when it has quantizers of its own.
program::Program lower_float(const graph::Graph& graph);

/// A layer that stays float although its network is quantized, and why.
struct FloatLayer {
  std::string name, reason;
};

struct QuantizedLowering {
  program::Program program;
  std::vector<FloatLayer> float_layers;  ///< in graph order
};

/// Lowers a network that was quantized elsewhere (graph::has_quantizers) by its own quantizers: a layer whose
/// input and weights both have one runs on codes, with the fewest bits and the grid that hold its integers; a
/// layer that cannot stays float, on the same dequantized values. Otherwise as lower.
QuantizedLowering lower_quantized(const graph::Graph& graph);

}  // namespace bitstrata::compile
