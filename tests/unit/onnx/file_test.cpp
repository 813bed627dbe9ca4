#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>

#include "core/file.h"
#include "model.h"

namespace bitstrata::onnx::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;

Model relu_model(std::vector<int64_t> dims, int opset = 13) {
  Model m(std::move(dims), opset);
  m.node("Relu", {"x"});
  return m;
}

TEST(ImportFile, Opsets) {
  for (int opset = 7; opset <= 25; ++opset) EXPECT_EQ(relu_model({0, 4}, opset).import().nodes.size(), 1u);
  expect_error(ErrorCode::kUnsupported, {"test.onnx: opset 6, supported are 7 to 25"}, [] {
    relu_model({0, 4}, 6).import();
  });
  expect_error(ErrorCode::kUnsupported, {"opset 26"}, [] { relu_model({0, 4}, 26).import(); });
}

TEST(ImportFile, InputDims) {
  EXPECT_EQ(relu_model({0, 3, 4, 5}).import().values[0].dims, (program::Dims{3, 4, 5}));
  EXPECT_EQ(relu_model({7, 3, 4, 5}).import().values[0].dims, (program::Dims{3, 4, 5}));
  Options options;
  options.input_dims = {3, 8, 9};
  EXPECT_EQ(relu_model({0, 3, 0, 0}).import(options).values[0].dims, (program::Dims{3, 8, 9}));
  expect_error(ErrorCode::kBadInput, {"input 'x' leaves dim 2 open"}, [] {
    relu_model({0, 3, 0, 0}).import();
  });
  expect_error(ErrorCode::kBadInput, {"1 dims behind the batch", "[3, 8, 9]"}, [&] {
    relu_model({0, 3}).import(options);
  });
  expect_error(ErrorCode::kUnsupported, {"input 'x' has 1 dims, supported are 2 to 6"},
               [] { relu_model({3}).import(); });
  expect_error(ErrorCode::kBadInput, {"product of at most"}, [] {
    relu_model({0, 1 << 20, 1 << 20}).import();
  });
}

TEST(ImportFile, InputsThatAreInitialisersAreConstants) {
  Model m({0, 2});
  m.ramp("w", {2, 2});
  auto& extra = *m.proto.mutable_graph()->add_input();
  extra.set_name("w");
  m.node("MatMul", {"x", "w"});
  EXPECT_EQ(m.nodes(), "y_node: y = linear(x) out 2 -> [2]\n");
  auto& second = *m.proto.mutable_graph()->add_input();
  second.set_name("z");
  expect_error(ErrorCode::kUnsupported, {"inputs 'x' and 'z', supported is one"}, [&] { m.import(); });
}

TEST(ImportFile, IntegerInputIsRefused) {
  Model m = relu_model({0, 4});
  m.proto.mutable_graph()->mutable_input(0)->mutable_type()->mutable_tensor_type()->set_elem_type(2);
  expect_error(ErrorCode::kUnsupported, {"input 'x' has element type UINT8"}, [&] { m.import(); });
}

TEST(ImportFile, UnknownOperatorsAreNamedWithWhatIsSupported) {
  Model m({0, 4});
  m.node("FancyOp", {"x"}).name("layer7");
  expect_error(ErrorCode::kUnsupported,
               {"test.onnx", "layer7", "FancyOp", "supported are: Abs, Add", "Unsqueeze"},
               [&] { m.import(); });
  m.proto.mutable_graph()->mutable_node(0)->set_op_type("Relu");
  m.proto.mutable_graph()->mutable_node(0)->set_domain("com.example");
  expect_error(ErrorCode::kUnsupported, {"of domain 'com.example'"}, [&] { m.import(); });
  Model constant_only({0, 4});
  constant_only.node("Where", {"x", "x", "x"});
  expect_error(ErrorCode::kUnsupported, {"Where", "supported is constants only"},
               [&] { constant_only.import(); });
}

