#include <gtest/gtest.h>

#include <functional>

#include "core/error.h"
#include "make_graph.h"

namespace bitstrata::graph::testing {
namespace {

/// Applies `damage` to a valid graph and expects a bad-input error that holds `part`.
void expect_rejected(const std::string& part, const std::function<void(Graph&)>& damage) {
  GraphMaker m({2, 4, 4});
  const ValueId c = m.add("conv", conv(3, 2, 3, true), {0});
  const ValueId r = m.add("relu", relu(), {c});
  m.add("add", Binary{}, {r, m.constant({1, 2}, {2})});
  ASSERT_NO_THROW(verify(m.graph));
  damage(m.graph);
  try {
    verify(m.graph);
    ADD_FAILURE() << "accepted, expected: " << part;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadInput);
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST(Verify, RejectsBrokenStructure) {
  expect_rejected("names must be unique", [](Graph& g) { g.nodes[1].name = "conv"; });
  expect_rejected("names must be unique", [](Graph& g) { g.nodes[1].name.clear(); });
  expect_rejected("value 99 does not exist", [](Graph& g) { g.nodes[1].inputs[0] = 99; });
  expect_rejected("value -1 does not exist", [](Graph& g) { g.nodes[1].output = -1; });
  expect_rejected("before any node wrote it", [](Graph& g) { std::swap(g.nodes[0], g.nodes[1]); });
  expect_rejected("already written", [](Graph& g) { g.nodes[1].output = g.nodes[0].output; });
  expect_rejected("no outputs", [](Graph& g) { g.outputs.clear(); });
  expect_rejected("is not computed from the input", [](Graph& g) { g.outputs = {3}; });
  expect_rejected("graph input: value 7", [](Graph& g) { g.input = 7; });
  expect_rejected("1 inputs, expected 2", [](Graph& g) { g.nodes[2].inputs.pop_back(); });
  expect_rejected("input is a constant, expected an activation", [](Graph& g) { g.nodes[2].inputs[0] = 3; });
}

TEST(Verify, RejectsWrongDimsAndSizes) {
  expect_rejected("output dims [3, 2, 3], expected [3, 2, 2]", [](Graph& g) {
    g.values[1].dims = {3, 2, 3};
  });
  expect_rejected("dims per image, expected 1 to 5", [](Graph& g) { g.values[0].dims = {2, 1, 1, 1, 4, 4}; });
  expect_rejected("product of at most", [](Graph& g) { g.values[0].dims = {2, 1 << 20, 1 << 20}; });
  expect_rejected("54 weights, expected 18", [](Graph& g) {
    std::get<Conv>(g.nodes[0].kind).oc = 1;
    g.values[1].dims[0] = 1;
  });
  expect_rejected("2 bias, expected 3", [](Graph& g) { std::get<Conv>(g.nodes[0].kind).bias.pop_back(); });
  expect_rejected("2 values, expected 4", [](Graph& g) { g.values[3].dims = {4}; });
  expect_rejected("parameter 0 is nan", [](Graph& g) { std::get<Conv>(g.nodes[0].kind).weights[0] = NAN; });
  expect_rejected("kernel 0", [](Graph& g) { std::get<Conv>(g.nodes[0].kind).window.kernel_h = 0; });
}

TEST(InferDims, ChecksParametersOfEveryKind) {
  const auto rejected = [](const std::string& part, Kind kind, Dims stored = {}, size_t inputs = 1) {
    GraphMaker m({2, 4, 4});
    try {
      m.add("node", std::move(kind), std::vector<ValueId>(inputs, 0), std::move(stored));
      ADD_FAILURE() << "accepted, expected: " << part;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kBadInput);
      EXPECT_NE(std::string(error.what()).find("node 'node'"), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  };
  rejected("axis 3", program::Softmax{3});
  rejected("axis 3", program::Concat{3}, {}, 2);
  rejected("expected rising ones", program::ReduceMean{{1, 1}, true});
  rejected("dims vanish", program::ReduceMean{{0, 1, 2}, false});
  rejected("no permutation", program::Transpose{{0, 0, 1}});
  rejected("differ in elements", program::Reshape{}, {31});
  rejected("leave the axis of 4", program::Slice{1, 2, 1}, {2, 3, 4});
  rejected("leave the axis of 4", program::Slice{1, 1, -1}, {2, 3, 4});
  rejected("index 4 outside", program::Gather{1, {4}});
  rejected("pad of -1", program::Pad{{0, -1, 0}, {0, 0, 0}, 0});
  rejected("1 inputs, expected 2", program::MatMul{});
  rejected("3 mul, expected 2", Affine{{1, 2, 3}, {0}});
  rejected("1 statistics, expected 2", BatchNorm{{1}, {1}, {1}, {1}});
}

}  // namespace
}  // namespace bitstrata::graph::testing
