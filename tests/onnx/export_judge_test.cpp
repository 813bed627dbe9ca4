#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/file.h"
#include "data/batches.h"
#include "format/bst.h"
#include "onnx/export_qdq.h"
#include "onnx/export_qonnx.h"
#include "onnx/import.h"
#include "plan/plan.h"
#include "program/reference.h"
#include "runtime/session.h"
#include "tests/cli/process.h"
#include "tests/onnx/other_tool.h"
#include "tests/onnx/qonnx_evaluator.h"
#include "tests/support/random_program.h"
#include "tests/unit/compile/sample_graphs.h"

/// What bitstrata exports, as ONNX Runtime runs it, against the program, and against what it imports again.
namespace bitstrata {
namespace {

namespace fs = std::filesystem;
using quant::Policy;
using Sample = graph::Graph (*)();

const fs::path kJudge = BITSTRATA_JUDGE_FOLDER;

void write_floats(const fs::path& path, const std::vector<float>& values) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
  write_file_atomically(path, std::span(bytes, values.size() * sizeof(float)));
}

/// Values of all outputs, codes as what they stand for, one output after the other, images innermost to none.
std::vector<float> reference_outputs(const program::Program& program, const std::vector<float>& input,
                                     int images) {
  const size_t elems = input.size() / static_cast<size_t>(images);
  std::vector<std::vector<float>> outputs(program.outputs.size());
  for (int i = 0; i < images; ++i) {
    const auto tensors =
        program::run_reference(program, std::span(input).subspan(static_cast<size_t>(i) * elems, elems));
    for (size_t o = 0; o < outputs.size(); ++o) {
      const auto id = static_cast<size_t>(program.outputs[o]);
      const auto& code = program.tensors[id].code;
      if (!code) outputs[o].insert(outputs[o].end(), tensors.floats[id].begin(), tensors.floats[id].end());
      if (code) {
        for (uint8_t v : tensors.codes[id]) outputs[o].push_back(quant::dequantize(v, *code));
      }
    }
  }
  std::vector<float> all;
  for (const auto& output : outputs) all.insert(all.end(), output.begin(), output.end());
  return all;
}

/// Agreement of all models of one test.
struct Agreement {
  size_t images = 0, same_class = 0, elems = 0, close = 0;

  void add(const std::vector<float>& found, const std::vector<float>& expected, size_t classes) {
    ASSERT_EQ(found.size(), expected.size());
    float largest = 0;
    for (float value : expected) largest = std::max(largest, std::fabs(value));
    for (size_t i = 0; i < found.size(); ++i) close += std::fabs(found[i] - expected[i]) <= 1e-4f * largest;
    elems += found.size();
    for (size_t i = 0; classes > 0 && i < found.size(); i += classes) {
      const auto best = [&](const std::vector<float>& all) {
        const auto first = all.begin() + static_cast<std::ptrdiff_t>(i);
        return std::max_element(first, first + static_cast<std::ptrdiff_t>(classes)) - first;
      };
      ++images;
      same_class += best(found) == best(expected);
    }
  }
};

class ExportJudge : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(kJudge / "installed")) {
      const fs::path reason = kJudge / "skipped.txt";
      GTEST_SKIP() << (fs::exists(reason) ? read_text_file(reason) : "run the test onnx_judge_setup first");
    }
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    work_ = fs::path(::testing::TempDir()) / fmt::format("bitstrata_{}_{}", test->name(), ::getpid());
    fs::create_directories(work_);
  }
  void TearDown() override {
    if (!work_.empty() && !HasFailure()) fs::remove_all(work_);
  }

  fs::path model(const std::string& name) const { return work_ / (name + ".onnx"); }

  /// Remembers what `name` must yield for `images` images.
  void expect(const std::string& name, const program::Program& program, const std::vector<float>& input,
              int images, size_t classes) {
    expect(name, input, reference_outputs(program, input, images), classes);
  }
  void expect(const std::string& name, const std::vector<float>& input, std::vector<float> outputs,
              size_t classes) {
    write_floats(work_ / (name + ".input.f32"), input);
    expected_.push_back({name, std::move(outputs), classes});
  }
  void expect(const std::string& name, const program::Program& program, int images, size_t classes) {
    expect(name, program, testing::random_input(program, images, 1), images, classes);
  }

  /// Runs every model of this test on ONNX Runtime and compares.
  Agreement judge(const char* optimization = "all") {
    const std::string command = fmt::format("node {}/tests/onnx/run_export.js {} {} {}", BITSTRATA_SOURCE_DIR,
                                            kJudge.string(), work_.string(), optimization);
    EXPECT_EQ(std::system(command.c_str()), 0);
    Agreement agreement;
    for (const Expected& expected : expected_) {
      SCOPED_TRACE(expected.name);
      const fs::path error = work_ / (expected.name + ".error.txt"),
                     output = work_ / (expected.name + ".output.f32");
      if (fs::exists(error)) ADD_FAILURE() << read_text_file(error);
      if (!fs::exists(output)) continue;
      const std::vector<uint8_t> bytes = read_file(output, uint64_t{1} << 30);
      std::vector<float> found(bytes.size() / sizeof(float));
      std::memcpy(found.data(), bytes.data(), bytes.size());
      Agreement one;
      one.add(found, expected.values, expected.classes);
      if (one.close != one.elems || one.same_class != one.images)
        fmt::print("{}: {} of {} predictions, {} of {} values\n", expected.name, one.same_class, one.images,
                   one.close, one.elems);
      agreement.add(found, expected.values, expected.classes);
    }
    fmt::print("{} models: {} of {} predictions and {} of {} values equal\n", expected_.size(),
               agreement.same_class, agreement.images, agreement.close, agreement.elems);
    return agreement;
  }

  fs::path work_;

 private:
  struct Expected {
    std::string name;
    std::vector<float> values;
    size_t classes;
  };
  std::vector<Expected> expected_;
};

