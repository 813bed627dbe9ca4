#include <cstring>
#include <fstream>

#include "capi/handles.h"
#include "tests/support/program_builder.h"
#include "tests/unit/capi/handles.h"

namespace bitstrata::testing {
namespace {

/// x [2] -> fc [3], 3-bit weights on 4-bit codes.
program::Program small_network() {
  ProgramBuilder builder;
  const TensorId x = builder.input({2});
  const TensorId codes = builder.add(program::Elementwise{}, {x}, {2}, quant::CodeType{4, -8, 0.5f});
  program::Linear linear;
  linear.out = 3;
  linear.weights = code_weights(3, {1, -4}, {0, 1, 2, 3, 4, 5});
  linear.mul = {1, 2, 4};
  linear.add = {0, 0, 1};
  program::Program network = builder.build({builder.add(linear, {codes}, {3})});
  network.mean = {0.5f, 0.5f};
  network.std = {0.25f, 0.25f};
  return network;
}

/// `status` is `expected`, and the message names what is wrong.
void expect_failure(bitstrata_status status, bitstrata_status expected, const std::string& part) {
  EXPECT_EQ(status, expected) << bitstrata_last_error();
  EXPECT_NE(std::string(bitstrata_last_error()).find(part), std::string::npos) << bitstrata_last_error();
  EXPECT_EQ(std::string(bitstrata_last_error()).find('\n'), std::string::npos);
}

class CapiArguments : public ::testing::Test {
 protected:
  const std::vector<uint8_t> bytes_ = format::encode(small_network());
  const ModelHandle model_ = load(small_network());
  const SessionHandle session_ = make_session(model_);

