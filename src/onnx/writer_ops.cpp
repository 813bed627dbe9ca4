#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "onnx/writer.h"

namespace bitstrata::onnx {
namespace {

using program::Function;
using program::Step;
using program::StepKind;

bool all_equal(const std::vector<float>& values, float expected) {
  return std::all_of(values.begin(), values.end(), [&](float v) { return v == expected; });
}

std::vector<int64_t> dilations(const program::Window& w) {
  return {w.dilation_h, w.dilation_w};
}

/// ONNX's operator of a function that is one node, with no parameter or with "alpha" alone; nullptr for the
/// others.
const char* operator_of(Function function) {
  switch (function) {
    case Function::kSigmoid:
      return "Sigmoid";
    case Function::kTanh:
      return "Tanh";
    case Function::kExp:
      return "Exp";
    case Function::kLog:
      return "Log";
    case Function::kSqrt:
      return "Sqrt";
    case Function::kErf:
      return "Erf";
    case Function::kSoftplus:
      return "Softplus";
    case Function::kElu:
      return "Elu";
    case Function::kAbs:
      return "Abs";
    case Function::kNegate:
      return "Neg";
    case Function::kReciprocal:
      return "Reciprocal";
    default:
      return nullptr;
  }
}

}  // namespace

void ModelWriter::write(const Site& site, const program::AveragePool& kind) {
  if (kind.window.dilation_h != 1 || kind.window.dilation_w != 1)
    refuse(site, program::to_string(kind), "dilated average pooling");
  add("AveragePool", {site.x}, site.y, site.name)
      .window(kind.window)
      .set("count_include_pad", int64_t{kind.count_include_pad});
}

void ModelWriter::write(const Site& site, const program::ReduceMean& kind) {
  std::vector<int64_t> axes;
  for (int axis : kind.axes) axes.push_back(axis + 1);
  const bool to_scalar = !kind.keep_dims && kind.axes.size() == site.in.size();
  const std::string mean = to_scalar ? unique(site.y + ".mean") : site.y;
  std::vector<std::string> inputs = {site.x};
  if (opset_ >= 18) inputs.push_back(ints(site.name + ".axes", axes));
  NodeWriter node = add("ReduceMean", inputs, mean, site.name);
  if (opset_ < 18) node.set("axes", axes);
  node.set("keepdims", int64_t{kind.keep_dims || to_scalar});
  // An image keeps one dim where ONNX would leave none.
  if (to_scalar) {
    add("Reshape", {mean, ints(site.name + ".shape", {0, 1})}, site.y, site.name + ".reshape");
  }
}

void ModelWriter::write(const Site& site, const program::Softmax& kind) {
  add("Softmax", {site.x}, site.y, site.name).set("axis", int64_t{kind.axis + 1});
}

void ModelWriter::write(const Site& site, const program::MaxPool& kind) {
  add("MaxPool", {site.x}, site.y, site.name).window(kind.window).set("dilations", dilations(kind.window));
}

void ModelWriter::write(const Site& site, const program::Slice& kind) {
  const auto axis = static_cast<size_t>(kind.axis);
  const int64_t in = site.in[axis], extent = site.out[axis];
  int64_t end = kind.start + (extent - 1) * kind.step + (kind.step > 0 ? 1 : -1);
  if (end < 0) end = -in - 1;  // before the first element: -1 would mean the last
  add("Slice",
      {site.x, ints(site.name + ".starts", {kind.start}), ints(site.name + ".ends", {end}),
       ints(site.name + ".axes", {kind.axis + 1}), ints(site.name + ".steps", {kind.step})},
      site.y, site.name);
}

void ModelWriter::write(const Site& site, const program::Pad& kind) {
  std::vector<int64_t> pads = {0};
  pads.insert(pads.end(), kind.before.begin(), kind.before.end());
  pads.push_back(0);
  pads.insert(pads.end(), kind.after.begin(), kind.after.end());
  add("Pad", {site.x, ints(site.name + ".pads", pads), scalar(site.name + ".value", kind.value)}, site.y,
      site.name);
}

void ModelWriter::write(const Site& site, const program::Transpose& kind) {
  std::vector<int64_t> perm = {0};
  for (int axis : kind.perm) perm.push_back(axis + 1);
  add("Transpose", {site.x}, site.y, site.name).set("perm", perm);
}

void ModelWriter::write(const Site& site, const program::Reshape&) {
  std::vector<int64_t> shape = {0};
  shape.insert(shape.end(), site.out.begin(), site.out.end());
  add("Reshape", {site.x, ints(site.name + ".shape", shape)}, site.y, site.name);
}

void ModelWriter::write(const Site& site, const program::Gather& kind) {
  add("Gather", {site.x, ints(site.name + ".indices", kind.indices)}, site.y, site.name)
      .set("axis", int64_t{kind.axis + 1});
}

void ModelWriter::write_concat(const std::vector<std::string>& inputs, int axis, const Site& site) {
  add("Concat", inputs, site.y, site.name).set("axis", int64_t{axis + 1});
}

void ModelWriter::write_affine(const Site& site, const std::vector<float>& mul,
                               const std::vector<float>& add_values) {
  const size_t rank = site.out.size();
  const bool multiplies = !all_equal(mul, 1), adds = !all_equal(add_values, 0);
  if (!multiplies && !adds) add("Identity", {site.x}, site.y, site.name);
  const std::string product = !multiplies ? site.x : adds ? unique(site.y + ".product") : site.y;
  if (multiplies) add("Mul", {site.x, per_channel(site.name + ".mul", mul, rank)}, product, site.name);
  if (adds) {
    add("Add", {product, per_channel(site.name + ".add", add_values, rank)}, site.y,
        multiplies ? site.name + ".add" : site.name);
  }
}

void ModelWriter::write_step(const Site& site, const Step& step) {
  switch (step.kind) {
    case StepKind::kAffine:
      return write_affine(site, step.mul, step.add);
    case StepKind::kClip:
      return write_clip(site, step);
    case StepKind::kLeakyRelu:
      add("LeakyRelu", {site.x}, site.y, site.name).set("alpha", step.a);
      return;
    case StepKind::kPRelu:
      add("PRelu", {site.x, per_channel(site.name + ".slope", step.mul, site.out.size())}, site.y, site.name);
      return;
    case StepKind::kHardSigmoid:
      add("HardSigmoid", {site.x}, site.y, site.name).set("alpha", step.a).set("beta", step.b);
      return;
    case StepKind::kHardSwish: {
      if (opset_ >= 14) {
        add("HardSwish", {site.x}, site.y, site.name);
        return;
      }
      const std::string gate = unique(site.y + ".gate");
      add("HardSigmoid", {site.x}, gate, site.name + ".gate").set("alpha", 1.0f / 6).set("beta", 0.5f);
      add("Mul", {site.x, gate}, site.y, site.name);
      return;
    }
    case StepKind::kFunction:
      return write_function(site, step);
    default:
      refuse(site, program::to_string(step.kind), "an activation with an operand");
  }
}

void ModelWriter::write_clip(const Site& site, const Step& step) {
  const bool low = !std::isinf(step.a), high = !std::isinf(step.b);
  if (step.a == 0 && !high) {
    add("Relu", {site.x}, site.y, site.name);
    return;
  }
  std::vector<std::string> inputs = {site.x, low ? scalar(site.name + ".min", step.a) : ""};
  if (high) inputs.push_back(scalar(site.name + ".max", step.b));
  if (!high && !low) inputs.pop_back();
  add("Clip", inputs, site.y, site.name);
}

void ModelWriter::write_function(const Site& site, const Step& step) {
  if (const char* op = operator_of(step.function)) {
    NodeWriter node = add(op, {site.x}, site.y, site.name);
    if (step.function == Function::kElu) node.set("alpha", step.a);
    return;
  }
  switch (step.function) {
    case Function::kPower:
      add("Pow", {site.x, scalar(site.name + ".exponent", step.a)}, site.y, site.name);
      return;
    case Function::kSilu: {
      const std::string gate = unique(site.y + ".sigmoid");
      add("Sigmoid", {site.x}, gate, site.name + ".sigmoid");
      add("Mul", {site.x, gate}, site.y, site.name);
      return;
    }
    case Function::kGelu:
      return write_gelu(site);
    default:
      refuse(site, program::to_string(step.kind), "an activation without a function");
  }
}

/// x / 2 * (1 + erf(x / sqrt(2))): Gelu is younger than most opsets written.
void ModelWriter::write_gelu(const Site& site) {
  const std::string scaled = unique(site.y + ".scaled"), erf = unique(site.y + ".erf"),
                    gate = unique(site.y + ".gate"), half = unique(site.y + ".half");
  add("Mul", {site.x, scalar(site.name + ".rsqrt2", static_cast<float>(M_SQRT1_2))}, scaled,
      site.name + ".scaled");
  add("Erf", {scaled}, erf, site.name + ".erf");
  add("Add", {erf, scalar(site.name + ".one", 1.0f)}, gate, site.name + ".gate");
  add("Mul", {site.x, scalar(site.name + ".one_half", 0.5f)}, half, site.name + ".half");
  add("Mul", {half, gate}, site.y, site.name);
}

void ModelWriter::refuse(const Site& site, const char* kind, const char* what) const {
  fail(ErrorCode::kUnsupported,
       "ONNX export: node '{}' ({}): {} has no form in opset {} that runtimes agree on", printable(site.name),
       kind, what, opset_);
}

}  // namespace bitstrata::onnx
