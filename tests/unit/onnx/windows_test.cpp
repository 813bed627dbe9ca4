#include <gtest/gtest.h>

#include "model.h"

namespace bitstrata::onnx::testing {
namespace {

TEST(ImportPool, MaxPoolFloorAndCeil) {
  Model floor({0, 2, 6, 7});
  floor.node("MaxPool", {"x"}).set("kernel_shape", {3, 3}).set("strides", {2, 2}).set("pads", {1, 0, 1, 0});
  EXPECT_EQ(floor.nodes(), "y_node: y = max-pool(x) 3x3 stride 2x2 pad 1,0,1,0 -> [2, 3, 3]\n");

  Model ceil({0, 2, 6, 8});
  ceil.node("MaxPool", {"x"}).set("kernel_shape", {3, 3}).set("strides", {2, 2}).set("ceil_mode", 1);
  EXPECT_EQ(ceil.nodes(), "y_node: y = max-pool(x) 3x3 stride 2x2 pad 0,0,1,1 -> [2, 3, 4]\n");
}

TEST(ImportPool, CeilDropsWindowsThatStartBehindTheImage) {
  // Rounded up there would be 3 windows over 4 + 1 + 1 elements, at 0, 3 and 6; the last one starts beyond
  // the image.
  Model m({0, 1, 4, 4});
  m.node("MaxPool", {"x"})
      .set("kernel_shape", {2, 2})
      .set("strides", {3, 3})
      .set("pads", {1, 1, 1, 1})
      .set("ceil_mode", 1);
  EXPECT_EQ(m.nodes(), "y_node: y = max-pool(x) 2x2 stride 3x3 pad 1,1,1,1 -> [1, 2, 2]\n");
}

TEST(ImportPool, MaxPoolDilationsAndAutoPad) {
  Model m({0, 1, 8, 8});
  m.node("MaxPool", {"x"}).set("kernel_shape", {2, 2}).set("dilations", {3, 1}).set("auto_pad", "SAME_UPPER");
  EXPECT_EQ(m.nodes(), "y_node: y = max-pool(x) 2x2 dilation 3x1 pad 1,0,2,1 -> [1, 8, 8]\n");
}

TEST(ImportPool, AveragePoolCountsPaddingWhenAsked) {
  Model m({0, 1, 4, 4});
  m.node("AveragePool", {"x"})
      .set("kernel_shape", {2, 2})
      .set("pads", {0, 1, 1, 0})
      .set("count_include_pad", 1);
  EXPECT_EQ(m.nodes(), "y_node: y = average-pool(x) 2x2 pad 0,1,1,0 count-pad -> [1, 4, 4]\n");
  Model excluded({0, 1, 4, 4});
  excluded.node("AveragePool", {"x"}).set("kernel_shape", {2, 2}).set("pads", {0, 1, 1, 0});
  EXPECT_EQ(excluded.nodes(), "y_node: y = average-pool(x) 2x2 pad 0,1,1,0 -> [1, 4, 4]\n");
}

TEST(ImportPool, CeilPaddingNeverCounts) {
  Model m({0, 1, 6, 6});
  m.node("AveragePool", {"x"})
      .set("kernel_shape", {3, 3})
      .set("strides", {2, 2})
      .set("pads", {1, 1, 1, 1})
      .set("count_include_pad", 1)
      .set("ceil_mode", 1);
  EXPECT_EQ(m.nodes(),
            "y_node: y_node = pad(x) 0,1,1 0,1,1 value 0 -> [1, 8, 8]\n"
            "y_node#2: y = average-pool(y_node) 3x3 stride 2x2 pad 0,0,1,1 -> [1, 4, 4]\n");
}

TEST(ImportPool, GlobalPools) {
  Model average({0, 3, 4, 5});
  average.node("GlobalAveragePool", {"x"});
  EXPECT_EQ(average.nodes(), "y_node: y = reduce-mean(x) axes 1,2 keep -> [3, 1, 1]\n");
  Model max({0, 3, 4, 5});
  max.node("GlobalMaxPool", {"x"});
  EXPECT_EQ(max.nodes(), "y_node: y = max-pool(x) 4x5 -> [3, 1, 1]\n");
}

TEST(ImportPool, RefusesWhatItCannotDo) {
  Model indices({0, 1, 4, 4});
  indices.node("MaxPool", {"x"}, {"y", "i"}).set("kernel_shape", {2, 2});
  expect_error(ErrorCode::kUnsupported, {"second output (Indices)"}, [&] { indices.import(); });
  Model none({0, 1, 4, 4});
  none.node("MaxPool", {"x"});
  expect_error(ErrorCode::kBadInput, {"'kernel_shape' is missing"}, [&] { none.import(); });
  Model one_d({0, 1, 4});
  one_d.node("MaxPool", {"x"}).set("kernel_shape", std::vector<int64_t>{2});
  expect_error(ErrorCode::kUnsupported, {"'kernel_shape' has 1 entries, supported are 2"},
               [&] { one_d.import(); });
  Model pads({0, 1, 4, 4});
  pads.node("AveragePool", {"x"}).set("kernel_shape", {2, 2}).set("pads", {2, 0, 0, 0});
  expect_error(ErrorCode::kBadInput, {"pads 2 and 0 for a window of 2"}, [&] { pads.import(); });
  Model stride({0, 1, 4, 4});
  stride.node("MaxPool", {"x"}).set("kernel_shape", {2, 2}).set("strides", {0, 1});
  expect_error(ErrorCode::kBadInput, {"stride of 0, expected 1 to"}, [&] { stride.import(); });
  Model huge({0, 1, 4, 4});
  huge.node("MaxPool", {"x"}).set("kernel_shape", {int64_t{1} << 40, 1});
  expect_error(ErrorCode::kBadInput, {"kernel of 1099511627776"}, [&] { huge.import(); });
  Model vector({0, 4});
  vector.node("GlobalAveragePool", {"x"});
  expect_error(ErrorCode::kUnsupported, {"input of 2 dims with the batch, supported are 4"},
               [&] { vector.import(); });
}

}  // namespace
}  // namespace bitstrata::onnx::testing
