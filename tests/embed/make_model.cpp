// make_model FOLDER: writes a small classifier model.bst, an image for it as image.f32 (raw) and image.npy,
// and the scores that the scalar reference gives, one "INDEX SCORE" a line, as expected.txt. For tests that
// see libbitstrata from outside.
#include <fmt/format.h>

#include <cstdio>
#include <cstring>

#include "core/error.h"
#include "core/file.h"
#include "core/random.h"
#include "format/bst.h"
#include "program/reference.h"
#include "tests/support/program_builder.h"

namespace bitstrata::testing {
namespace {

std::vector<uint8_t> random_codes(size_t count, int bits) {
  Random random(1, count);
  std::vector<uint8_t> codes(count);
  for (uint8_t& code : codes) code = static_cast<uint8_t>(random.below(uint64_t{1} << bits));
  return codes;
}

/// [1, 8, 8] -> 3x3 convolution of 2-bit weights -> 3-bit linear layer on 4-bit codes -> [10].
program::Program classifier() {
  ProgramBuilder builder;
  const quant::CodeType pixels{8, -128, 1.0f / 127}, hidden{4, 0, 0.25f};
  const TensorId codes = builder.add(program::Elementwise{}, {builder.input({1, 8, 8})}, {1, 8, 8}, pixels);
  program::Conv conv;
  conv.oc = 6;
  conv.window.kernel_h = conv.window.kernel_w = 3;
  conv.weights = code_weights(2, {2, -3}, random_codes(6 * 9, 2));
  conv.mul.assign(6, 0.004f);
  conv.add.assign(6, 0.1f);
  const TensorId features = builder.add(conv, {codes}, {6, 6, 6}, hidden, {clip(0, 6)});
  const TensorId flat = builder.add(program::Reshape{}, {features}, {216}, hidden);
  program::Linear linear;
  linear.out = 10;
  linear.weights = code_weights(3, {1, -4}, random_codes(10 * 216, 3));
  linear.mul.assign(10, 0.01f);
  linear.add.assign(10, 0.125f);
  program::Program network = builder.build({builder.add(linear, {flat}, {10})});
  network.mean = {0.5f};
  network.std = {0.5f};
  network.class_names = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"};
  return network;
}

std::string as_bytes(const std::vector<float>& values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

/// NumPy's format 1.0: the header is padded so that the data begin at a multiple of 64.
std::string as_npy(const std::vector<float>& values) {
  const std::string fields = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 8, 8), }";
  return std::string("\x93NUMPY\x01\x00\x76\x00", 10) + fmt::format("{:<117}\n", fields) + as_bytes(values);
}

void make(const std::filesystem::path& folder) {
  const program::Program network = classifier();
  std::vector<float> image(64);
  Random random(2, 0);
  for (float& value : image) value = static_cast<float>(2 * random.uniform() - 1);
  std::string expected;
  const auto scores = program::run_reference(network, image).floats[static_cast<size_t>(network.outputs[0])];
  for (size_t i = 0; i < scores.size(); ++i) expected += fmt::format("{} {:.9g}\n", i, scores[i]);

  make_folders(folder);
  format::write(folder / "model.bst", network);
  write_file_atomically(folder / "image.f32", as_bytes(image));
  write_file_atomically(folder / "image.npy", as_npy(image));
  write_file_atomically(folder / "expected.txt", expected);
}

}  // namespace
}  // namespace bitstrata::testing

int main(int argc, char** argv) {
  try {
    if (argc != 2) bitstrata::fail(bitstrata::ErrorCode::kInvalidArgument, "usage: make_model FOLDER");
    bitstrata::testing::make(argv[1]);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "make_model: error: %s\n", error.what());
    return 1;
  }
}
