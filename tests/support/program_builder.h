#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "program/program.h"
#include "quant/packing.h"

/// Helpers to write small programs in tests.
namespace bitstrata::testing {

using program::Dims;
using program::TensorId;

/// Builds a program tensor by tensor and op by op; ops are named "<kind><index>".
class ProgramBuilder {
 public:
  /// The program input, float32.
  TensorId input(Dims dims) {
    program_.input = tensor(std::move(dims));
    return program_.input;
  }
  TensorId tensor(Dims dims, std::optional<quant::CodeType> code = std::nullopt) {
    const auto id = static_cast<TensorId>(program_.tensors.size());
    program_.tensors.push_back({fmt::format("t{}", id), std::move(dims), code});
    return id;
  }
  TensorId constant(Dims dims, std::vector<float> values) {
    const TensorId id = tensor(std::move(dims));
    program_.constants.push_back({id, std::move(values)});
    return id;
  }
  void op(program::Kind kind, std::vector<TensorId> inputs, std::vector<TensorId> outputs,
          std::vector<program::Step> steps = {}) {
    std::string name = fmt::format("{}{}", program::to_string(kind), program_.ops.size());
    program_.ops.push_back(
        {std::move(name), std::move(kind), std::move(inputs), std::move(steps), std::move(outputs)});
  }
  /// As op() with one new output tensor, which is returned.
  TensorId add(program::Kind kind, std::vector<TensorId> inputs, Dims dims,
               std::optional<quant::CodeType> code = std::nullopt, std::vector<program::Step> steps = {}) {
    const TensorId output = tensor(std::move(dims), code);
    op(std::move(kind), std::move(inputs), {output}, std::move(steps));
    return output;
  }
  const program::Tensor& at(TensorId id) const { return program_.tensors[static_cast<size_t>(id)]; }
  program::Program build(std::vector<TensorId> outputs) {
    program_.outputs = std::move(outputs);
    return program_;
  }

 private:
  program::Program program_;
};

/// y = y (kind) operand.
inline program::Step binary(program::StepKind kind, TensorId operand) {
  program::Step step;
  step.kind = kind;
  step.operand = operand;
  return step;
}

inline program::Step clip(float a, float b) {
  program::Step step;
  step.kind = program::StepKind::kClip;
  step.a = a;
  step.b = b;
  return step;
}

inline program::CodeWeights code_weights(int bits, quant::IntegerGrid grid,
                                         const std::vector<uint8_t>& codes) {
  return {bits, grid, quant::pack_codes(codes, bits)};
}

}  // namespace bitstrata::testing
