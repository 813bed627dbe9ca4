#pragma once

#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "program/program.h"
#include "quant/code_type.h"

/// The float network between import and compile: small, typed, normalised. Import makes it, training changes
/// its parameters, compile lowers it to a program::Program. Every value is per image (the batch dimension is
/// implicit), every node has one output.
namespace bitstrata::graph {

using ValueId = int;
using NodeId = int;
using program::Dims;

/// Weights of a network that was quantized elsewhere: weights[o][i] = scale[o] * values[o][i], rounded to
/// float32.
struct ScaledIntegers {
  std::vector<int32_t> values;  ///< as many as the float weights
  std::vector<float> scale;     ///< one per output channel, > 0
};

/// Convolution; weights [oc, ic / groups, kh, kw] row-major, bias [oc] or empty.
struct Conv {
  program::Window window;
  int groups = 1;
  int oc = 0;
  std::vector<float> weights, bias;
  std::optional<ScaledIntegers> integers = std::nullopt;
};

/// y = x W^T + b over the last dimension; weights [out, in] row-major, bias [out] or empty.
struct Linear {
  int out = 0;
  std::vector<float> weights, bias;
  std::optional<ScaledIntegers> integers = std::nullopt;
};

/// Batch normalisation over the first dim: (x - mean) / sqrt(variance + epsilon) * gamma + beta; vectors
/// [channels].
struct BatchNorm {
  std::vector<float> gamma, beta, mean, variance;
  float epsilon = 1e-5f;
};

/// x * mul + add, constants of one entry or one per index of the first dim.
struct Affine {
  std::vector<float> mul, add;
};

/// A function of one element; `step` has no operand (clip, leaky ReLU, PReLU, hard sigmoid, hard swish,
/// function).
struct Activation {
  program::Step step;
};

/// Elementwise with broadcasting from the right; inputs are two values of which at most one is constant.
struct Binary {
  enum class Kind { kAdd, kSubtract, kMultiply, kDivide } kind = Kind::kAdd;
};

/// A quantizer that the network brought along: y is the value of the code of `code` that x is stored as.
struct Quantize {
  quant::CodeType code;
};

using Kind = std::variant<Conv, Linear, BatchNorm, Affine, Activation, Binary, program::AveragePool,
                          program::ReduceMean, program::Softmax, program::MatMul, program::MaxPool,
                          program::Concat, program::Slice, program::Pad, program::Transpose, program::Reshape,
                          program::Gather, Quantize, program::Lookup>;

/// An activation, or a constant when `data` is not empty (float32, row-major over dims).
struct Value {
  std::string name;
  Dims dims;  ///< per image, rank 1..5
  std::vector<float> data;
  bool is_constant() const noexcept { return !data.empty(); }
};

struct Node {
  std::string name;  ///< unique, not empty
  Kind kind;
  std::vector<ValueId> inputs;
  ValueId output = -1;
};

struct Graph {
  std::string name;
  std::vector<Value> values;
  std::vector<Node> nodes;  ///< topologically ordered
  ValueId input = -1;
  std::vector<ValueId> outputs;
  std::vector<float> mean, std;          ///< pixel normalisation from the file's metadata; empty: unknown
  std::vector<std::string> class_names;  ///< empty: unknown
  std::map<std::string, std::string> metadata;
};

/// "conv", "linear", "batch-norm", "affine", "relu", "clip", ... for messages and listings.
std::string kind_name(const Kind& kind);

/// True for nodes that only move elements (max pool counts: it commutes with monotone rounding).
bool is_data_movement(const Kind& kind) noexcept;

/// True when the network was quantized elsewhere: it has Quantize nodes, tables of codes (Lookup) or layers
/// with integers.
bool has_quantizers(const Graph& graph) noexcept;

/// The code type that all elements of `node`'s output are values of, from those of its inputs: the type of a
/// Quantize; behind data movement the inputs' type, or, for Concat, the narrowest one that holds inputs of
/// one scale. Empty for float32 values.
std::optional<quant::CodeType> carried_code(const Node& node,
                                            const std::vector<std::optional<quant::CodeType>>& inputs);

/// Node that produces `value`, or -1 for the graph input and constants.
NodeId producer(const Graph& graph, ValueId value);

/// consumers(graph)[v]: the nodes that read value v, in order, once per use; a graph output counts as no
/// node.
std::vector<std::vector<NodeId>> consumers(const Graph& graph);

/// Per-image dims that `node` yields for its inputs' dims (Reshape: the output value's own dims, checked for
/// the element count; Pad, Slice and Gather likewise keep the extent stored in the output value for Slice).
/// Throws kUnsupported or kBadInput naming the node.
Dims infer_dims(const Graph& graph, const Node& node);

/// Checks the invariants above, parameter sizes and dims of every node; throws kInternal-free, user-readable
/// kBadInput errors.
void verify(const Graph& graph);

/// True when every element of `value` is known to be >= 0 (behind a ReLU, sigmoid, ..., through data
/// movement, pooling, sums).
bool is_nonnegative(const Graph& graph, ValueId value);

/// Multiply-accumulates per image of a Conv or Linear node, 0 for others.
int64_t macs(const Graph& graph, const Node& node);

/// Folds every BatchNorm (and per-channel Affine) that directly follows a Conv or Linear with no other
/// consumer into that layer's weights and bias; layers with integers keep theirs.
void fold_batch_norms(Graph& graph);

/// Moves every zero Pad of height and width that only convolutions read into their windows.
void merge_pads(Graph& graph);

/// Removes nodes that no output depends on, and values that nothing reads; ids of the others close up, in
/// order.
void remove_dead_nodes(Graph& graph);

/// Text listing, one line per node: `name: output = kind(inputs) parameters -> [dims]`, for tests and
/// messages.
std::string describe(const Graph& graph);

/// Inserts a BatchNorm node `name` directly behind `layer` (its consumers then read the BatchNorm's output).
/// Returns its id; ids of later nodes move up by one.
NodeId insert_batch_norm(Graph& graph, NodeId layer, const std::string& name, BatchNorm parameters);

}  // namespace bitstrata::graph