struct Network {
  std::string name;
  program::Program program;
  size_t classes;
};

/// The sample quantizers with scales that have nothing in common, as calibration yields them: sums and
/// averages of codes then never fall halfway between two codes, where the last bit of a float sum decides.
compile::Quantizers quantizers_of(const graph::Graph& graph, const plan::Plan& plan) {
  compile::Quantizers quantizers = compile::testing::sample_quantizers(graph, plan);
  Random random(5, 0x7363616c65);
  const auto vary = [&](quant::CodeType& code) {
    code.scale *= static_cast<float>(0.8 + 0.4 * random.uniform());
  };
  for (auto& [name, layer] : quantizers.layers) vary(layer.input);
  for (auto& [name, code] : quantizers.streams) vary(code);
  return quantizers;
}

/// Small networks of random weights: all policies, and weights and activations of 1 to 8 bits.
std::vector<Network> sample_networks() {
  using namespace compile::testing;
  const std::pair<const char*, Sample> samples[] = {{"residual", residual_net}, {"dense", dense_net},
                                                    {"maxpool", max_pool_net},  {"squeeze", squeeze_net},
                                                    {"mobile", mobile_net},     {"linear", linear_net}};
  std::vector<Network> networks;
  for (Policy policy : quant::kAllPolicies) {
    for (int bits = 1; bits <= 8; ++bits) {
      const auto& [name, make] = samples[networks.size() % std::size(samples)];
      const graph::Graph graph = make();
      const int activation_bits = 1 + (bits + static_cast<int>(policy)) % 8;
      const plan::Plan plan = plan::uniform_plan(graph, bits, activation_bits, policy, bits % 2 == 0);
      auto program = compile::lower(graph, plan, quantizers_of(graph, plan));
      const auto classes = static_cast<size_t>(
          program::elements(program.tensors[static_cast<size_t>(program.outputs[0])].dims));
      networks.push_back({fmt::format("{}_{}_w{}a{}", name, quant::to_string(policy), bits, activation_bits),
                          std::move(program), classes});
    }
  }
  return networks;
}

void expect_same_predictions(const Agreement& agreement) {
  ASSERT_GT(agreement.images, 100u);
  EXPECT_GE(static_cast<double>(agreement.same_class), 0.999 * static_cast<double>(agreement.images));
  EXPECT_GE(static_cast<double>(agreement.close), 0.98 * static_cast<double>(agreement.elems));
}

TEST_F(ExportJudge, QdqOfAllWidthsAndPolicies) {
  for (const Network& network : sample_networks()) {
    onnx::export_qdq(network.program, model(network.name));
    expect(network.name, network.program, 16, network.classes);
  }
  expect_same_predictions(judge());
}

program::Program imported(const fs::path& path) {
  onnx::Options options;
  options.quantizers = true;
  return compile::lower_quantized(onnx::import_file(path, options)).program;
}

TEST_F(ExportJudge, ImportedQdqOfAllWidthsAndPolicies) {
  for (const Network& network : sample_networks()) {
    onnx::export_qdq(network.program, model(network.name));
    expect(network.name, imported(model(network.name)), 16, network.classes);
  }
  expect_same_predictions(judge());
}