TEST(ImportFile, NodesThatNobodyReadsMayBeAnything) {
  Model m = relu_model({0, 4});
  m.node("FancyOp", {"x"}, {"unused"});
  EXPECT_EQ(m.import().nodes.size(), 1u);
}

TEST(ImportFile, BrokenWiring) {
  Model undefined({0, 4});
  undefined.node("Relu", {"nowhere"});
  expect_error(ErrorCode::kBadInput, {"'nowhere', which nothing before it defines"},
               [&] { undefined.import(); });
  Model cycle({0, 4});
  cycle.node("Add", {"x", "b"}, {"a"});
  cycle.node("Relu", {"a"}, {"b"});
  cycle.node("Relu", {"b"});
  expect_error(ErrorCode::kBadInput, {"'b', which nothing before it defines"}, [&] { cycle.import(); });
  Model twice = relu_model({0, 4});
  twice.node("Tanh", {"x"});
  expect_error(ErrorCode::kBadInput, {"output 'y' is defined twice"}, [&] { twice.import(); });
  Model missing({0, 4});
  missing.node("Relu", {"x"}, {"z"});
  expect_error(ErrorCode::kBadInput, {"output 'y' is written by no node"}, [&] { missing.import(); });
  Model constant({0, 4});
  constant.node("Constant", {}).set("value_float", 1.0f);
  expect_error(ErrorCode::kUnsupported, {"output 'y' is a constant"}, [&] { constant.import(); });
}

TEST(ImportFile, EqualNodeNamesAreMadeUnique) {
  Model m({0, 4});
  m.node("Relu", {"x"}, {"a"}).name("same");
  m.node("Tanh", {"a"}).name("same");
  const graph::Graph graph = m.import();
  EXPECT_EQ(graph.nodes[0].name, "same");
  EXPECT_EQ(graph.nodes[1].name, "same#2");
}

TEST(ImportFile, Metadata) {
  Model m = relu_model({0, 3});
  const auto set = [&](const char* key, const char* value) {
    auto& entry = *m.proto.add_metadata_props();
    entry.set_key(key);
    entry.set_value(value);
  };
  set("bitstrata.mean", "[0.5, 0.25, 0.125]");
  set("bitstrata.std", "[1, 2, 3]");
  set("bitstrata.classes", R"(["cat", "dog"])");
  set("author", "me");
  const graph::Graph graph = m.import();
  EXPECT_THAT(graph.mean, ElementsAre(0.5f, 0.25f, 0.125f));
  EXPECT_THAT(graph.std, ElementsAre(1, 2, 3));
  EXPECT_THAT(graph.class_names, ElementsAre("cat", "dog"));
  EXPECT_EQ(graph.metadata.at("author"), "me");
  set("bitstrata.mean", "[0.5,");
  expect_error(ErrorCode::kBadInput, {"metadata 'bitstrata.mean'", "JSON array"}, [&] { m.import(); });
}

/// A model whose weights lie in a file beside it.
class ExternalData : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) / fmt::format("bitstrata_external_{}", ::getpid());
    fs::create_directories(folder_ / "sub");
    const std::vector<float> values = {9, 1, 2, 3, 4};
    write_file_atomically(folder_ / "w.bin",
                          std::string_view(reinterpret_cast<const char*>(values.data()), 20));
    fs::copy_file(folder_ / "w.bin", folder_ / "sub" / "w.bin", fs::copy_options::overwrite_existing);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::vector<float> weights(const std::string& location, const std::string& offset,
                             const std::string& length) {
    Model m({0, 2});
    auto& tensor = *m.proto.mutable_graph()->add_initializer();
    tensor.set_name("w");
    tensor.set_data_type(pb::TensorProto::FLOAT);
    tensor.add_dims(2);
    tensor.add_dims(2);
    tensor.set_data_location(pb::TensorProto::EXTERNAL);
    for (const auto& [key, value] :
         {std::pair{"location", location}, {"offset", offset}, {"length", length}}) {
      if (value.empty()) continue;
      auto& entry = *tensor.add_external_data();
      entry.set_key(key);
      entry.set_value(value);
    }
    m.node("Gemm", {"x", "w"}).set("transB", 1);
    write_file_atomically(folder_ / "model.onnx", m.bytes());
    last_ = m.bytes();
    return std::get<graph::Linear>(import_file(folder_ / "model.onnx").nodes.at(0).kind).weights;
  }

  fs::path folder_;
  std::string last_;
};