  bitstrata_status load_with(const bitstrata_options& options) const {
    bitstrata_model* model = nullptr;
    const bitstrata_status status =
        bitstrata_model_load_memory(bytes_.data(), bytes_.size(), &options, &model);
    EXPECT_EQ(status == BITSTRATA_OK, model != nullptr);
    bitstrata_model_free(model);
    return status;
  }
};

TEST_F(CapiArguments, FreeingNothingIsAllowed) {
  bitstrata_model_free(nullptr);
  bitstrata_session_free(nullptr);
}

TEST_F(CapiArguments, NullPointersAreRefusedEverywhere) {
  bitstrata_model* model = nullptr;
  bitstrata_session* session = nullptr;
  bitstrata_model_info info = BITSTRATA_MODEL_INFO_INIT;
  bitstrata_tensor_info tensor = BITSTRATA_TENSOR_INFO_INIT;
  bitstrata_layer_info layer = BITSTRATA_LAYER_INFO_INIT;
  const char* name = nullptr;
  float values[3] = {};
  for (bitstrata_status status : {
           bitstrata_model_load(nullptr, nullptr, &model),
           bitstrata_model_load("x.bst", nullptr, nullptr),
           bitstrata_model_load_memory(nullptr, 8, nullptr, &model),
           bitstrata_model_load_memory(bytes_.data(), bytes_.size(), nullptr, nullptr),
           bitstrata_model_get_info(nullptr, &info),
           bitstrata_model_get_info(model_.get(), nullptr),
           bitstrata_model_get_input(nullptr, 0, &tensor),
           bitstrata_model_get_input(model_.get(), 0, nullptr),
           bitstrata_model_get_output(nullptr, 0, &tensor),
           bitstrata_model_get_output(model_.get(), 0, nullptr),
           bitstrata_model_get_layer(nullptr, 0, &layer),
           bitstrata_model_get_layer(model_.get(), 0, nullptr),
           bitstrata_model_class_name(nullptr, 0, &name),
           bitstrata_model_class_name(model_.get(), 0, nullptr),
           bitstrata_model_normalization(nullptr, values, values, 2),
           bitstrata_model_normalization(model_.get(), nullptr, values, 2),
           bitstrata_model_normalization(model_.get(), values, nullptr, 2),
           bitstrata_session_create(nullptr, &session),
           bitstrata_session_create(model_.get(), nullptr),
       }) {
    expect_failure(status, BITSTRATA_INVALID_ARGUMENT, "null");
  }
  EXPECT_EQ(model, nullptr);
  EXPECT_EQ(session, nullptr);
}

TEST_F(CapiArguments, ARunChecksEverything) {
  float input[3] = {1, 2, 3}, output[4] = {7, 7, 7, 7};
  float* const outputs[] = {output};
  float* const nowhere[] = {nullptr};
  const size_t sizes[] = {3}, wrong[] = {4};
  const auto run = [&](size_t n, size_t input_size, float* const* to, const size_t* to_sizes, size_t count) {
    return bitstrata_session_run(session_.get(), n, input, input_size, to, to_sizes, count);
  };
  expect_failure(bitstrata_session_run(nullptr, 1, input, 2, outputs, sizes, 1), BITSTRATA_INVALID_ARGUMENT,
                 "session");
  expect_failure(bitstrata_session_run(session_.get(), 1, nullptr, 2, outputs, sizes, 1),
                 BITSTRATA_INVALID_ARGUMENT, "input");
  const auto* odd = reinterpret_cast<const float*>(reinterpret_cast<const char*>(input) + 1);
  expect_failure(bitstrata_session_run(session_.get(), 1, odd, 2, outputs, sizes, 1),
                 BITSTRATA_INVALID_ARGUMENT, "multiple of 4");
  expect_failure(run(1, 2, nullptr, sizes, 1), BITSTRATA_INVALID_ARGUMENT, "outputs");
  expect_failure(run(1, 2, outputs, nullptr, 1), BITSTRATA_INVALID_ARGUMENT, "sizes");
  expect_failure(run(1, 2, nowhere, sizes, 1), BITSTRATA_INVALID_ARGUMENT, "output");
  expect_failure(run(0, 0, outputs, sizes, 1), BITSTRATA_BAD_INPUT, "0 images");
  expect_failure(run(2, 4, outputs, sizes, 1), BITSTRATA_BAD_INPUT, "2 images");
  expect_failure(run(SIZE_MAX, 2, outputs, sizes, 1), BITSTRATA_BAD_INPUT, "images");
  expect_failure(run(size_t{1} << 32 | 1, 2, outputs, sizes, 1), BITSTRATA_BAD_INPUT, "images");
  expect_failure(run(1, 3, outputs, sizes, 1), BITSTRATA_BAD_INPUT, "3 input values");
  expect_failure(run(1, 2, outputs, wrong, 1), BITSTRATA_BAD_INPUT, "4 values");
  expect_failure(run(1, 2, outputs, sizes, 0), BITSTRATA_BAD_INPUT, "0 outputs");
  expect_failure(run(1, 2, outputs, sizes, SIZE_MAX), BITSTRATA_BAD_INPUT, "outputs");
  EXPECT_EQ(std::vector<float>(output, output + 4), std::vector<float>(4, 7.0f));
  EXPECT_EQ(run(1, 2, outputs, sizes, 1), BITSTRATA_OK);
  EXPECT_NE(output[0], 7.0f);
  EXPECT_EQ(output[3], 7.0f);
}

TEST_F(CapiArguments, IndicesBeyondTheEndAreNotFound) {
  bitstrata_tensor_info tensor = BITSTRATA_TENSOR_INFO_INIT;
  bitstrata_layer_info layer = BITSTRATA_LAYER_INFO_INIT;
  const char* name = nullptr;
  for (size_t beyond : {size_t{2}, SIZE_MAX}) {
    expect_failure(bitstrata_model_get_input(model_.get(), beyond, &tensor), BITSTRATA_NOT_FOUND, "input");
    expect_failure(bitstrata_model_get_output(model_.get(), beyond, &tensor), BITSTRATA_NOT_FOUND, "output");
    expect_failure(bitstrata_model_get_layer(model_.get(), beyond, &layer), BITSTRATA_NOT_FOUND, "layer");
    expect_failure(bitstrata_model_class_name(model_.get(), beyond, &name), BITSTRATA_NOT_FOUND, "class");
  }
  float values[1] = {3};
  expect_failure(bitstrata_model_normalization(model_.get(), values, values, 1), BITSTRATA_BAD_INPUT, "2");
  EXPECT_EQ(values[0], 3);
}

TEST_F(CapiArguments, OptionsAreChecked) {
  bitstrata_options options = BITSTRATA_OPTIONS_INIT;
  EXPECT_EQ(load_with(options), BITSTRATA_OK);
  for (int32_t threads : {0, -1, 1025, INT32_MAX}) {
    options = BITSTRATA_OPTIONS_INIT;
    options.threads = threads;
    expect_failure(load_with(options), BITSTRATA_INVALID_ARGUMENT, "threads");
  }
  for (int32_t batch : {0, -1, 65537, INT32_MAX}) {
    options = BITSTRATA_OPTIONS_INIT;
    options.max_batch = batch;
    expect_failure(load_with(options), BITSTRATA_INVALID_ARGUMENT, "batch");
  }
  options = BITSTRATA_OPTIONS_INIT;
  options.isa = "pentium";
  expect_failure(load_with(options), BITSTRATA_INVALID_ARGUMENT, "pentium");
  options = BITSTRATA_OPTIONS_INIT;
  options.kernels = "magic";
  expect_failure(load_with(options), BITSTRATA_INVALID_ARGUMENT, "reference");
}

TEST_F(CapiArguments, StructsOfOtherVersionsWork) {
  // A caller from before `kernels`: what lies beyond its struct is not read.
  bitstrata_options shorter = BITSTRATA_OPTIONS_INIT;
  shorter.struct_size = offsetof(bitstrata_options, kernels);
  shorter.kernels = "magic";
  shorter.kernel_times = "/nowhere";
  EXPECT_EQ(load_with(shorter), BITSTRATA_OK);

  struct Longer {
    bitstrata_options known = BITSTRATA_OPTIONS_INIT;
    size_t news = 0;
  } longer;
  longer.known.struct_size = sizeof longer;
  EXPECT_EQ(load_with(longer.known), BITSTRATA_OK);
  longer.news = 1;
  expect_failure(load_with(longer.known), BITSTRATA_UNSUPPORTED, "does not know");

  bitstrata_options unset = BITSTRATA_OPTIONS_INIT;
  for (size_t size : {size_t{0}, sizeof(size_t), SIZE_MAX}) {
    unset.struct_size = size;
    expect_failure(load_with(unset), BITSTRATA_INVALID_ARGUMENT, "_INIT");
  }

  bitstrata_model_info info = BITSTRATA_MODEL_INFO_INIT;
  info.struct_size = offsetof(bitstrata_model_info, output_count);
  info.output_count = 99;
  ASSERT_EQ(bitstrata_model_get_info(model_.get(), &info), BITSTRATA_OK) << bitstrata_last_error();
  EXPECT_EQ(info.input_count, 1u);
  EXPECT_EQ(info.output_count, 99u);
  EXPECT_EQ(info.struct_size, offsetof(bitstrata_model_info, output_count));
}

TEST_F(CapiArguments, FilesThatAreNoModelAreRefused) {
  bitstrata_model* model = reinterpret_cast<bitstrata_model*>(this);
  expect_failure(bitstrata_model_load("/nowhere/model.bst", nullptr, &model), BITSTRATA_IO,
                 "/nowhere/model.bst");
  EXPECT_EQ(model, nullptr);
  expect_failure(bitstrata_model_load("/", nullptr, &model), BITSTRATA_BAD_INPUT, "/");
  expect_failure(bitstrata_model_load_memory("no model", 8, nullptr, &model), BITSTRATA_CORRUPT_FILE,
                 "memory");
  expect_failure(bitstrata_model_load_memory("", 0, nullptr, &model), BITSTRATA_CORRUPT_FILE, "memory");
  for (size_t size = 1; size < bytes_.size(); size += 7) {
    expect_failure(bitstrata_model_load_memory(bytes_.data(), size, nullptr, &model), BITSTRATA_CORRUPT_FILE,
                   "memory");
  }
}

TEST(CapiStatus, EveryErrorOfTheInsideHasOne) {
  EXPECT_EQ(capi::to_status(ErrorCode::kInvalidArgument), BITSTRATA_INVALID_ARGUMENT);
  EXPECT_EQ(capi::to_status(ErrorCode::kUnsupported), BITSTRATA_UNSUPPORTED);
  EXPECT_EQ(capi::to_status(ErrorCode::kCorruptFile), BITSTRATA_CORRUPT_FILE);
  EXPECT_EQ(capi::to_status(ErrorCode::kIo), BITSTRATA_IO);
  EXPECT_EQ(capi::to_status(ErrorCode::kNotFound), BITSTRATA_NOT_FOUND);
  EXPECT_EQ(capi::to_status(ErrorCode::kBadInput), BITSTRATA_BAD_INPUT);
  EXPECT_EQ(capi::to_status(ErrorCode::kInternal), BITSTRATA_INTERNAL);
  for (ErrorCode code : {ErrorCode::kInvalidArgument, ErrorCode::kUnsupported, ErrorCode::kCorruptFile,
                         ErrorCode::kIo, ErrorCode::kNotFound, ErrorCode::kBadInput, ErrorCode::kInternal}) {
    EXPECT_STREQ(bitstrata_status_name(capi::to_status(code)), to_string(code));
  }
  EXPECT_STREQ(bitstrata_status_name(static_cast<bitstrata_status>(99)), "unknown");
}

TEST(CapiStatus, ExceptionsOfAllKindsEndAtTheBorder) {
  EXPECT_EQ(capi::guarded([] { throw std::bad_alloc(); }), BITSTRATA_OUT_OF_MEMORY);
  EXPECT_EQ(capi::guarded([] { throw std::runtime_error("odd"); }), BITSTRATA_INTERNAL);
  EXPECT_STREQ(bitstrata_last_error(), "odd");
  EXPECT_EQ(capi::guarded([] { throw 3; }), BITSTRATA_INTERNAL);
}

TEST(CapiStatus, LongMessagesAreCutBetweenCharacters) {
  std::string message;
  while (message.size() < 3000) message += "\xe2\x82\xac";
  capi::remember(BITSTRATA_INTERNAL, message.c_str());
  const std::string kept = bitstrata_last_error();
  EXPECT_EQ(kept, message.substr(0, 2046));
}

TEST(CapiVersion, LibraryAndHeaderAgreeHere) {
  EXPECT_STREQ(bitstrata_version(), BITSTRATA_VERSION);
  EXPECT_EQ(bitstrata_version(), fmt::format("{}.{}.{}", BITSTRATA_VERSION_MAJOR, BITSTRATA_VERSION_MINOR,
                                             BITSTRATA_VERSION_PATCH));
  EXPECT_GE(bitstrata_format_version(), 1u);
}

}  // namespace
}  // namespace bitstrata::testing
