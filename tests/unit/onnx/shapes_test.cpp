#include <gtest/gtest.h>

#include "model.h"

namespace bitstrata::onnx::testing {
namespace {

const std::vector<int64_t> kImage = {0, 4, 6, 8};

TEST(ImportShape, PassThroughNodesVanish) {
  Model m(kImage);
  m.floats("ratio", {0.5f}, {});
  m.node("Identity", {"x"}, {"a"});
  m.node("Dropout", {"a", "ratio"}, {"b"});
  m.node("Cast", {"b"}, {"c"}).set("to", 10);
  m.node("Relu", {"c"});
  EXPECT_EQ(m.nodes(), "y_node: y = relu(x) 0 inf -> [4, 6, 8]\n");
}

TEST(ImportShape, RefusesTrainingDropoutAndIntegerCasts) {
  Model cast(kImage);
  cast.node("Cast", {"x"}).set("to", 7);
  expect_error(ErrorCode::kUnsupported, {"to INT64, supported are floating-point types"},
               [&] { cast.import(); });
  Model dropout(kImage);
  dropout.floats("ratio", {0.5f}, {}).ints("train", {1});
  dropout.node("Dropout", {"x", "ratio", "train"});
  expect_error(ErrorCode::kUnsupported, {"training mode", "evaluation mode"}, [&] { dropout.import(); });
}

TEST(ImportShape, ReshapeForms) {
  const auto reshaped = [](const std::vector<int64_t>& target, int allow_zero = -1) {
    Model m(kImage, 14);
    m.ints("t", target);
    auto node = m.node("Reshape", {"x", "t"});
    if (allow_zero >= 0) node.set("allowzero", allow_zero);
    return m.nodes();
  };
  EXPECT_EQ(reshaped({0, -1}), "y_node: y = reshape(x) -> [192]\n");
  EXPECT_EQ(reshaped({-1, 192}), "y_node: y = reshape(x) -> [192]\n");
  EXPECT_EQ(reshaped({1, 2, 2, -1, 8}), "y_node: y = reshape(x) -> [2, 2, 6, 8]\n");
  EXPECT_EQ(reshaped({0, 0, 48}), "y_node: y = reshape(x) -> [4, 48]\n");
  expect_error(ErrorCode::kBadInput, {"does not hold the 192 elements"}, [&] { reshaped({1, 191}); });
  expect_error(ErrorCode::kBadInput, {"does not hold"}, [&] { reshaped({0, -1}, 1); });
  expect_error(ErrorCode::kBadInput, {"two dims open"}, [&] { reshaped({-1, -1}); });
  expect_error(ErrorCode::kBadInput, {"negative dim"}, [&] { reshaped({-3, 64}); });
  expect_error(ErrorCode::kUnsupported, {"output [4, 48] does not keep the batch of 1"}, [&] {
    reshaped({4, 48});
  });
  expect_error(ErrorCode::kUnsupported, {"6 dims behind the batch"}, [&] {
    reshaped({1, 2, 2, 2, 3, 2, 4});
  });
}

TEST(ImportShape, StaticBatchIsDropped) {
  Model m({8, 4, 6});
  m.ints("t", {8, 24});
  m.node("Reshape", {"x", "t"});
  EXPECT_EQ(m.nodes(), "y_node: y = reshape(x) -> [24]\n");
}

TEST(ImportShape, FlattenSqueezeUnsqueeze) {
  Model flatten(kImage);
  flatten.node("Flatten", {"x"});
  EXPECT_EQ(flatten.nodes(), "y_node: y = reshape(x) -> [192]\n");
  Model negative({0, 4, 6});
  negative.node("Flatten", {"x"}).set("axis", -2);
  EXPECT_EQ(negative.nodes(), "y_node: y = reshape(x) -> [24]\n");
  Model far(kImage);
  far.node("Flatten", {"x"}).set("axis", 2);
  expect_error(ErrorCode::kUnsupported, {"[4, 48] does not keep the batch"}, [&] { far.import(); });

  Model squeeze({0, 1, 6, 1}, 11);
  squeeze.node("Squeeze", {"x"}).set("axes", {1, -1});
  EXPECT_EQ(squeeze.nodes(), "y_node: y = reshape(x) -> [6]\n");
  Model squeeze13({0, 1, 6, 1});
  squeeze13.ints("axes", {3});
  squeeze13.node("Squeeze", {"x", "axes"});
  EXPECT_EQ(squeeze13.nodes(), "y_node: y = reshape(x) -> [1, 6]\n");
  Model all({0, 1, 6, 1});
  all.node("Squeeze", {"x"});
  EXPECT_EQ(all.nodes(), "y_node: y = reshape(x) -> [6]\n");
  Model batch({1, 1, 6}, 11);
  batch.node("Squeeze", {"x"}).set("axes", {0, 1});
  expect_error(ErrorCode::kUnsupported, {"along the batch"}, [&] { batch.import(); });
  Model wide({0, 2, 6}, 11);
  wide.node("Squeeze", {"x"}).set("axes", std::vector<int64_t>{1});
  expect_error(ErrorCode::kBadInput, {"axis 1 has 2 elements, expected 1"}, [&] { wide.import(); });

  Model unsqueeze({0, 6});
  unsqueeze.ints("axes", {1, -1});
  unsqueeze.node("Unsqueeze", {"x", "axes"});
  EXPECT_EQ(unsqueeze.nodes(), "y_node: y = reshape(x) -> [1, 6, 1]\n");
}

TEST(ImportShape, Transpose) {
  Model m(kImage);
  m.node("Transpose", {"x"}).set("perm", {0, 3, 1, 2});
  EXPECT_EQ(m.nodes(), "y_node: y = transpose(x) perm 2,0,1 -> [8, 4, 6]\n");
  Model batch(kImage);
  batch.node("Transpose", {"x"}).set("perm", {1, 0, 2, 3});
  expect_error(ErrorCode::kUnsupported, {"perm [1, 0, 2, 3] moves the batch"}, [&] { batch.import(); });
  Model twice(kImage);
  twice.node("Transpose", {"x"}).set("perm", {0, 1, 1, 2});
  expect_error(ErrorCode::kBadInput, {"no permutation"}, [&] { twice.import(); });
}

TEST(ImportShape, Slice) {
  Model attributes(kImage, 9);
  attributes.node("Slice", {"x"}).set("starts", {1, -4}).set("ends", {3, 1000}).set("axes", {1, 3});
  EXPECT_EQ(attributes.nodes(),
            "y_node: y_node = slice(x) axis 0 start 1 step 1 -> [2, 6, 8]\n"
            "y_node#2: y = slice(y_node) axis 2 start 4 step 1 -> [2, 6, 4]\n");
  Model inputs(kImage);
  inputs.ints("s", {0, -1}).ints("e", {9223372036854775807, -100}).ints("a", {2, -1}).ints("t", {2, -3});
  inputs.node("Slice", {"x", "s", "e", "a", "t"});
  EXPECT_EQ(inputs.nodes(),
            "y_node: y_node = slice(x) axis 1 start 0 step 2 -> [4, 3, 8]\n"
            "y_node#2: y = slice(y_node) axis 2 start 7 step -3 -> [4, 3, 3]\n");
  Model whole_batch(kImage);
  whole_batch.ints("s", {0, 1}).ints("e", {9223372036854775807, 2}).ints("a", {0, 1});
  whole_batch.node("Slice", {"x", "s", "e", "a"});
  EXPECT_EQ(whole_batch.nodes(), "y_node: y = slice(x) axis 0 start 1 step 1 -> [1, 6, 8]\n");
}

TEST(ImportShape, RefusesSlicesOfTheBatchAndEmptyOnes) {
  const auto sliced = [](int64_t start, int64_t end, int64_t axis, int64_t step) {
    Model m(kImage);
    m.ints("s", {start}).ints("e", {end}).ints("a", {axis}).ints("t", {step});
    m.node("Slice", {"x", "s", "e", "a", "t"});
    return m.nodes();
  };
  expect_error(ErrorCode::kUnsupported, {"part of the batch"}, [&] { sliced(0, 1, 0, 1); });
  expect_error(ErrorCode::kBadInput, {"slice of axis 1 is empty"}, [&] { sliced(3, 3, 1, 1); });
  expect_error(ErrorCode::kBadInput, {"step 0"}, [&] { sliced(0, 3, 1, 0); });
  expect_error(ErrorCode::kBadInput, {"axis 7 of a tensor of 4 dims"}, [&] { sliced(0, 3, 7, 1); });
}

TEST(ImportShape, SplitsAreSlices) {
  const std::string halves =
      "a_node: a = slice(x) axis 0 start 0 step 1 -> [1, 6, 8]\n"
      "a_node#2: b = slice(x) axis 0 start 1 step 1 -> [3, 6, 8]\n"
      "c_node: c = relu(a) 0 inf -> [1, 6, 8]\n"
      "y_node: y = concat(b, c) axis 0 -> [4, 6, 8]\n";
  Model attribute(kImage, 11);
  attribute.node("Split", {"x"}, {"a", "b"}).set("axis", 1).set("split", {1, 3});
  attribute.node("Relu", {"a"}, {"c"});
  attribute.node("Concat", {"b", "c"}).set("axis", 1);
  EXPECT_EQ(attribute.nodes(), halves);
  Model input(kImage);
  input.ints("s", {1, 3});
  input.node("Split", {"x", "s"}, {"a", "b"}).set("axis", 1);
  input.node("Relu", {"a"}, {"c"});
  input.node("Concat", {"b", "c"}).set("axis", -3);
  EXPECT_EQ(input.nodes(), halves);
  Model equal(kImage);
  equal.node("Split", {"x"}, {"y", "b"}).set("axis", 3);
  EXPECT_EQ(equal.nodes(), "y_node: y = slice(x) axis 2 start 0 step 1 -> [4, 6, 4]\n");
  Model uneven({0, 5}, 18);
  uneven.node("Split", {"x"}, {"a", "y"}).set("axis", 1).set("num_outputs", 2);
  EXPECT_EQ(uneven.nodes(), "a_node#2: y = slice(x) axis 0 start 3 step 1 -> [2]\n");
  Model odd({0, 5});
  odd.node("Split", {"x"}, {"y", "b"}).set("axis", 1);
  expect_error(ErrorCode::kBadInput, {"5 elements do not split into 2 equal parts"}, [&] { odd.import(); });
  Model short_sizes({0, 5});
  short_sizes.ints("s", {2, 2});
  short_sizes.node("Split", {"x", "s"}, {"y", "b"}).set("axis", 1);
  expect_error(ErrorCode::kBadInput, {"sizes [2, 2] of 5 elements"}, [&] { short_sizes.import(); });
}

TEST(ImportShape, Concat) {
  Model m({0, 2, 3});
  m.ramp("c", {1, 1, 3});
  m.node("Concat", {"c", "x"}).set("axis", 1);
  EXPECT_EQ(m.nodes(), "y_node: y = concat(constant[1, 3], x) axis 0 -> [3, 3]\n");
  Model rank({0, 2, 3});
  rank.ramp("c", {1, 3});
  rank.node("Concat", {"c", "x"}).set("axis", 1);
  expect_error(ErrorCode::kUnsupported, {"constant input 0 of dims [1, 3]"}, [&] { rank.import(); });
  Model batch({0, 2, 3});
  batch.node("Concat", {"x", "x"}).set("axis", 0);
  expect_error(ErrorCode::kUnsupported, {"along the batch"}, [&] { batch.import(); });
}

TEST(ImportShape, Gather) {
  Model several(kImage);
  several.ints("i", {3, -4, 0});
  several.node("Gather", {"x", "i"}).set("axis", 1);
  EXPECT_EQ(several.nodes(), "y_node: y = gather(x) axis 0 indices 3,0,0 -> [3, 6, 8]\n");
  Model one(kImage);
  one.node("Constant", {}, {"i"}).tensor_ints("value", {2});
  one.ints("s", {});
  one.node("Reshape", {"i", "s"}, {"scalar"});
  one.node("Gather", {"x", "scalar"}).set("axis", 1);
  EXPECT_EQ(one.nodes(),
            "y_node: y_node = slice(x) axis 0 start 2 step 1 -> [1, 6, 8]\n"
            "y_node#2: y = reshape(y_node) -> [6, 8]\n");
  Model outside(kImage);
  outside.ints("i", {4});
  outside.node("Gather", {"x", "i"}).set("axis", 1);
  expect_error(ErrorCode::kBadInput, {"index 4 outside the axis of 4 elements"}, [&] { outside.import(); });
}

TEST(ImportShape, Pad) {
  Model attribute(kImage, 10);
  attribute.node("Pad", {"x"}).set("pads", {0, 1, 0, 2, 0, 3, 4, 0}).set("value", 1.5f);
  EXPECT_EQ(attribute.nodes(), "y_node: y = pad(x) 1,0,2 3,4,0 value 1.5 -> [8, 10, 10]\n");
  Model axes(kImage, 18);
  axes.ints("p", {1, 2}).floats("v", {0.5f}, {}).ints("a", {-1});
  axes.node("Pad", {"x", "p", "v", "a"}).set("mode", "constant");
  EXPECT_EQ(axes.nodes(), "y_node: y = pad(x) 0,0,1 0,0,2 value 0.5 -> [4, 6, 11]\n");
  const auto refused = [](const std::vector<int64_t>& pads, const char* mode) {
    Model m(kImage);
    m.ints("p", pads);
    m.node("Pad", {"x", "p"}).set("mode", mode);
    m.import();
  };
  expect_error(ErrorCode::kUnsupported, {"mode 'reflect', supported is 'constant'"}, [&] {
    refused({0, 0, 1, 1, 0, 0, 1, 1}, "reflect");
  });
  expect_error(ErrorCode::kUnsupported, {"pads the batch"}, [&] {
    refused({1, 0, 0, 0, 0, 0, 0, 0}, "constant");
  });
  expect_error(ErrorCode::kUnsupported, {"crop"}, [&] { refused({0, 0, -1, 0, 0, 0, 0, 0}, "constant"); });
  expect_error(ErrorCode::kBadInput, {"2 pads for 4 dims, expected 8"}, [&] { refused({1, 1}, "constant"); });
}

TEST(ImportShape, ReduceMean) {
  Model attribute(kImage);
  attribute.node("ReduceMean", {"x"}).set("axes", {-1, 2});
  EXPECT_EQ(attribute.nodes(), "y_node: y = reduce-mean(x) axes 1,2 keep -> [4, 1, 1]\n");
  Model input(kImage, 18);
  input.ints("a", {2});
  input.node("ReduceMean", {"x", "a"}).set("keepdims", 0);
  EXPECT_EQ(input.nodes(), "y_node: y = reduce-mean(x) axes 1 -> [4, 8]\n");
  Model all(kImage);
  all.node("ReduceMean", {"x"});
  expect_error(ErrorCode::kUnsupported, {"over all axes would mix the batch"}, [&] { all.import(); });
  Model nothing({0, 4});
  nothing.node("ReduceMean", {"x"}).set("axes", std::vector<int64_t>{1}).set("keepdims", 0);
  expect_error(ErrorCode::kUnsupported, {"leaves no dim behind the batch"}, [&] { nothing.import(); });
}

TEST(ImportShape, DepthToSpaceAndBack) {
  Model dcr({0, 8, 2, 3});
  dcr.node("DepthToSpace", {"x"}).set("blocksize", 2);
  EXPECT_EQ(dcr.nodes(),
            "y_node: y_node = reshape(x) -> [2, 2, 2, 2, 3]\n"
            "y_node#2: y_node#2 = transpose(y_node) perm 2,3,0,4,1 -> [2, 2, 2, 3, 2]\n"
            "y_node#3: y = reshape(y_node#2) -> [2, 4, 6]\n");
  Model std({0, 2, 4, 6});
  std.node("SpaceToDepth", {"x"}).set("blocksize", 2);
  EXPECT_EQ(std.nodes(),
            "y_node: y_node = reshape(x) -> [2, 2, 2, 3, 2]\n"
            "y_node#2: y_node#2 = transpose(y_node) perm 2,4,0,1,3 -> [2, 2, 2, 2, 3]\n"
            "y_node#3: y = reshape(y_node#2) -> [8, 2, 3]\n");
  Model odd({0, 6, 2, 3});
  odd.node("DepthToSpace", {"x"}).set("blocksize", 2);
  expect_error(ErrorCode::kBadInput, {"6 channels in blocks of 2"}, [&] { odd.import(); });
}

TEST(ImportShape, ExpandToTheSameDims) {
  Model m({0, 4});
  m.ints("s", {1, 4});
  m.node("Expand", {"x", "s"}, {"e"});
  m.node("Relu", {"e"});
  EXPECT_EQ(m.nodes(), "y_node: y = relu(x) 0 inf -> [4]\n");
  Model grows({0, 1});
  grows.ints("s", {1, 4});
  grows.node("Expand", {"x", "s"});
  expect_error(ErrorCode::kUnsupported, {"[1, 1] to [1, 4]"}, [&] { grows.import(); });
}

}  // namespace
}  // namespace bitstrata::onnx::testing
