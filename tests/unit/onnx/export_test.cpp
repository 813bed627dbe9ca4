#include "onnx/export.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>

#include "core/file.h"
#include "model.h"

namespace bitstrata::onnx::testing {
namespace {

namespace fs = std::filesystem;

class Export : public ::testing::Test {
 protected:
  Export() : path_(fs::path(::testing::TempDir()) / fmt::format("bitstrata_export_{}.onnx", ::getpid())) {}
  ~Export() override { fs::remove(path_); }

  graph::Graph round_trip(const graph::Graph& graph) const {
    export_float(graph, path_);
    return import_file(path_);
  }

  fs::path path_;
};

/// Nodes of every kind in one network; the input already has the exported name.
Model network() {
  Model m({0, 2, 9, 9}, 20);
  m.proto.mutable_graph()->mutable_input(0)->set_name("input");
  m.ramp("w", {4, 1, 3, 3})
      .ramp("b", {4})
      .ramp("g", {4})
      .ramp("slopes", {4, 1, 1})
      .ramp("row", {5})
      .ramp("fc", {3, 4})
      .ramp("proj", {5, 5});
  m.floats("two", {2}, {})
      .floats("six", {6}, {})
      .floats("low", {-1}, {})
      .ramp("channel", {4, 1, 1})
      .floats("third", {3}, {});
  m.node("Conv", {"input", "w", "b"}, {"conv"})
      .set("group", 2)
      .set("strides", {2, 2})
      .set("pads", {1, 1, 1, 1})
      .set("dilations", {1, 1});
  m.node("BatchNormalization", {"conv", "g", "b", "g", "g"}, {"bn"}).set("epsilon", 0.5f);
  std::string x = "bn";
  const auto chain = [&](const char* op, std::vector<std::string> more = {}) -> NodeMaker {
    std::vector<std::string> inputs = {x};
    inputs.insert(inputs.end(), more.begin(), more.end());
    x = fmt::format("v{}", m.proto.graph().node_size());
    return m.node(op, inputs, {x});
  };
  for (const char* op : {"Relu", "Sigmoid", "Tanh", "Exp", "Sqrt", "Log", "Erf", "Softplus", "Abs", "Neg",
                         "Reciprocal", "HardSwish"})
    chain(op);
  chain("Clip", {"low", "six"});
  chain("LeakyRelu").set("alpha", 0.25f);
  chain("PRelu", {"slopes"});
  chain("HardSigmoid").set("alpha", 0.25f);
  chain("Elu").set("alpha", 0.5f);
  chain("Pow", {"third"});
  chain("Mul", {"channel"});
  chain("Add", {"two"});
  chain("Add", {"row"});
  chain("Sub", {"bn"});
  chain("Mul", {"bn"});
  chain("Div", {"bn"});
  chain("MaxPool").set("kernel_shape", {2, 2}).set("pads", {0, 1, 1, 0});
  chain("AveragePool").set("kernel_shape", {2, 2}).set("pads", {0, 1, 1, 0}).set("count_include_pad", 1);
  m.ints("starts", {3, 1}).ints("ends", {-100, 4}).ints("axes", {1, 2}).ints("steps", {-2, 2});
  chain("Slice", {"starts", "ends", "axes", "steps"});
  m.ints("pads", {0, 1, 0, 0, 0, 1, 2, 0});
  chain("Pad", {"pads", "six"});
  m.ints("picked", {2, 0, 1, 3});
  chain("Gather", {"picked"}).set("axis", 1);
  chain("Transpose").set("perm", {0, 2, 1, 3});
  chain("MatMul", {"proj"});
  chain("Softmax").set("axis", 2);
  const std::string left = x;
  chain("Transpose").set("perm", {0, 1, 3, 2});
  const std::string right = x;
  m.node("MatMul", {left, right}, {"mm"});
  m.node("Concat", {"mm", "mm"}, {"cat"}).set("axis", 1);
  m.node("ReduceMean", {"cat"}, {"mean"}).set("keepdims", 0);
  m.proto.mutable_graph()->mutable_node(m.proto.graph().node_size() - 1)->add_input("mean_axes");
  m.ints("mean_axes", {1, 2}).ints("shape", {0, -1});
  m.node("Reshape", {"mean", "shape"}, {"flat"});
  m.node("Gemm", {"flat", "fc"}).set("transB", 1);
  return m;
}

TEST_F(Export, RoundTripKeepsEveryNode) {
  graph::Graph before = network().import();
  before.mean = {0.5f, 0.1f};
  before.std = {0.25f, 0.3f};
  before.class_names = {"a", "\"b\"", "c"};
  before.metadata["note"] = "kept";
  const graph::Graph after = round_trip(before);
  EXPECT_EQ(graph::describe(after), graph::describe(before));
  EXPECT_EQ(after.mean, before.mean);
  EXPECT_EQ(after.std, before.std);
  EXPECT_EQ(after.class_names, before.class_names);
  EXPECT_EQ(after.metadata, before.metadata);
  EXPECT_EQ(after.name, before.name);
}

TEST_F(Export, RoundTripKeepsEveryParameter) {
  const graph::Graph before = network().import(), after = round_trip(before);
  ASSERT_EQ(after.nodes.size(), before.nodes.size());
  for (size_t i = 0; i < before.nodes.size(); ++i) {
    const graph::Kind &a = before.nodes[i].kind, &b = after.nodes[i].kind;
    ASSERT_EQ(a.index(), b.index());
    if (const auto* k = std::get_if<graph::Conv>(&a)) {
      EXPECT_EQ(k->weights, std::get<graph::Conv>(b).weights);
      EXPECT_EQ(k->bias, std::get<graph::Conv>(b).bias);
    } else if (const auto* l = std::get_if<graph::Linear>(&a)) {
      EXPECT_EQ(l->weights, std::get<graph::Linear>(b).weights);
    } else if (const auto* n = std::get_if<graph::BatchNorm>(&a)) {
      const auto& m = std::get<graph::BatchNorm>(b);
      EXPECT_EQ(n->gamma, m.gamma);
      EXPECT_EQ(n->beta, m.beta);
      EXPECT_EQ(n->mean, m.mean);
      EXPECT_EQ(n->variance, m.variance);
      EXPECT_EQ(n->epsilon, m.epsilon);
    } else if (const auto* f = std::get_if<graph::Affine>(&a)) {
      EXPECT_EQ(f->mul, std::get<graph::Affine>(b).mul);
      EXPECT_EQ(f->add, std::get<graph::Affine>(b).add);
    } else if (const auto* s = std::get_if<graph::Activation>(&a)) {
      const auto& t = std::get<graph::Activation>(b).step;
      EXPECT_EQ(s->step.a, t.a);
      EXPECT_EQ(s->step.b, t.b);
      EXPECT_EQ(s->step.mul, t.mul);
    }
  }
}

TEST_F(Export, OpsWithoutAnOnnxFormAreSpelledOut) {
  graph::Graph graph;
  graph.values = {{"input", {2, 3}, {}},
                  {"silu", {2, 3}, {}},
                  {"gelu", {2, 3}, {}},
                  {"affine", {2, 3}, {}},
                  {"y", {2, 2}, {}}};
  graph.input = 0;
  graph.outputs = {4};
  program::Step silu, gelu;
  silu.kind = gelu.kind = program::StepKind::kFunction;
  silu.function = program::Function::kSilu;
  gelu.function = program::Function::kGelu;
  graph.nodes.push_back({"s", graph::Activation{silu}, {0}, 1});
  graph.nodes.push_back({"g", graph::Activation{gelu}, {1}, 2});
  graph.nodes.push_back({"a", graph::Affine{{2, 3}, {4, 5}}, {2}, 3});
  graph.nodes.push_back({"l", graph::Linear{2, {1, 2, 3, 4, 5, 6}, {7, 8}}, {3}, 4});
  const std::string after = graph::describe(round_trip(graph));
  EXPECT_EQ(after,
            "input input [2, 3]\n"
            "s.sigmoid: silu.sigmoid = sigmoid(input) -> [2, 3]\n"
            "s: silu = multiply(input, silu.sigmoid) -> [2, 3]\n"
            "g.scaled: gelu.scaled = affine(silu) mul 1 add 1 -> [2, 3]\n"
            "g.erf: gelu.erf = erf(gelu.scaled) -> [2, 3]\n"
            "g.gate: gelu.gate = affine(gelu.erf) mul 1 add 1 -> [2, 3]\n"
            "g.half: gelu.half = affine(silu) mul 1 add 1 -> [2, 3]\n"
            "g: gelu = multiply(gelu.half, gelu.gate) -> [2, 3]\n"
            "a: affine.product = affine(gelu) mul 2 add 1 -> [2, 3]\n"
            "a.add: affine = affine(affine.product) mul 1 add 2 -> [2, 3]\n"
            "l: y.product = linear(affine) out 2 -> [2, 2]\n"
            "l.add: y = add(y.product, constant[1, 2]) -> [2, 2]\n"
            "output y\n");
}

TEST_F(Export, RefusesWhatOpset17CannotSay) {
  graph::Graph graph;
  graph.values = {{"input", {1, 5, 5}, {}}, {"y", {1, 3, 3}, {}}};
  graph.input = 0;
  graph.outputs = {1};
  program::Window window;
  window.kernel_h = window.kernel_w = 2;
  window.dilation_h = window.dilation_w = 2;
  graph.nodes.push_back({"pool", program::AveragePool{window, false}, {0}, 1});
  expect_error(ErrorCode::kUnsupported, {"node 'pool' (average-pool)", "opset 17"},
               [&] { export_float(graph, path_); });
  EXPECT_FALSE(fs::exists(path_));
}

TEST_F(Export, InvalidGraphsAndFoldersAreErrors) {
  graph::Graph graph = network().import();
  expect_error(ErrorCode::kIo, {"no_such_folder"},
               [&] { export_float(graph, fs::path("no_such_folder") / "m.onnx"); });
  graph.outputs.clear();
  expect_error(ErrorCode::kBadInput, {"no outputs"}, [&] { export_float(graph, path_); });
}

}  // namespace
}  // namespace bitstrata::onnx::testing
