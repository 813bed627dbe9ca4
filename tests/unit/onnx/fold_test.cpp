#include <gtest/gtest.h>

#include "model.h"

namespace bitstrata::onnx::testing {
namespace {

/// Evaluates the constant `name` of a model by adding it to x: its values arrive in an Affine or as a constant
/// operand.
std::vector<float> value_of(Model& m, const std::string& name) {
  m.node("Add", {"x", name});
  const graph::Graph graph = m.import();
  if (const auto* affine = std::get_if<graph::Affine>(&graph.nodes.at(0).kind)) return affine->add;
  for (const graph::Value& v : graph.values) {
    if (v.is_constant()) return v.data;
  }
  return {};
}

std::vector<float> int_value_of(Model& m, const std::string& name) {
  m.node("Cast", {name}, {"as_float"}).set("to", 1);
  return value_of(m, "as_float");
}

using V = std::vector<float>;
const std::vector<int64_t> kRow = {0, 1, 1};

/// The value of one operator on named constants; `op` may add attributes.
V ints(const char* op, const std::vector<std::vector<int64_t>>& inputs,
       const std::function<void(NodeMaker&)>& attributes = {}, int opset = 13) {
  Model m(kRow, opset);
  std::vector<std::string> names;
  for (const auto& values : inputs) m.ints(names.emplace_back(fmt::format("c{}", names.size())), values);
  NodeMaker node = m.node(op, names, {"r"});
  if (attributes) attributes(node);
  return int_value_of(m, "r");
}

V floats(const char* op, const std::vector<V>& inputs) {
  Model m(kRow);
  std::vector<std::string> names;
  for (const auto& values : inputs) {
    m.floats(names.emplace_back(fmt::format("c{}", names.size())), values,
             {static_cast<int64_t>(values.size())});
  }
  m.node(op, names, {"r"});
  return value_of(m, "r");
}

TEST(Fold, IntegerArithmetic) {
  EXPECT_EQ(ints("Add", {{1, 2}, {10}}), (V{11, 12}));
  EXPECT_EQ(ints("Sub", {{1, 2}, {10, 20}}), (V{-9, -18}));
  EXPECT_EQ(ints("Mul", {{3}, {4, 5}}), (V{12, 15}));
  EXPECT_EQ(ints("Div", {{-7, 7}, {2}}), (V{-3, 3}));
  EXPECT_EQ(ints("Mod", {{-7, 7}, {3}}), (V{2, 1}));
  EXPECT_EQ(ints("Mod", {{-7, 7}, {3}}, [](NodeMaker& n) { n.set("fmod", 1); }), (V{-1, 1}));
  EXPECT_EQ(ints("Min", {{1, 5}, {3}, {4}}), (V{1, 3}));
  EXPECT_EQ(ints("Max", {{1, 5}, {3}}), (V{3, 5}));
  EXPECT_EQ(ints("Neg", {{4, -2}}), (V{-4, 2}));
  EXPECT_EQ(ints("Equal", {{1, 2}, {1, 3}}), (V{1, 0}));
  EXPECT_EQ(ints("ReduceProd", {{2, 3, 4}}), (V{24}));
  EXPECT_EQ(ints("Where", {{1, 0}, {5, 6}, {7, 8}}), (V{5, 8}));
}

TEST(Fold, FloatArithmetic) {
  EXPECT_EQ(floats("Add", {{1, 2}, {0.5f}}), (V{1.5f, 2.5f}));
  EXPECT_EQ(floats("Div", {{1, 2}, {4}}), (V{0.25f, 0.5f}));
  EXPECT_EQ(floats("Floor", {{-1.5f, 1.5f}}), (V{-2, 1}));
  EXPECT_EQ(floats("Sqrt", {{4, 9}}), (V{2, 3}));
  EXPECT_EQ(floats("Pow", {{2, 3}, {2}}), (V{4, 9}));
}

TEST(Fold, Movement) {
  EXPECT_EQ(ints("Concat", {{1, 2}, {3}}, [](NodeMaker& n) { n.set("axis", 0); }), (V{1, 2, 3}));
  EXPECT_EQ(ints("Gather", {{5, 6, 7}, {-1, 0}}), (V{7, 5}));
  EXPECT_EQ(ints("Slice", {{1, 2, 3, 4, 5}, {-1}, {-100}, {0}, {-2}}), (V{5, 3, 1}));
  EXPECT_EQ(ints(
                "Slice", {{1, 2, 3, 4}},
                [](NodeMaker& n) {
                  n.set("starts", std::vector<int64_t>{1}).set("ends", std::vector<int64_t>{-1});
                },
                9),
            (V{2, 3}));
  EXPECT_EQ(ints("Expand", {{7}, {1, 3}}), (V{7, 7, 7}));
  EXPECT_EQ(ints("Unsqueeze", {{1, 2}, {0}}), (V{1, 2}));
  EXPECT_EQ(ints("ConstantOfShape", {{4}}, [](NodeMaker& n) { n.tensor_ints("value", {3}); }),
            (V{3, 3, 3, 3}));
}

TEST(Fold, RangeTransposeReshape) {
  Model m(kRow);
  m.ints("zero", {0}).ints("six", {6}).ints("one", {1}).ints("shape", {2, 3}).ints("flat", {-1});
  m.node("Range", {"zero", "six", "one"}, {"range"});
  m.node("Reshape", {"range", "shape"}, {"matrix"});
  m.node("Transpose", {"matrix"}, {"transposed"});
  m.node("Reshape", {"transposed", "flat"}, {"row"});
  EXPECT_EQ(int_value_of(m, "row"), (V{0, 3, 1, 4, 2, 5}));
}

TEST(Fold, ShapeChainsOfAnActivationEvaluate) {
  Model m({0, 4, 6});
  m.ints("zero", {0}).ints("minus", {-1});
  m.node("Shape", {"x"}, {"shape"});
  m.node("Gather", {"shape", "zero"}, {"batch"});
  m.node("Concat", {"batch", "minus"}, {"target"}).set("axis", 0);
  m.node("Reshape", {"x", "target"});
  EXPECT_EQ(m.nodes(), "y_node: y = reshape(x) -> [24]\n");

  Model end({0, 4, 2}, 15);
  end.node("Shape", {"x"}, {"shape"}).set("start", 1);
  EXPECT_EQ(int_value_of(end, "shape"), (V{4, 2}));
}

TEST(Fold, ErrorsNameTheNode) {
  expect_error(ErrorCode::kBadInput, {"r_node", "Div", "integer division 1 / 0"}, [] {
    ints("Div", {{1}, {0}});
  });
  expect_error(ErrorCode::kBadInput, {"[2] and [3] do not broadcast"}, [] {
    ints("Add", {{1, 2}, {1, 2, 3}});
  });
  expect_error(ErrorCode::kBadInput, {"index 3 outside the axis of 3"}, [] {
    ints("Gather", {{5, 6, 7}, {3}});
  });
  expect_error(ErrorCode::kBadInput, {"from 0 to 5 by 0"}, [] { ints("Range", {{0}, {5}, {0}}); });
  expect_error(ErrorCode::kUnsupported, {"ConstantOfShape", "are left"}, [] {
    ints("ConstantOfShape", {{1 << 15, 1 << 15}});
  });
  expect_error(ErrorCode::kCorruptFile, {"expected a product of 0 to"}, [] {
    ints("ConstantOfShape", {{1 << 30, 1 << 30}});
  });
  expect_error(ErrorCode::kCorruptFile, {"dims [-1]"}, [] { ints("ConstantOfShape", {{-1}}); });
}

TEST(Fold, RepeatedDoublingRunsOutOfBudget) {
  Model m(kRow);
  m.ramp("d0", {1024});
  for (int i = 0; i < 40; ++i) {
    m.node("Concat", {fmt::format("d{}", i), fmt::format("d{}", i)}, {fmt::format("d{}", i + 1)})
        .set("axis", 0);
  }
  m.node("Add", {"x", "d40"});
  expect_error(ErrorCode::kUnsupported, {"Concat", "far more memory than its size"}, [&] { m.import(); });
}

TEST(Fold, ConstantForms) {
  Model number(kRow);
  number.node("Constant", {}, {"c"}).set("value_float", 2.5f);
  EXPECT_EQ(value_of(number, "c"), V{2.5f});
  Model list(kRow);
  list.node("Constant", {}, {"c"}).set("value_ints", {3, 4});
  EXPECT_EQ(int_value_of(list, "c"), (V{3, 4}));
  Model none(kRow);
  none.node("Constant", {}, {"c"}).set("value_string", "a");
  expect_error(ErrorCode::kUnsupported, {"Constant", "none of the attributes"}, [&] { value_of(none, "c"); });
}

TEST(Fold, ElementTypesWiden) {
  const auto typed = [](int type, const std::string& raw) {
    Model m(kRow);
    auto& tensor = *m.proto.mutable_graph()->add_initializer();
    tensor.set_name("c");
    tensor.set_data_type(type);
    tensor.add_dims(2);
    tensor.set_raw_data(raw);
    m.node("Cast", {"c"}, {"f"}).set("to", 1);
    return value_of(m, "f");
  };
  using namespace std::string_literals;
  EXPECT_EQ(typed(10, "\x00\x3e\x01\x80"s), (V{1.5f, -0x1p-24f}));  // float16, the second subnormal
  EXPECT_EQ(typed(16, "\xc0\x3f\x00\xc0"s), (V{1.5f, -2}));         // bfloat16
  EXPECT_EQ(typed(11, "\0\0\0\0\0\0\xf8\x3f\0\0\0\0\0\0\0\xc0"s), (V{1.5f, -2}));  // double
  EXPECT_EQ(typed(6, "\xff\xff\xff\xff\x02\0\0\0"s), (V{-1, 2}));                  // int32
  EXPECT_EQ(typed(3, "\xff\x02"s), (V{-1, 2}));                                    // int8
  EXPECT_EQ(typed(2, "\xff\x02"s), (V{255, 2}));                                   // uint8
  EXPECT_EQ(typed(9, "\x01\x00"s), (V{1, 0}));                                     // bool
  expect_error(ErrorCode::kUnsupported, {"tensor 'c'", "STRING"}, [&] { typed(8, "ab"); });
  expect_error(ErrorCode::kCorruptFile, {"tensor 'c'", "3 bytes of data, expected 2"},
               [&] { typed(3, "abc"); });
}

}  // namespace
}  // namespace bitstrata::onnx::testing