/// 1,000 test images of CIFAR-10, normalised as ../shared's ResNet-20 takes them.
std::vector<float> cifar_images(const fs::path& shared, const fs::path& work) {
  const std::string unpack =
      fmt::format("tar --zstd -xf {}/data/cifar10-jpeg.tar.zst -C {} --wildcards 'test/*5.jpg'",
                  shared.string(), work.string());
  if (std::system(unpack.c_str()) != 0) throw std::runtime_error("tar failed");
  fs::create_directory_symlink(work / "test", work / "train");  // a data set has both
  const data::Dataset dataset = data::load("folder:" + work.string());
  const data::BatchFiller filler(dataset, data::Split::kTest,
                                 {{0.4914f, 0.4822f, 0.4465f}, {0.247f, 0.2435f, 0.2616f}});
  const auto images = data::all_indices(dataset.num_samples(data::Split::kTest));
  std::vector<float> input(images.size() * dataset.shape().num_elems());
  filler.fill(images, input);
  return input;
}

/// The only output of a program on the fast kernels.
std::vector<float> runtime_output(const program::Program& program, const std::vector<float>& input,
                                  int images) {
  runtime::Options options;
  options.max_batch = 50;
  runtime::Session session(runtime::Model::prepare(program, options));
  const auto elems = [&](program::TensorId id) {
    return static_cast<size_t>(program::elements(program.tensors[static_cast<size_t>(id)].dims));
  };
  const size_t in = elems(program.input), out = elems(program.outputs[0]);
  std::vector<float> outputs(out * static_cast<size_t>(images));
  for (int first = 0; first < images; first += options.max_batch) {
    const int n = std::min(options.max_batch, images - first);
    const auto at = static_cast<size_t>(first), count = static_cast<size_t>(n);
    session.run(std::span(input).subspan(at * in, count * in), n,
                std::span(outputs).subspan(at * out, count * out));
  }
  return outputs;
}

/// ResNet-20 of 8 bits as other tools store it, on CIFAR-10's images. One-code differences reach the logits,
/// themselves codes, so closeness is not to the last bit, and few images may change their class.
TEST_F(ExportJudge, ImportedResNetOfOtherTools) {
  const fs::path shared = fs::path(BITSTRATA_SOURCE_DIR).parent_path() / "shared";
  if (!fs::exists(shared)) GTEST_SKIP() << "../shared is absent: no CIFAR-10 images and no ResNet-20";
  const std::vector<float> input = cifar_images(shared, work_);
  constexpr int kImages = 1000, kCalibration = 100;
  const graph::Graph network = onnx::import_file(shared / "models/resnet20-cifar10.onnx");
  ASSERT_EQ(input.size(),
            static_cast<size_t>(kImages *
                                program::elements(network.values[static_cast<size_t>(network.input)].dims)));
  const auto ranges = testing::value_ranges(
      network, std::span(input).first(input.size() / kImages * kCalibration), kCalibration);
  const std::pair<const char*, testing::OtherTool> tools[] = {
      {"asymmetric", {}},
      {"symmetric", {.symmetric = true}},
      {"per_tensor", {.per_channel = false}},
      {"operators", {.operators = true}},
      {"operators_symmetric", {.operators = true, .symmetric = true}}};
  for (const auto& [name, tool] : tools) {
    SCOPED_TRACE(name);
    testing::write_as_other_tool(network, ranges, tool, model(name));
    onnx::Options options;
    options.quantizers = true;
    const auto [program, float_layers] = compile::lower_quantized(onnx::import_file(model(name), options));
    EXPECT_TRUE(float_layers.empty()) << float_layers[0].name << ": " << float_layers[0].reason;
    expect(name, input, runtime_output(program, input, kImages), 10);
  }
  const Agreement agreement = judge();
  ASSERT_EQ(agreement.images, std::size(tools) * kImages);
  EXPECT_GE(static_cast<double>(agreement.same_class), 0.995 * static_cast<double>(agreement.images));
}

TEST_F(ExportJudge, QdqOfOlderOpsets) {
  for (const Network& network : sample_networks()) {
    for (int opset : {13, 18}) {
      const std::string name = fmt::format("{}_opset{}", network.name, opset);
      onnx::export_qdq(network.program, model(name), opset);
      expect(name, network.program, 4, network.classes);
    }
  }
  expect_same_predictions(judge());
}

