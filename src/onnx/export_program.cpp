#include "onnx/export_program.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <type_traits>

#include "core/error.h"
#include "quant/packing.h"

namespace bitstrata::onnx {
namespace {

using program::CodeWeights;
using program::FloatWeights;
using program::Op;
using program::Program;
using program::Step;
using program::StepKind;
using program::TensorId;

/// A layer's multipliers: mul[c] = input scale * scale[c] * gain[c].
struct LayerScales {
  std::vector<float> scale, gain;
};

/// Input-major copy of the output-major matrix [out, in].
template <typename T>
std::vector<T> transposed(const std::vector<T>& rows, int64_t out, int64_t in) {
  std::vector<T> columns(rows.size());
  for (int64_t o = 0; o < out; ++o) {
    for (int64_t i = 0; i < in; ++i)
      columns[static_cast<size_t>(i * out + o)] = rows[static_cast<size_t>(o * in + i)];
  }
  return columns;
}

/// The scale whose product with `input_scale` is `mul`, as compiled multipliers are; for others the nearest.
float weight_scale(float mul, float input_scale) {
  const auto nearest = static_cast<float>(static_cast<double>(mul) / input_scale);
  for (float towards : {0.0f, std::numeric_limits<float>::infinity()}) {
    const float neighbour = std::nextafter(nearest, towards);
    if (nearest * input_scale != mul && neighbour * input_scale == mul) return neighbour;
  }
  return nearest;
}

class ProgramWriter {
 public:
  ProgramWriter(const Program& program, ModelWriter& writer, CodeStyle& style)
      : program_(program), writer_(writer), style_(style), names_(program.tensors.size()) {
    for (const program::Constant& constant : program.constants) {
      constants_.insert(constant.tensor);
      names_[index(constant.tensor)] =
          writer_.floats(name_or(constant.tensor, "constant"), constant.values, tensor(constant.tensor).dims);
    }
  }

  void run() {
    writer_.describe_network(program_.metadata, program_.mean, program_.std, program_.class_names);
    name(program_.input) = writer_.unique(name_or(program_.input, "input"));
    writer_.add_input(name(program_.input), tensor(program_.input).dims);
    for (TensorId id : program_.outputs) output_names_.push_back(writer_.unique(name_or(id, "output")));
    for (const Op& op : program_.ops) write_op(op);
    write_outputs();
    writer_.metadata("bitstrata.bits", bits_.dump());
  }

 private:
  static size_t index(TensorId id) { return static_cast<size_t>(id); }
  const program::Tensor& tensor(TensorId id) const { return program_.tensors[index(id)]; }
  std::string& name(TensorId id) { return names_[index(id)]; }
  std::string name_or(TensorId id, const std::string& other) const {
    return tensor(id).name.empty() ? other : tensor(id).name;
  }
  bool is_constant(TensorId id) const { return constants_.contains(id); }

  std::string fresh(const char* what) { return writer_.unique(fmt::format("{}.{}", op_->name, what)); }

  [[noreturn]] void refuse(const std::string& what) const {
    fail(ErrorCode::kUnsupported, "ONNX export: op '{}' ({}): {}", printable(op_->name),
         program::to_string(op_->kind), what);
  }

  void write_op(const Op& op) {
    op_ = &op;
    for (TensorId id : op.inputs) {
      const bool may_be = std::holds_alternative<program::MatMul>(op.kind) ||
                          std::holds_alternative<program::Elementwise>(op.kind);
      if (is_constant(id) && !may_be)
        refuse("its input is a constant, expected an activation; fold it before export");
    }
    const Dims& in = tensor(op.inputs[0]).dims;
    dims_ = tensor(op.outputs[0]).dims;
    y_ = std::visit([&](const auto& kind) { return write(kind, in); }, op.kind);
    for (size_t i = 0; i < op.steps.size(); ++i) write_step(op.steps[i]);
    for (TensorId id : op.outputs) store(id, !program::is_arithmetic(op.kind));
  }

