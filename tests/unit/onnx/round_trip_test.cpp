#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <vector>

#include "compile/lower.h"
#include "core/random.h"
#include "onnx/export_qdq.h"
#include "onnx/export_qonnx.h"
#include "onnx/import.h"
#include "plan/plan.h"
#include "program/reference.h"
#include "program/validate.h"
#include "quant/packing.h"
#include "tests/support/random_program.h"
#include "tests/unit/compile/sample_graphs.h"

/// What bitstrata exports, imported and compiled again.
namespace bitstrata {
namespace {

namespace fs = std::filesystem;
using program::Program;

struct Form {
  const char* name;
  void (*write)(const Program&, const fs::path&);
};

const Form kForms[] = {
    {"qdq13", [](const Program& p, const fs::path& path) { onnx::export_qdq(p, path, 13); }},
    {"qdq21", [](const Program& p, const fs::path& path) { onnx::export_qdq(p, path, 21); }},
    {"qdq25", [](const Program& p, const fs::path& path) { onnx::export_qdq(p, path, 25); }},
    {"qonnx", [](const Program& p, const fs::path& path) { onnx::export_qonnx(p, path); }},
};

Program imported(const Program& original, const Form& form) {
  const fs::path path =
      fs::path(::testing::TempDir()) / fmt::format("bitstrata_round_trip_{}.onnx", ::getpid());
  form.write(original, path);
  onnx::Options options;
  options.quantizers = true;
  const graph::Graph graph = onnx::import_file(path, options);
  fs::remove(path);
  return graph::has_quantizers(graph) ? compile::lower_quantized(graph).program : compile::lower_float(graph);
}

/// Values of all outputs, codes as what they stand for.
std::vector<float> run(const Program& program, const std::vector<float>& image) {
  const auto tensors = program::run_reference(program, image);
  std::vector<float> all;
  for (program::TensorId output : program.outputs) {
    const auto id = static_cast<size_t>(output);
    if (const auto& code = program.tensors[id].code) {
      for (uint8_t v : tensors.codes[id]) all.push_back(quant::dequantize(v, *code));
    } else {
      all.insert(all.end(), tensors.floats[id].begin(), tensors.floats[id].end());
    }
  }
  return all;
}

template <typename Action>
void for_each_image(const Program& program, int images, Action action) {
  const std::vector<float> inputs = testing::random_input(program, images, 7);
  const size_t elems = inputs.size() / static_cast<size_t>(images);
  for (int i = 0; i < images; ++i) {
    const auto first = inputs.begin() + static_cast<std::ptrdiff_t>(elems) * i;
    action(std::vector<float>(first, first + static_cast<std::ptrdiff_t>(elems)));
  }
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// ONNX has no form for dilated average pooling.
bool is_excluded(const Program& program) {
  return std::ranges::any_of(program.ops, [](const program::Op& op) {
    const auto* pool = std::get_if<program::AveragePool>(&op.kind);
    return pool != nullptr && (pool->window.dilation_h != 1 || pool->window.dilation_w != 1);
  });
}

std::vector<int> integers(const program::Weights& weights, size_t count) {
  const auto& codes = std::get<program::CodeWeights>(weights);
  std::vector<int> values;
  for (uint8_t u : quant::unpack_codes(codes.packed, count, codes.bits)) values.push_back(codes.grid.at(u));
  return values;
}

/// The parameters of all quantized layers, one behind the other.
struct Layers {
  std::vector<int> weights;
  std::vector<float> mul, add;
  std::vector<quant::CodeType> inputs;
};

Layers layers_of(const Program& program) {
  Layers layers;
  const auto collect = [&](const program::Op& op, const auto& layer) {
    if (!std::holds_alternative<program::CodeWeights>(layer.weights)) return;
    const auto& input = program.tensors[static_cast<size_t>(op.inputs[0])];
    layers.inputs.push_back(*input.code);
    size_t per_channel = static_cast<size_t>(input.dims.back());
    if constexpr (std::is_same_v<std::decay_t<decltype(layer)>, program::Conv>) {
      per_channel =
          static_cast<size_t>(input.dims[0] / layer.groups * layer.window.kernel_h * layer.window.kernel_w);
    }
    std::vector<int> weights = integers(layer.weights, layer.mul.size() * per_channel);
    // A channel of negative multiplier may have been exported with its weights negated.
    for (size_t o = 0; o < layer.mul.size(); ++o) {
      const bool negative = layer.mul[o] < 0;
      for (size_t i = o * per_channel; i < (o + 1) * per_channel; ++i)
        layers.weights.push_back(negative ? -weights[i] : weights[i]);
      layers.mul.push_back(std::fabs(layer.mul[o]));
    }
    layers.add.insert(layers.add.end(), layer.add.begin(), layer.add.end());
  };
  for (const program::Op& op : program.ops) {
    if (const auto* conv = std::get_if<program::Conv>(&op.kind)) collect(op, *conv);
    if (const auto* linear = std::get_if<program::Linear>(&op.kind)) collect(op, *linear);
  }
  return layers;
}

std::vector<Program> compressed_networks() {
  using namespace compile::testing;
  using Sample = graph::Graph (*)();
  const Sample samples[] = {residual_net, dense_net, max_pool_net, squeeze_net, mobile_net, linear_net};
  std::vector<Program> programs;
  for (quant::Policy policy : quant::kAllPolicies) {
    for (int bits = 1; bits <= 8; ++bits) {
      const graph::Graph graph = samples[programs.size() % std::size(samples)]();
      const int activation_bits = 1 + (bits + static_cast<int>(policy)) % 8;
      const plan::Plan plan = plan::uniform_plan(graph, bits, activation_bits, policy, bits % 2 == 0);
      programs.push_back(compile::lower(graph, plan, sample_quantizers(graph, plan)));
    }
  }
  return programs;
}

/// Integers, scales, multipliers and shifts come back as they were. Inputs behind a clip that leaves fewer
/// codes come back with fewer bits.
TEST(RoundTrip, KeepsTheParametersOfCompressedNetworks) {
  int networks = 0;
  for (const Program& original : compressed_networks()) {
    for (const Form& form : kForms) {
      SCOPED_TRACE(fmt::format("network {} as {}", networks, form.name));
      const Layers before = layers_of(original), after = layers_of(imported(original, form));
      EXPECT_EQ(after.weights, before.weights);
      ASSERT_EQ(after.inputs.size(), before.inputs.size());
      for (size_t i = 0; i < after.inputs.size(); ++i) {
        EXPECT_EQ(after.inputs[i].scale, before.inputs[i].scale);
        EXPECT_LE(after.inputs[i].bits, before.inputs[i].bits);
      }
      EXPECT_EQ(after.add, before.add);
      EXPECT_EQ(after.mul, before.mul);
    }
    ++networks;
  }
  EXPECT_EQ(networks, 40);
}

/// All policies, widths and kinds of layers; outputs are equal bit for bit.
TEST(RoundTrip, IsExactForCompressedNetworks) {
  int networks = 0;
  for (const Program& original : compressed_networks()) {
    for (const Form& form : kForms) {
      SCOPED_TRACE(fmt::format("network {} as {}", networks, form.name));
      const Program again = imported(original, form);
      for_each_image(original, 4, [&](const std::vector<float>& image) {
        EXPECT_TRUE(same_bits(run(original, image), run(again, image)));
      });
    }
    ++networks;
  }
}

/// Layers of any bits and policy next to one another, some of them float, some streams too.
TEST(RoundTrip, IsExactForMixedPlans) {
  using namespace compile::testing;
  Random random(3, 0x6d69786564);
  const auto up_to = [&](int n) { return static_cast<int>(random.below(static_cast<uint64_t>(n) + 1)); };
  for (auto sample : {residual_net, dense_net, max_pool_net, squeeze_net, mobile_net, linear_net}) {
    for (int round = 0; round < 3; ++round) {
      const graph::Graph graph = sample();
      plan::Plan plan = plan::uniform_plan(graph, 4, 4, quant::Policy::kLsq, true);
      for (plan::LayerPlan& layer : plan.layers) {
        layer.weight_bits = up_to(8);
        layer.activation_bits = layer.weight_bits == 0 ? 0 : 1 + up_to(7);
        layer.policy = quant::kAllPolicies[random.below(std::size(quant::kAllPolicies))];
        layer.per_channel = up_to(1) == 1;
      }
      for (plan::StreamPlan& stream : plan.streams) stream.bits = up_to(2) == 0 ? 0 : 8;
      const Program original = compile::lower(graph, plan, sample_quantizers(graph, plan));
      for (const Form& form : kForms) {
        SCOPED_TRACE(form.name);
        const Program again = imported(original, form);
        for_each_image(original, 2, [&](const std::vector<float>& image) {
          EXPECT_TRUE(same_bits(run(original, image), run(again, image)));
        });
      }
    }
  }
}

TEST(RoundTrip, IsExactForImportedRandomPrograms) {
  int programs = 0;
  for (uint64_t seed = 0; programs < 15; ++seed) {
    const Program original = testing::random_program(seed);
    if (is_excluded(original)) continue;
    ++programs;
    for (const Form& form : kForms) {
      SCOPED_TRACE(fmt::format("seed {} as {}", seed, form.name));
      const Program once = imported(original, form), twice = imported(once, form);
      for_each_image(original, 1, [&](const std::vector<float>& image) {
        EXPECT_TRUE(same_bits(run(once, image), run(twice, image)));
      });
    }
  }
}

/// Constants behind a layer are folded into it, which rounds once less than the steps of these programs do;
/// few values may then fall on another code.
TEST(RoundTrip, KeepsTheValuesOfRandomPrograms) {
  size_t elems = 0, close = 0;
  int programs = 0;
  for (uint64_t seed = 0; programs < 15; ++seed) {
    const Program original = testing::random_program(seed);
    if (is_excluded(original)) continue;
    ++programs;
    for (const Form& form : kForms) {
      const Program again = imported(original, form);
      for_each_image(original, 3, [&](const std::vector<float>& image) {
        const std::vector<float> expected = run(original, image), found = run(again, image);
        ASSERT_EQ(found.size(), expected.size());
        float largest = 0;
        for (float value : expected) largest = std::max(largest, std::fabs(value));
        size_t now = 0;
        for (size_t i = 0; i < found.size(); ++i)
          now += !(std::fabs(found[i] - expected[i]) > 1e-4f * largest);
        close += now;
        elems += found.size();
      });
    }
  }
  EXPECT_GE(static_cast<double>(close), 0.99 * static_cast<double>(elems));
}

}  // namespace
}  // namespace bitstrata
