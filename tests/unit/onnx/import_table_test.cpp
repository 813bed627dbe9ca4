#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "compile/lower.h"
#include "model.h"
#include "program/reference.h"

/// Import of the tables that `bitstrata export` writes for functions of codes.
namespace bitstrata::onnx::testing {
namespace {

const Options kQuantized{{}, true};

/// y = table[rint(x / scale) - lowest] of x, first of codes -2 to 1 times 0.5.
Model table_model(bool is_quantized = true, float lowest = -2,
                  const std::vector<float>& table = {7, 5, 3, 2}) {
  Model m({0, 4});
  m.floats("s", {0.5f}, {}).floats("low", {-1.0f}, {}).floats("high", {0.5f}, {});
  m.integers("z", kInt8, {0}, {});
  m.floats("lowest", {lowest}, {}).floats("table", table, {static_cast<int64_t>(table.size())});
  m.node("Clip", {"x", "low", "high"}, {"c"});
  m.node("QuantizeLinear", {"c", "s", "z"}, {"q"});
  m.node("DequantizeLinear", {"q", "s", "z"}, {"d"});
  m.node("Div", {is_quantized ? "d" : "x", "s"}, {"steps"});
  m.node("Round", {"steps"}, {"rounded"});
  m.node("Sub", {"rounded", "lowest"}, {"code"});
  m.node("Cast", {"code"}, {"index"}).set("to", 7);
  m.node("Gather", {"table", "index"});
  return m;
}

std::vector<float> run(const Model& m, const std::vector<float>& x) {
  const program::Program program = compile::lower_quantized(m.import(kQuantized)).program;
  return program::run_reference(program, x).floats[static_cast<size_t>(program.outputs[0])];
}

void expect_refused(const Model& m, ErrorCode code, const std::vector<std::string>& parts) {
  expect_error(code, parts, [&] { m.import(kQuantized); });
}

TEST(ImportTable, BecomesALookupOfCodes) {
  EXPECT_NE(table_model().nodes(kQuantized).find("y_node: y = lookup(d) table 4 -> [4]"), std::string::npos)
      << table_model().nodes(kQuantized);
  EXPECT_EQ(run(table_model(), {-9, -0.6f, 0, 9}), (std::vector<float>{7, 5, 3, 2}));
}

TEST(ImportTable, TakesThePartThatTheCodesNeed) {
  EXPECT_EQ(run(table_model(true, -4, {9, 8, 7, 5, 3, 2, 1, 0}), {-9, -0.6f, 0, 9}),
            (std::vector<float>{7, 5, 3, 2}));
}

TEST(ImportTable, MayHoldAnything) {
  const float infinity = std::numeric_limits<float>::infinity();
  const auto found = run(table_model(true, -2, {infinity, std::nanf(""), -infinity, 2}), {-9, -0.6f, 0, 9});
  EXPECT_EQ(found[0], infinity);
  EXPECT_TRUE(std::isnan(found[1]));
  EXPECT_EQ(found[2], -infinity);
}

TEST(ImportTable, RefusesWhatDoesNotFitItsInput) {
  expect_refused(table_model(false), ErrorCode::kUnsupported,
                 {"'y_node' (TableLookup)", "'x'", "values of a quantizer"});
  for (float lowest : {-1.0f, 3.0f, -6.0f, std::nanf("")})
    expect_refused(table_model(true, lowest), ErrorCode::kBadInput,
                   {"'y_node' (TableLookup): table of 4 entries"});
  expect_refused(table_model(true, -2, {}), ErrorCode::kBadInput, {"table of 0 entries"});
  Model m = table_model();
  m.floats("t", {0.25f}, {}).proto.mutable_graph()->mutable_node(3)->set_input(1, "t");
  expect_refused(m, ErrorCode::kUnsupported, {"scale 0.25, supported is that of its input, 0.5"});
}

TEST(ImportTable, OtherGathersOfActivationsAreRefused) {
  Model m = table_model();
  m.proto.mutable_graph()->mutable_node(6)->mutable_attribute(0)->set_i(6);  // to int32
  expect_refused(m, ErrorCode::kUnsupported, {"(Round)"});
}

}  // namespace
}  // namespace bitstrata::onnx::testing