  Site site(const std::string& x, const std::string& y, const Dims& in) const {
    return {op_->name, x, y, in, dims_};
  }

  // ---- Kinds: each returns the name of y.

  template <typename Kind>
  std::string write(const Kind& kind, const Dims& in) {
    const std::string y = fresh("y");
    writer_.write(site(name(op_->inputs[0]), y, in), kind);
    return y;
  }

  std::string write(const program::Pad& pad, const Dims& in) {
    const auto& code = tensor(op_->inputs[0]).code;
    program::Pad filled = pad;
    if (code) filled.value = quant::dequantize(quant::quantize(pad.value, *code), *code);
    const std::string y = fresh("y");
    writer_.write(site(name(op_->inputs[0]), y, in), filled);
    return y;
  }

  std::string write(const program::Concat& concat, const Dims& in) {
    std::vector<std::string> inputs;
    for (TensorId id : op_->inputs) inputs.push_back(name(id));
    const std::string y = fresh("y");
    writer_.write_concat(inputs, concat.axis, site("", y, in));
    return y;
  }

  std::string write(const program::MatMul&, const Dims&) {
    const std::string y = fresh("y");
    writer_.add("MatMul", {name(op_->inputs[0]), name(op_->inputs[1])}, y, op_->name);
    return y;
  }

  std::string write(const program::Elementwise&, const Dims& in) { return aligned(op_->inputs[0]); }

  /// table[v], where v is found from the value of the code.
  std::string write(const program::Lookup& lookup, const Dims&) {
    const quant::CodeType& code = *tensor(op_->inputs[0]).code;
    const std::string steps = fresh("steps"), rounded = fresh("rounded"), code_value = fresh("code"),
                      position = fresh("index"), y = fresh("y");
    writer_.add("Div", {name(op_->inputs[0]), writer_.scalar(op_->name + ".scale", code.scale)}, steps,
                op_->name + ".div");
    writer_.add("Round", {steps}, rounded, op_->name + ".round");
    writer_.add("Sub", {rounded, writer_.scalar(op_->name + ".lowest", static_cast<float>(code.zero))},
                code_value, op_->name + ".sub");
    constexpr int64_t kInt64 = 7;
    writer_.add("Cast", {code_value}, position, op_->name + ".cast").set("to", kInt64);
    writer_.add("Gather", {writer_.vector(op_->name + ".table", lookup.table), position}, y, op_->name);
    return y;
  }

  std::string write(const program::Conv& conv, const Dims& in) {
    const Dims weight_dims = {conv.oc, in[0] / conv.groups, conv.window.kernel_h, conv.window.kernel_w};
    std::string y = fresh("conv");
    const auto convolve = [&](const std::string& weights) {
      writer_.add("Conv", {name(op_->inputs[0]), weights}, y, op_->name)
          .window(conv.window)
          .set("dilations", std::vector<int64_t>{conv.window.dilation_h, conv.window.dilation_w})
          .set("group", int64_t{conv.groups});
    };
    if (const auto* floats = std::get_if<FloatWeights>(&conv.weights)) {
      convolve(writer_.floats(op_->name + ".weight", floats->values, weight_dims));
      return scale_and_shift(y, {}, conv.add, 3);
    }
    IntegerWeights weights = unpack(std::get<CodeWeights>(conv.weights), weight_dims);
    const std::vector<float> gain = split_scales(weights, conv.mul);
    convolve(style_.weights(op_->name + ".weight", weights));
    return scale_and_shift(y, gain, conv.add, 3);
  }

