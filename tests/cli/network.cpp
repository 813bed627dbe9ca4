#include "tests/cli/network.h"

#include <algorithm>
#include <limits>

#include "core/random.h"
#include "data/batches.h"
#include "program/reference.h"
#include "tests/support/program_builder.h"

namespace bitstrata::testing {
namespace {

std::vector<uint8_t> random_codes(size_t count, int bits, uint64_t stream) {
  Random random(1, stream);
  std::vector<uint8_t> codes(count);
  for (uint8_t& code : codes) code = static_cast<uint8_t>(random.below(uint64_t{1} << bits));
  return codes;
}

}  // namespace

program::Program digits_network() {
  ProgramBuilder builder;
  const quant::CodeType pixels{8, -128, 1.0f / 127}, hidden{4, 0, 0.25f};
  const TensorId input = builder.input({1, 8, 8});
  const TensorId codes = builder.add(program::Elementwise{}, {input}, {1, 8, 8}, pixels);

  program::Conv conv;
  conv.oc = 6;
  conv.window.kernel_h = conv.window.kernel_w = 3;
  conv.window.pad_top = conv.window.pad_left = conv.window.pad_bottom = conv.window.pad_right = 1;
  conv.weights = code_weights(2, {2, -3}, random_codes(6 * 9, 2, 1));
  conv.mul.assign(6, 0.004f);
  conv.add.assign(6, 0.1f);
  const float infinity = std::numeric_limits<float>::infinity();
  const TensorId features = builder.add(conv, {codes}, {6, 8, 8}, hidden, {clip(0, infinity)});
  const TensorId flat = builder.add(program::Reshape{}, {features}, {384}, hidden);

  program::Linear linear;
  linear.out = 10;
  linear.weights = code_weights(3, {1, -4}, random_codes(10 * 384, 3, 2));
  linear.mul.assign(10, 0.01f);
  linear.add.assign(10, 0.0f);
  program::Program network = builder.build({builder.add(linear, {flat}, {10})});
  network.mean = {0.5f};
  network.std = {0.5f};
  for (int digit = 0; digit < 10; ++digit) network.class_names.push_back(std::to_string(digit));
  return network;
}

double reference_accuracy(const program::Program& network) {
  const data::Dataset digits = data::load("digits");
  const data::BatchFiller filler(digits, data::Split::kTest, {network.mean, network.std});
  const auto labels = digits.labels(data::Split::kTest);
  std::vector<float> input(digits.shape().num_elems());
  size_t correct = 0;
  for (int64_t image : data::all_indices(labels.size())) {
    filler.fill(std::span(&image, 1), input);
    const auto scores =
        program::run_reference(network, input).floats[static_cast<size_t>(network.outputs[0])];
    correct += std::ranges::max_element(scores) - scores.begin() == labels[static_cast<size_t>(image)];
  }
  return static_cast<double>(correct) / static_cast<double>(labels.size());
}

std::filesystem::path shared_folder() {
  const auto folder = std::filesystem::path(BITSTRATA_SOURCE_DIR).parent_path() / "shared";
  return std::filesystem::is_directory(folder) ? folder : std::filesystem::path();
}

}  // namespace bitstrata::testing
