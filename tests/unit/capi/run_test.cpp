#include <filesystem>
#include <thread>

#include "core/isa.h"
#include "program/layer.h"
#include "program/reference.h"
#include "tests/support/random_program.h"
#include "tests/unit/capi/handles.h"

namespace bitstrata::testing {
namespace {

/// All outputs of one image in the arithmetic of the reference.
std::vector<std::vector<float>> reference(const program::Program& network, const std::vector<float>& image) {
  const auto values = program::run_reference(network, image);
  std::vector<std::vector<float>> outputs;
  for (program::TensorId id : network.outputs) {
    const auto i = static_cast<size_t>(id);
    const auto& code = network.tensors[i].code;
    std::vector<float> output = values.floats[i];
    if (code) {
      output.clear();
      for (uint8_t v : values.codes[i]) output.push_back(quant::dequantize(v, *code));
    }
    outputs.push_back(std::move(output));
  }
  return outputs;
}

std::vector<std::vector<float>> run(bitstrata_session* session, const program::Program& network,
                                    const std::vector<float>& input, size_t n) {
  std::vector<std::vector<float>> outputs;
  std::vector<float*> addresses;
  std::vector<size_t> sizes;
  for (program::TensorId id : network.outputs) {
    sizes.push_back(n *
                    static_cast<size_t>(program::elements(network.tensors[static_cast<size_t>(id)].dims)));
    outputs.emplace_back(sizes.back());
  }
  for (auto& output : outputs) addresses.push_back(output.data());
  EXPECT_EQ(bitstrata_session_run(session, n, input.data(), input.size(), addresses.data(), sizes.data(),
                                  sizes.size()),
            BITSTRATA_OK)
      << bitstrata_last_error();
  return outputs;
}

TEST(CapiRun, EqualsTheReferenceImageForImage) {
  for (uint64_t seed : {1u, 7u, 23u}) {
    SCOPED_TRACE(seed);
    const program::Program network = random_program(seed);
    bitstrata_options options = BITSTRATA_OPTIONS_INIT;
    options.max_batch = 3;
    const ModelHandle model = load(network, &options);
    const SessionHandle session = make_session(model);
    const std::vector<float> one = random_input(network, 1, 1), two = random_input(network, 1, 2);
    std::vector<float> both = one;
    both.insert(both.end(), two.begin(), two.end());

    const auto expected_one = reference(network, one), expected_two = reference(network, two);
    const auto found = run(session.get(), network, both, 2);
    for (size_t i = 0; i < found.size(); ++i) {
      std::vector<float> expected = expected_one[i];
      expected.insert(expected.end(), expected_two[i].begin(), expected_two[i].end());
      EXPECT_EQ(found[i], expected) << i;
    }
    EXPECT_EQ(run(session.get(), network, two, 1), expected_two);
  }
}

TEST(CapiRun, AForcedFamilyAndAnyIsaGiveEqualResults) {
  const program::Program network = random_program(7);
  const std::vector<float> image = random_input(network, 1, 1);
  for (const char* isa : {"scalar", static_cast<const char*>(nullptr)}) {
    for (const char* kernels : {"reference", static_cast<const char*>(nullptr)}) {
      bitstrata_options options = BITSTRATA_OPTIONS_INIT;
      options.isa = isa;
      options.kernels = kernels;
      const ModelHandle model = load(network, &options);
      EXPECT_EQ(run(make_session(model).get(), network, image, 1), reference(network, image));
    }
  }
}

TEST(CapiRun, MeasuredKernelsGiveEqualResultsAndAreRemembered) {
  const program::Program network = random_program(7);
  const std::vector<float> image = random_input(network, 1, 1);
  const auto file = std::filesystem::path(::testing::TempDir()) / "capi-kernel-times";
  std::filesystem::remove(file);
  const std::string name = file.string();
  bitstrata_options options = BITSTRATA_OPTIONS_INIT;
  options.kernel_times = name.c_str();
  const ModelHandle model = load(network, &options);
  EXPECT_EQ(run(make_session(model).get(), network, image, 1), reference(network, image));
  EXPECT_TRUE(std::filesystem::is_regular_file(file));
  std::filesystem::remove(file);
}

TEST(CapiRun, ASessionOutlivesItsModel) {
  const program::Program network = random_program(3);
  ModelHandle model = load(network);
  const SessionHandle session = make_session(model);
  model.reset();
  const std::vector<float> image = random_input(network, 1, 1);
  EXPECT_EQ(run(session.get(), network, image, 1), reference(network, image));
}

TEST(CapiRun, ThreadsShareOneModel) {
  const program::Program network = random_program(11);
  const ModelHandle model = load(network);
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      const SessionHandle session = make_session(model);
      const std::vector<float> image = random_input(network, 1, t);
      const auto expected = reference(network, image);
      for (int i = 0; i < 20; ++i) EXPECT_EQ(run(session.get(), network, image, 1), expected);
      EXPECT_STREQ(bitstrata_last_error(), "");
      EXPECT_EQ(bitstrata_session_create(nullptr, nullptr), BITSTRATA_INVALID_ARGUMENT);
      EXPECT_STRNE(bitstrata_last_error(), "");
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(CapiQueries, TellWhatTheProgramHolds) {
  program::Program network = random_program(7);
  network.class_names = {"cat", "K\xc3\xa4se"};
  const auto channels = static_cast<size_t>(network.tensors[static_cast<size_t>(network.input)].dims[0]);
  network.mean.assign(channels, 0.25f);
  network.std.assign(channels, 0.5f);
  const ModelHandle model = load(network);

  bitstrata_model_info info = BITSTRATA_MODEL_INFO_INIT;
  ASSERT_EQ(bitstrata_model_get_info(model.get(), &info), BITSTRATA_OK);
  EXPECT_EQ(info.input_count, 1u);
  EXPECT_EQ(info.output_count, network.outputs.size());
  EXPECT_EQ(info.layer_count, network.ops.size());
  EXPECT_EQ(info.class_count, 2u);
  EXPECT_EQ(info.channel_count, channels);
  EXPECT_EQ(info.threads, 1);
  EXPECT_EQ(info.max_batch, 1);
  EXPECT_EQ(info.isa, std::string(to_string(best_isa())));
  EXPECT_GT(info.arena_bytes, 0u);

  uint64_t macs = 0;
  size_t weight_bytes = 0;
  for (size_t i = 0; i < info.layer_count; ++i) {
    const program::Op& op = network.ops[i];
    bitstrata_layer_info layer = BITSTRATA_LAYER_INFO_INIT;
    ASSERT_EQ(bitstrata_model_get_layer(model.get(), i, &layer), BITSTRATA_OK);
    EXPECT_EQ(layer.name, op.name);
    EXPECT_EQ(layer.op, std::string(program::to_string(op.kind)));
    EXPECT_EQ(layer.macs, static_cast<uint64_t>(program::macs(network, op)));
    EXPECT_EQ(layer.weight_bits, program::op_bits(network, op).w_bits);
    EXPECT_EQ(layer.activation_bits, program::op_bits(network, op).a_bits);
    EXPECT_EQ(layer.kernel == std::string("-"), layer.weight_bits == 0) << layer.kernel;
    EXPECT_EQ(layer.weight_bytes, (layer.weight_count * static_cast<size_t>(layer.weight_bits) + 7) / 8);
    macs += layer.macs;
    weight_bytes += layer.weight_bytes;
  }
  EXPECT_GT(macs, 0u);
  EXPECT_EQ(info.macs, macs);
  EXPECT_EQ(info.weight_bytes, weight_bytes);

  bitstrata_tensor_info input = BITSTRATA_TENSOR_INFO_INIT;
  ASSERT_EQ(bitstrata_model_get_input(model.get(), 0, &input), BITSTRATA_OK);
  const program::Tensor& tensor = network.tensors[static_cast<size_t>(network.input)];
  EXPECT_EQ(input.name, tensor.name);
  EXPECT_EQ(program::Dims(input.dims, input.dims + input.rank), tensor.dims);
  EXPECT_EQ(input.element_count, static_cast<size_t>(program::elements(tensor.dims)));

  const char* name = nullptr;
  ASSERT_EQ(bitstrata_model_class_name(model.get(), 1, &name), BITSTRATA_OK);
  EXPECT_STREQ(name, "K\xc3\xa4se");
  std::vector<float> mean(channels), std(channels);
  ASSERT_EQ(bitstrata_model_normalization(model.get(), mean.data(), std.data(), channels), BITSTRATA_OK);
  EXPECT_EQ(mean, network.mean);
  EXPECT_EQ(std, network.std);
}

}  // namespace
}  // namespace bitstrata::testing