  std::string write(const program::Linear& linear, const Dims& in) {
    const int64_t k = in.back();
    const bool is_gemm = in.size() == 1 && style_.prefers_gemm();
    const Dims weight_dims = is_gemm ? Dims{linear.out, k} : Dims{k, linear.out};
    const auto arranged = [&]<typename T>(const std::vector<T>& rows) {
      return is_gemm ? rows : transposed(rows, linear.out, k);
    };
    const std::string y = fresh("product");
    const auto multiply = [&](const std::string& weights) {
      NodeWriter node =
          writer_.add(is_gemm ? "Gemm" : "MatMul", {name(op_->inputs[0]), weights}, y, op_->name);
      if (is_gemm) node.set("transB", int64_t{1});
    };
    if (const auto* floats = std::get_if<FloatWeights>(&linear.weights)) {
      multiply(writer_.floats(op_->name + ".weight", arranged(floats->values), weight_dims));
      return scale_and_shift(y, {}, linear.add, 1);
    }
    IntegerWeights weights = unpack(std::get<CodeWeights>(linear.weights), {linear.out, k});
    const std::vector<float> gain = split_scales(weights, linear.mul);
    weights.values = arranged(weights.values);
    weights.dims = weight_dims;
    weights.axis = is_gemm ? 0 : 1;
    multiply(style_.weights(op_->name + ".weight", weights));
    return scale_and_shift(y, gain, linear.add, 1);
  }

  IntegerWeights unpack(const CodeWeights& packed, const Dims& weight_dims) const {
    IntegerWeights weights{packed.bits, packed.grid, {}, weight_dims, 0, {}};
    for (uint8_t u :
         quant::unpack_codes(packed.packed, static_cast<size_t>(program::elements(weight_dims)), packed.bits))
      weights.values.push_back(packed.grid.at(u));
    return weights;
  }

  /// Fills in weights.scale so that input scale * scale * gain = mul, and returns gain. Scales must be
  /// positive: a channel of negative multiplier gets its weights negated where the grid allows, otherwise
  /// gain -1; one without a usable scale keeps all in its gain.
  std::vector<float> split_scales(IntegerWeights& weights, const std::vector<float>& mul) const {
    const double input_scale = tensor(op_->inputs[0]).code->scale;
    const size_t per_channel = weights.values.size() / mul.size();
    const int lowest = weights.grid.at(0), highest = weights.grid.at((1 << weights.bits) - 1);
    std::vector<float> gain(mul.size(), 1.0f);
    for (size_t c = 0; c < mul.size(); ++c) {
      const float scale = weight_scale(std::fabs(mul[c]), tensor(op_->inputs[0]).code->scale);
      weights.scale.push_back(std::isnormal(scale) ? scale : 1.0f);
      if (!std::isnormal(scale)) {
        gain[c] = static_cast<float>(mul[c] / input_scale);
        if (!std::isfinite(gain[c]))
          refuse(fmt::format("weight scale {} / {} is no float", mul[c], input_scale));
        continue;
      }
      if (mul[c] >= 0) continue;
      const auto channel = std::span(weights.values).subspan(c * per_channel, per_channel);
      const bool fits =
          std::ranges::all_of(channel, [&](int32_t w) { return -w >= lowest && -w <= highest; });
      if (fits)
        std::ranges::transform(channel, channel.begin(), [](int32_t w) { return -w; });
      else
        gain[c] = -1.0f;
    }
    return gain;
  }

  /// y * gain[c] + add[c]. The bias stays outside the layer: runtimes round one inside to the accumulator's
  /// steps, which is not what the program computes. rank: 3 when channels are the first of three dims, 1 when
  /// they are the last.
  std::string scale_and_shift(std::string y, const std::vector<float>& gain, const std::vector<float>& add,
                              size_t rank) {
    const auto apply = [&](const char* op, const char* what, const std::vector<float>& values,
                           float neutral) {
      if (std::ranges::all_of(values, [&](float v) { return v == neutral; })) return;
      const std::string x = y;
      y = fresh(what);
      writer_.add(op, {x, writer_.per_channel(fmt::format("{}.{}", op_->name, what), values, rank)}, y,
                  fmt::format("{}/{}", op_->name, what));
    };
    apply("Mul", "gain", gain, 1.0f);
    apply("Add", "bias", add, 0.0f);
    return y;
  }

  // ---- Steps.