/// ONNX Runtime 1.30 merges layers of 2-bit weights into int8 operators that it then finds invalid, so its
/// larger rewrites stay off.
TEST_F(ExportJudge, QdqWithTwoBitWeights) {
  for (const Network& network : sample_networks()) {
    onnx::export_qdq(network.program, model(network.name), 25);
    expect(network.name, network.program, 4, network.classes);
  }
  expect_same_predictions(judge("basic"));
}

TEST_F(ExportJudge, QonnxOfAllWidthsAndPolicies) {
  for (const Network& network : sample_networks()) {
    onnx::export_qonnx(network.program, model(network.name));
    testing::replace_quant_nodes(model(network.name));
    expect(network.name, network.program, 16, network.classes);
  }
  expect_same_predictions(judge());
}

/// Every op kind, step, broadcast and grid. A value near the border of two codes may round to either in a
/// program whose weights are nothing like a network's, so few elements may differ.
void expect_same_values(const Agreement& agreement) {
  ASSERT_GT(agreement.elems, 10000u);
  EXPECT_GE(static_cast<double>(agreement.close), 0.99 * static_cast<double>(agreement.elems));
}

bool averages_dilated_windows(const program::Program& program) {
  return std::ranges::any_of(program.ops, [](const program::Op& op) {
    const auto* pool = std::get_if<program::AveragePool>(&op.kind);
    return pool != nullptr && (pool->window.dilation_h != 1 || pool->window.dilation_w != 1);
  });
}

/// Random programs that ONNX has a form for; inexact: some with functions too, which may yield NaN.
std::vector<program::Program> random_programs(bool inexact) {
  std::vector<program::Program> programs;
  for (uint64_t seed = 0; programs.size() < 120; ++seed) {
    auto program = testing::random_program(seed, {.inexact = inexact && seed % 3 == 2});
    if (!averages_dilated_windows(program)) programs.push_back(std::move(program));
  }
  return programs;
}

TEST_F(ExportJudge, QdqOfRandomPrograms) {
  int count = 0;
  for (const program::Program& program : random_programs(true)) {
    const std::string name = fmt::format("random{}", count++);
    onnx::export_qdq(program, model(name));
    expect(name, program, 3, 0);
  }
  expect_same_values(judge());
}

/// A Quant node keeps NaN, which no code stands for.
TEST_F(ExportJudge, QonnxOfRandomPrograms) {
  int count = 0;
  for (const program::Program& program : random_programs(false)) {
    const std::string name = fmt::format("random{}", count++);
    onnx::export_qonnx(program, model(name));
    testing::replace_quant_nodes(model(name));
    expect(name, program, 3, 0);
  }
  expect_same_values(judge());
}

#ifdef BITSTRATA_EXECUTABLE

/// A trained network, by the command line: all test images are classified as model.bst classifies them, so
/// the accuracy is the same; and read back, its logits are equal bit for bit.
TEST_F(ExportJudge, TrainedDigitsNetworkKeepsItsPredictions) {
  const testing::TemporaryFolder folder;
  const auto run = [](const std::vector<std::string>& arguments) {
    const testing::Finished finished = testing::bitstrata(arguments);
    ASSERT_EQ(finished.status, 0) << finished.err;
  };
  run({"train", "lenet", "--data", "digits", "--out", folder / "float.onnx", "--epochs", "2", "--quiet"});
  run({"compress", folder / "float.onnx", "--data", "digits", "--target", "avg-bits=3", "--epochs", "1",
       "--out", folder / "job", "--quiet"});
  const program::Program program = format::read(folder / "job/model.bst");
  const data::Dataset digits = data::load("digits");
  const data::BatchFiller filler(digits, data::Split::kTest, {program.mean, program.std});
  const auto images = data::all_indices(digits.labels(data::Split::kTest).size());
  std::vector<float> input(images.size() * digits.shape().num_elems());
  filler.fill(images, input);
  for (const std::string form : {"qdq", "qonnx"}) {
    run({"export", folder / "job/model.bst", "--format", form, "--out", model(form).string()});
    const auto again = runtime_output(imported(model(form)), input, static_cast<int>(images.size()));
    EXPECT_EQ(again, runtime_output(program, input, static_cast<int>(images.size())));
    expect(form, program, input, static_cast<int>(images.size()), 10);
  }
  testing::replace_quant_nodes(model("qonnx"));
  expect_same_predictions(judge());
}

#endif

}  // namespace
}  // namespace bitstrata
