#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "compile/lower.h"
#include "core/error.h"
#include "core/file.h"
#include "onnx/export.h"
#include "onnx/import.h"
#include "runtime/session.h"

namespace bitstrata {
namespace {

namespace fs = std::filesystem;

const fs::path kFolder = BITSTRATA_JUDGE_FOLDER;

std::vector<float> read_floats(const fs::path& path) {
  const std::vector<uint8_t> bytes = read_file(path, uint64_t{1} << 30);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

/// Outputs of `images` images through the deployed float program.
std::vector<float> run(const graph::Graph& graph, const std::vector<float>& input, int images) {
  program::Program program = compile::lower_float(graph);
  const size_t input_elems = static_cast<size_t>(program::elements(program.tensors[program.input].dims));
  const size_t output_elems =
      static_cast<size_t>(program::elements(program.tensors[program.outputs[0]].dims));
  runtime::Options options;
  options.max_batch = images;
  runtime::Session session(runtime::Model::prepare(std::move(program), options));
  std::vector<float> output(output_elems * images);
  session.run(std::span(input).first(input_elems * images), images, std::span(output));
  return output;
}

void expect_close(const std::vector<float>& found, const std::vector<float>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  double largest = 0, difference = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_TRUE(std::isfinite(found[i])) << "output " << i;
    largest = std::max(largest, std::fabs(static_cast<double>(expected[i])));
    difference = std::max(difference, std::fabs(static_cast<double>(found[i]) - expected[i]));
  }
  ASSERT_GT(largest, 0);
  EXPECT_LE(difference, 1e-4 * largest);
  ::testing::Test::RecordProperty("relative_difference", fmt::format("{:.2e}", difference / largest));
}

struct Case {
  const char* network;
  int images;  ///< 2 where the exported batch is dynamic
};

class Judge : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (fs::exists(kFolder / "skipped.txt")) GTEST_SKIP() << read_text_file(kFolder / "skipped.txt");
    if (!fs::exists(kFolder / "input.f32")) GTEST_SKIP() << "run the test onnx_judge_setup first";
  }

  fs::path model() const { return kFolder / fmt::format("{}.onnx", GetParam().network); }
  std::vector<float> input() const { return read_floats(kFolder / "input.f32"); }
  std::vector<float> expected() const {
    return read_floats(kFolder / fmt::format("{}.output.f32", GetParam().network));
  }
};

TEST_P(Judge, AgreesWithOnnxRuntime) {
  const std::vector<float> reference = expected();
  ASSERT_EQ(reference.size(), 1000u * GetParam().images);
  expect_close(run(onnx::import_file(model()), input(), GetParam().images), reference);
}

TEST_P(Judge, AgreesWithBatchNormsFolded) {
  graph::Graph graph = onnx::import_file(model());
  graph::fold_batch_norms(graph);
  graph::verify(graph);
  expect_close(run(graph, input(), GetParam().images), expected());
}

TEST_P(Judge, AgreesAfterExport) {
  const fs::path path = kFolder / fmt::format("{}.again", GetParam().network);
  onnx::export_float(onnx::import_file(model()), path);
  const graph::Graph again = onnx::import_file(path);
  fs::remove(path);
  expect_close(run(again, input(), GetParam().images), expected());
}

INSTANTIATE_TEST_SUITE_P(
    Torchvision, Judge,
    ::testing::Values(Case{"resnet18", 2}, Case{"resnet50", 1}, Case{"resnext50_32x4d", 2},
                      Case{"vgg11_bn", 2}, Case{"mobilenet_v2", 2}, Case{"mobilenet_v3_small", 2},
                      Case{"squeezenet1_1", 2}, Case{"densenet121", 2}, Case{"shufflenet_v2_x1_0", 2},
                      Case{"shufflenet_v2_x1_0_static", 1}, Case{"efficientnet_b0", 2}, Case{"mnasnet1_0", 2},
                      Case{"regnet_y_400mf", 2}, Case{"googlenet", 2}, Case{"googlenet_transform", 2}),
    [](const auto& test) { return std::string(test.param.network); });

}  // namespace
}  // namespace bitstrata
