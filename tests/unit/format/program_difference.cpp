#include "tests/unit/format/program_difference.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

namespace bitstrata::format {
namespace {

bool same(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) { return same(x, y); });
}

bool same(const program::Weights& a, const program::Weights& b) {
  if (a.index() != b.index()) return false;
  if (const auto* values = std::get_if<program::FloatWeights>(&a))
    return same(values->values, std::get<program::FloatWeights>(b).values);
  const auto &x = std::get<program::CodeWeights>(a), &y = std::get<program::CodeWeights>(b);
  return x.bits == y.bits && x.grid == y.grid && x.packed == y.packed;
}

bool same(const std::optional<quant::CodeType>& a, const std::optional<quant::CodeType>& b) {
  if (!a || !b) return !a && !b;
  return a->bits == b->bits && a->zero == b->zero && same(a->scale, b->scale);
}

// One overload per kind; the compiler names a kind that is missing here.
bool same(const program::Conv& a, const program::Conv& b) {
  return a.window == b.window && a.groups == b.groups && a.oc == b.oc && same(a.weights, b.weights) &&
         same(a.mul, b.mul) && same(a.add, b.add);
}
bool same(const program::Linear& a, const program::Linear& b) {
  return a.out == b.out && same(a.weights, b.weights) && same(a.mul, b.mul) && same(a.add, b.add);
}
bool same(const program::AveragePool& a, const program::AveragePool& b) {
  return a.window == b.window && a.count_include_pad == b.count_include_pad;
}
bool same(const program::ReduceMean& a, const program::ReduceMean& b) {
  return a.axes == b.axes && a.keep_dims == b.keep_dims;
}
bool same(const program::Elementwise&, const program::Elementwise&) {
  return true;
}
bool same(const program::Lookup& a, const program::Lookup& b) {
  return same(a.table, b.table);
}
bool same(const program::Softmax& a, const program::Softmax& b) {
  return a.axis == b.axis;
}
bool same(const program::MatMul&, const program::MatMul&) {
  return true;
}
bool same(const program::MaxPool& a, const program::MaxPool& b) {
  return a.window == b.window;
}
bool same(const program::Concat& a, const program::Concat& b) {
  return a.axis == b.axis;
}
bool same(const program::Slice& a, const program::Slice& b) {
  return a.axis == b.axis && a.start == b.start && a.step == b.step;
}
bool same(const program::Pad& a, const program::Pad& b) {
  return a.before == b.before && a.after == b.after && same(a.value, b.value);
}
bool same(const program::Transpose& a, const program::Transpose& b) {
  return a.perm == b.perm;
}
bool same(const program::Reshape&, const program::Reshape&) {
  return true;
}
bool same(const program::Gather& a, const program::Gather& b) {
  return a.axis == b.axis && a.indices == b.indices;
}

bool same_kind(const program::Kind& a, const program::Kind& b) {
  if (a.index() != b.index()) return false;
  return std::visit([&](const auto& kind) { return same(kind, std::get<std::decay_t<decltype(kind)>>(b)); },
                    a);
}

bool same(const program::Step& a, const program::Step& b) {
  return a.kind == b.kind && a.operand == b.operand && same(a.a, b.a) && same(a.b, b.b) &&
         same(a.mul, b.mul) && same(a.add, b.add) && a.function == b.function;
}

std::string op_difference(const program::Op& a, const program::Op& b) {
  if (a.name != b.name) return "name";
  if (!same_kind(a.kind, b.kind)) return "kind";
  if (a.inputs != b.inputs) return "inputs";
  if (a.outputs != b.outputs) return "outputs";
  if (a.steps.size() != b.steps.size()) return "number of steps";
  for (size_t i = 0; i < a.steps.size(); ++i) {
    if (!same(a.steps[i], b.steps[i])) return fmt::format("step {}", i);
  }
  return "";
}

}  // namespace

std::string first_difference(const program::Program& a, const program::Program& b) {
  if (a.tensors.size() != b.tensors.size()) return "number of tensors";
  for (size_t i = 0; i < a.tensors.size(); ++i) {
    const auto &x = a.tensors[i], &y = b.tensors[i];
    if (x.name != y.name || x.dims != y.dims || !same(x.code, y.code)) return fmt::format("tensor {}", i);
  }
  if (a.constants.size() != b.constants.size()) return "number of constants";
  for (size_t i = 0; i < a.constants.size(); ++i) {
    const auto &x = a.constants[i], &y = b.constants[i];
    if (x.tensor != y.tensor || !same(x.values, y.values)) return fmt::format("constant {}", i);
  }
  if (a.ops.size() != b.ops.size()) return "number of ops";
  for (size_t i = 0; i < a.ops.size(); ++i) {
    const std::string difference = op_difference(a.ops[i], b.ops[i]);
    if (!difference.empty()) return fmt::format("op {}: {}", i, difference);
  }
  if (a.input != b.input) return "input";
  if (a.outputs != b.outputs) return "outputs";
  if (!same(a.mean, b.mean) || !same(a.std, b.std)) return "normalisation";
  if (a.class_names != b.class_names) return "class names";
  if (a.metadata != b.metadata) return "metadata";
  return "";
}

}  // namespace bitstrata::format
