#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "quant/code_type.h"
#include "quant/weights.h"

/// The deployed network: a flat, topologically ordered op list over per-image tensors, with integer weights
/// and codes. compile makes it, format stores it, runtime runs it, train evaluates it; docs/arithmetic.md
/// defines every op to the last bit.
namespace bitstrata::program {

using TensorId = int32_t;
using Dims = std::vector<int64_t>;

/// One tensor of one image (the batch dimension is implicit and outermost). dims: [C, H, W] for feature maps,
/// [F] for vectors, any rank in 1..5; logical order is row-major over dims, whatever layout a kernel uses.
struct Tensor {
  std::string name;
  Dims dims;
  std::optional<quant::CodeType> code;  ///< uint8 codes of this type, or float32 when empty
};

/// A constant float32 operand (dims of its tensor, no batch dimension).
struct Constant {
  TensorId tensor = -1;
  std::vector<float> values;
};

/// Window of a convolution or pooling, in elements. Padding is what is really applied, so the output size is
/// floor((in + pads - dilation * (kernel - 1) - 1) / stride) + 1.
struct Window {
  int kernel_h = 1, kernel_w = 1;
  int stride_h = 1, stride_w = 1;
  int dilation_h = 1, dilation_w = 1;
  int pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  bool operator==(const Window&) const = default;
};

/// Integer weights as codes of `bits` bits, packed at their true width: code i of the row-major [oc, ic /
/// groups, kh, kw] (linear: [out, in]) tensor occupies bits [i * bits, (i + 1) * bits) of the little-endian
/// bit stream `packed` (bit 0 = LSB of byte 0).
struct CodeWeights {
  int bits = 8;
  quant::IntegerGrid grid;
  std::vector<uint8_t> packed;
};

/// Float weights, row-major as above.
struct FloatWeights {
  std::vector<float> values;
};

using Weights = std::variant<CodeWeights, FloatWeights>;

// ---- Arithmetic ops: they compute a float32 value y per output element, apply the op's steps to it, then
// store it to each output.

/// 2-D convolution of input [ic, h, w]. CodeWeights need a code input: y = float32(acc) * mul[o] + add[o]
/// with acc the exact int32 sum of grid integers times (v + zero), padding counting as 0. FloatWeights need a
/// float32 input: y = dot + add[o], mul empty.
struct Conv {
  Window window;
  int groups = 1;
  int oc = 0;
  Weights weights;
  std::vector<float> mul, add;  ///< [oc]
};

/// Fully connected layer over the last dimension: input [..., in] -> [..., out]; arithmetic as Conv.
struct Linear {
  int out = 0;
  Weights weights;
  std::vector<float> mul, add;  ///< [out]
};

/// Average over windows of [c, h, w]. y = (sum * scale) / count on codes (sum: exact integer of v + zero), y
/// = sum / count on floats (sum: float64 in row-major order, rounded to float32); count is the number of
/// positions inside the image, or the whole window with count_include_pad (padding beyond pad_* never
/// counts).
struct AveragePool {
  Window window;
  bool count_include_pad = false;
};

/// Mean over `axes` (rising, of the per-image dims), arithmetic as AveragePool; the reduced dims become 1 or
/// vanish ([1] when none is left).
struct ReduceMean {
  std::vector<int> axes;
  bool keep_dims = true;
};

/// y = value of the input: the start of a chain of steps. Output dims: input and step operands broadcast
/// together.
struct Elementwise {};

/// y = table[v] of an input of codes; table has 2^bits entries, any float32.
struct Lookup {
  std::vector<float> table;
};

/// Softmax over `axis`, float32 input and outputs; not covered by the exactness promise.
struct Softmax {
  int axis = 0;
};

/// Product of two float32 activations [..., m, k] x [..., k, n] with equal leading dims; not covered by the
/// exactness promise.
struct MatMul {};

// ---- Data movement: no arithmetic, no steps, one output whose code type equals that of every input.

/// Maximum over windows of [c, h, w]; padding never wins. Codes compare as integers.
struct MaxPool {
  Window window;
};
struct Concat {
  int axis = 0;
};
/// Elements start, start + step, ... along `axis`, as many as the output dim says. step may be negative.
struct Slice {
  int axis = 0;
  int64_t start = 0, step = 1;
};
/// Constant padding: `before` and `after` per axis, >= 0; `value` may be infinite. Float tensors are filled
/// with `value`, codes with quantize(value).
struct Pad {
  std::vector<int64_t> before, after;
  float value = 0;
};
/// output dim i is input dim perm[i].
struct Transpose {
  std::vector<int> perm;
};
/// Same elements in the same logical row-major order.
struct Reshape {};
/// output index i along `axis` takes input index indices[i].
struct Gather {
  int axis = 0;
  std::vector<int64_t> indices;
};

using Kind = std::variant<Conv, Linear, AveragePool, ReduceMean, Elementwise, Lookup, Softmax, MatMul,
                          MaxPool, Concat, Slice, Pad, Transpose, Reshape, Gather>;

/// One float32 operation on the running value y; each line is one rounding. t is the value of `operand`
/// (dequantized when codes) at the same index, its dims broadcast to the output's from the right (equal or 1,
/// missing dims count as 1). mul, add, slope have one entry or one per index of the output's first dim.
enum class StepKind : uint8_t {
  kAdd,              ///< y = y + t
  kSubtract,         ///< y = y - t
  kReverseSubtract,  ///< y = t - y
  kMultiply,         ///< y = y * t
  kDivide,           ///< y = y / t
  kAffine,           ///< y = y * mul; y = y + add
  kClip,             ///< y = y > a ? (y < b ? y : b) : a   (ReLU: a = 0, b = +inf)
  kLeakyRelu,        ///< y = y >= 0 ? y : y * a
  kPRelu,            ///< y = y >= 0 ? y : y * mul   (slopes in mul)
  kHardSigmoid,      ///< y = y * a; y = y + b; y = clip(y, 0, 1)
  kHardSwish,        ///< h = y * (1/6); h = h + 0.5; h = clip(h, 0, 1); y = y * h
  kFunction,  ///< y = function(y): transcendental, float networks only; not covered by the exactness promise
};

/// Transcendental and other scalar functions that quantized networks do by Lookup. function.h has their
/// formulas; elu's alpha and power's exponent are Step::a.
enum class Function : uint8_t {
  kNone,
  kSigmoid,
  kTanh,
  kExp,
  kLog,
  kSqrt,
  kErf,
  kSoftplus,
  kElu,
  kSilu,
  kGelu,
  kAbs,
  kNegate,
  kReciprocal,
  kPower
};

struct Step {
  StepKind kind = StepKind::kClip;
  TensorId operand = -1;
  float a = 0, b = 0;
  std::vector<float> mul, add;
  Function function = Function::kNone;
};

struct Op {
  std::string name;  ///< the graph node it comes from; unique within the program
  Kind kind;
  std::vector<TensorId> inputs;
  std::vector<Step> steps;
  std::vector<TensorId> outputs;  ///< arithmetic ops: the same y stored in one or more types
};

/// Everything needed to run and to explain the network.
struct Program {
  std::vector<Tensor> tensors;
  std::vector<Constant> constants;
  std::vector<Op> ops;  ///< every input is the program input, a constant, or an output of an earlier op
  TensorId input = -1;  ///< float32, already normalised
  std::vector<TensorId> outputs;
  std::vector<float> mean, std;                 ///< pixel normalisation per input channel; empty: unknown
  std::vector<std::string> class_names;         ///< empty: unknown
  std::map<std::string, std::string> metadata;  ///< free text: method, policy, version, ...
};

/// True for Conv, Linear, AveragePool, ReduceMean, Elementwise, Lookup, Softmax, MatMul.
bool is_arithmetic(const Kind& kind) noexcept;

/// Stable lower-case name of a kind: "conv", "linear", "max-pool", ...
const char* to_string(const Kind& kind) noexcept;

/// Stable lower-case name of a step: "add", "affine", "clip", "leaky-relu", ...
const char* to_string(StepKind kind) noexcept;

/// Number of elements; dims are validated, so it fits.
int64_t elements(const Dims& dims) noexcept;

/// Checks that the program is well-formed: ids in range, every tensor written once before it is read, dims of
/// every output what the op yields, code types where they belong, parameter sizes, no dim or product beyond
/// kMaxElements, accumulators below 2^31 (max |grid| * max |v + zero| * reduction), weight grids of
/// docs/arithmetic.md, no empty pooling window, parameters finite (but clip bounds and Pad::value
/// may be infinite, Lookup tables hold anything). Everything downstream relies on it. Throws kCorruptFile
/// with op, found and expected.
void validate(const Program& program);

/// Upper limit for elements of one tensor per image and for weights of one op.
inline constexpr int64_t kMaxElements = (int64_t{1} << 31) - 1;

/// Upper limit for every field of a Window.
inline constexpr int kMaxWindow = 1 << 16;

/// Multiply-accumulates of an op per image (convolution and linear; 0 for others).
int64_t macs(const Program& program, const Op& op);

/// Largest possible |acc| of a quantized Conv or Linear over all inputs, from its real weights; 0 for other
/// ops.
int64_t accumulator_bound(const Program& program, const Op& op);

}  // namespace bitstrata::program