  /// The float values of a tensor with dims of 1 in front, so that it has the rank of the op's output.
  /// Constants have no batch and broadcast as they are.
  std::string aligned(TensorId id) {
    const size_t missing = dims_.size() - tensor(id).dims.size();
    if (missing == 0 || is_constant(id)) return name(id);
    std::vector<int64_t> axes;
    for (size_t i = 0; i < missing; ++i) axes.push_back(static_cast<int64_t>(i) + 1);
    const std::string expanded = fresh("aligned");
    writer_.add("Unsqueeze", {name(id), writer_.ints(op_->name + ".axes", axes)}, expanded,
                op_->name + "/align");
    return expanded;
  }

  void write_step(const Step& step) {
    const std::string x = y_;
    y_ = fresh(program::to_string(step.kind));
    const std::string node_name = fmt::format("{}/{}", op_->name, program::to_string(step.kind));
    if (step.operand < 0) {
      writer_.write_step({node_name, slopes_fit(step) ? x : expanded(x), y_, dims_, dims_}, step);
      return;
    }
    const std::string t = aligned(step.operand);
    const bool reverse = step.kind == StepKind::kReverseSubtract;
    static const char* const kOps[] = {"Add", "Sub", "Sub", "Mul", "Div"};
    writer_.add(kOps[static_cast<int>(step.kind)], {reverse ? t : x, reverse ? x : t}, y_, node_name);
  }

  /// PRelu's slopes must not broadcast its input, which the start of an elementwise chain may still be too
  /// small for.
  bool slopes_fit(const Step& step) const {
    return step.kind != StepKind::kPRelu || step.mul.size() == 1 ||
           !std::holds_alternative<program::Elementwise>(op_->kind) || tensor(op_->inputs[0]).dims == dims_;
  }

  std::string expanded(const std::string& x) {
    std::vector<int64_t> shape = {1};
    shape.insert(shape.end(), dims_.begin(), dims_.end());
    const std::string y = fresh("expanded");
    writer_.add("Expand", {x, writer_.ints(op_->name + ".shape", shape)}, y, op_->name + "/expand");
    return y;
  }

  // ---- Stores.

  void store(TensorId id, bool on_grid) {
    if (!tensor(id).code) {
      name(id) = y_;
      return;
    }
    const std::string stem = name_or(id, op_->name + ".out");
    bits_[stem] = tensor(id).code->bits;
    name(id) = style_.round(stem, y_, *tensor(id).code, on_grid);
  }

  /// Outputs get their tensors' names; a value that is an output already, or the input, is copied.
  void write_outputs() {
    std::set<std::string> taken = {name(program_.input)};
    for (size_t i = 0; i < program_.outputs.size(); ++i) {
      const TensorId id = program_.outputs[i];
      if (is_constant(id)) {
        fail(ErrorCode::kUnsupported, "ONNX export: output '{}' is a constant, expected an activation",
             printable(tensor(id).name));
      }
      const std::string value = name(id);
      if (taken.contains(value)) {
        writer_.add("Identity", {value}, output_names_[i], output_names_[i] + "/copy");
      } else {
        writer_.rename_value(value, output_names_[i]);
        for (std::string& other : names_) {
          if (other == value) other = output_names_[i];
        }
      }
      taken.insert(output_names_[i]);
      writer_.add_output(output_names_[i], tensor(id).dims);
    }
  }

  const Program& program_;
  ModelWriter& writer_;
  CodeStyle& style_;
  std::vector<std::string> names_, output_names_;  ///< of the float values of tensors; of the outputs
  std::set<TensorId> constants_;
  nlohmann::ordered_json bits_ = nlohmann::ordered_json::object();
  const Op* op_ = nullptr;
  std::string y_;
  Dims dims_;  ///< of the op's outputs
};

}  // namespace

void check_opset(int opset) {
  constexpr int kLowest = 13, kHighest = 25;
  if (opset < kLowest || opset > kHighest) {
    fail(ErrorCode::kInvalidArgument, "ONNX export: found opset {}, expected {} to {}", opset, kLowest,
         kHighest);
  }
}

void write_program(const Program& program, ModelWriter& writer, CodeStyle& style) {
  ProgramWriter(program, writer, style).run();
}

}  // namespace bitstrata::onnx