TEST_F(ExternalData, IsReadFromTheModelsFolder) {
  EXPECT_THAT(weights("w.bin", "4", "16"), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(weights("sub/w.bin", "4", ""), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(weights("w.bin", "", "16"), ElementsAre(9, 1, 2, 3));
}

TEST_F(ExternalData, OutsideTheFolderIsRefused) {
  for (const std::string location : {"/etc/hostname", "../w.bin", "sub/../../w.bin", ""}) {
    expect_error(ErrorCode::kUnsupported, {"tensor 'w'", "inside the model's folder"},
                 [&] { weights(location, "0", "16"); });
  }
}

TEST_F(ExternalData, RangesAreChecked) {
  expect_error(ErrorCode::kCorruptFile, {"at 8 of 16 bytes", "has 20 bytes"},
               [&] { weights("w.bin", "8", "16"); });
  expect_error(ErrorCode::kCorruptFile, {"at 100 of"}, [&] { weights("w.bin", "100", ""); });
  expect_error(ErrorCode::kCorruptFile, {"8 bytes of data, expected 16"},
               [&] { weights("w.bin", "4", "8"); });
  expect_error(ErrorCode::kCorruptFile, {"'-1', expected a number of bytes"},
               [&] { weights("w.bin", "-1", "16"); });
  expect_error(ErrorCode::kCorruptFile, {"'99999999999999999999'"},
               [&] { weights("w.bin", "0", "99999999999999999999"); });
  expect_error(ErrorCode::kIo, {"cannot read", "missing.bin"}, [&] { weights("missing.bin", "0", "16"); });
}

TEST_F(ExternalData, IsRefusedFromMemory) {
  weights("w.bin", "4", "16");
  expect_error(ErrorCode::kUnsupported, {"external data of a model in memory"}, [&] {
    import_bytes({reinterpret_cast<const uint8_t*>(last_.data()), last_.size()}, "memory");
  });
}

TEST(ImportFile, MissingFile) {
  expect_error(ErrorCode::kIo, {"no/such/model.onnx"}, [] { import_file("no/such/model.onnx"); });
}

TEST(ImportFile, GivenResNet20) {
  const fs::path path = fs::path(BITSTRATA_SOURCE_DIR) / "../shared/models/resnet20-cifar10.onnx";
  if (!fs::exists(path)) GTEST_SKIP() << "../shared/models/resnet20-cifar10.onnx is absent";
  const graph::Graph graph = import_file(path);
  ASSERT_EQ(graph.outputs.size(), 1u);
  EXPECT_EQ(graph.values[graph.outputs[0]].dims, program::Dims{10});
  EXPECT_EQ(graph.values[graph.input].dims, (program::Dims{3, 32, 32}));
  std::map<std::string, int> kinds;
  int64_t weights = 0, macs = 0;
  for (const graph::Node& node : graph.nodes) {
    ++kinds[graph::kind_name(node.kind)];
    macs += graph::macs(graph, node);
    if (const auto* conv = std::get_if<graph::Conv>(&node.kind))
      weights += static_cast<int64_t>(conv->weights.size());
  }
  const std::map<std::string, int> expected = {{"conv", 19},   {"relu", 19}, {"add", 9},
                                               {"slice", 4},   {"pad", 2},   {"reduce-mean", 1},
                                               {"reshape", 1}, {"linear", 1}};
  EXPECT_EQ(kinds, expected);
  EXPECT_EQ(weights, 267696);
  EXPECT_EQ(macs, 40551040);
}

}  // namespace
}  // namespace bitstrata::onnx::testing
