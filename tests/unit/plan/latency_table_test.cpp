#include "plan/latency_table.h"

#include <gmock/gmock.h>

#include <limits>

#include "core/error.h"
#include "core/file.h"
#include "tests/unit/graph/make_graph.h"

namespace bitstrata::plan {
namespace {

using graph::ValueId;
using graph::testing::GraphMaker;
using graph::testing::relu;
using testing::ElementsAre;
using testing::HasSubstr;

graph::Conv square_conv(int oc, int ic, int kernel) {
  graph::Conv conv = graph::testing::conv(oc, ic, kernel, true);
  conv.window.pad_top = conv.window.pad_left = conv.window.pad_bottom = conv.window.pad_right = kernel / 2;
  return conv;
}

graph::BatchNorm norm(int channels) {
  const std::vector<float> ones(static_cast<size_t>(channels), 1.0f);
  return {ones, ones, ones, ones};
}

graph::Linear linear(int out, int in) {
  graph::Linear result;
  result.out = out;
  result.weights.assign(static_cast<size_t>(out * in), 1.0f);
  return result;
}

/// stem, two equal layers, and one that ends in a residual add; the stem is read by "a" and as a stream.
graph::Graph residual_net(bool batch_norms = false) {
  GraphMaker m({3, 8, 8});
  const auto layer = [&](const std::string& name, ValueId x, int ic) {
    const ValueId y = m.add(name, square_conv(4, ic, 3), {x});
    return batch_norms ? m.add(name + "/bn", norm(4), {y}) : y;
  };
  const ValueId stem = m.add("stem/relu", relu(), {layer("stem", 0, 3)});
  const ValueId a = m.add("a/relu", relu(), {layer("a", stem, 4)});
  const ValueId b = m.add("b/relu", relu(), {layer("b", a, 4)});
  const ValueId sum = m.add("sum", relu(), {m.add("add", graph::Binary{}, {layer("c", b, 4), stem})});
  m.add("fc", linear(5, 4), {m.add("mean", program::ReduceMean{{1, 2}, false}, {sum})});
  return m.graph;
}

LayerShape shape_named(const graph::Graph& graph, const std::string& name) {
  for (const NamedShape& layer : layer_shapes(graph)) {
    if (layer.layer == name) return layer.shape;
  }
  ADD_FAILURE() << name;
  return {};
}

/// 10 * weight bits + activation bits microseconds for every pair of {2, 4, 8}, 1000 more for each shape
/// before.
LatencyTable sample_table(const graph::Graph& graph) {
  LatencyTable table;
  table.machine = {"Some \"CPU\"", "avx2", 2, 4};
  table.policy = quant::Policy::kSawb;
  table.network = "net.onnx";
  table.fixed_us = 12.5;
  for (const NamedShape& layer : layer_shapes(graph)) {
    const auto found = std::find_if(table.shapes.begin(), table.shapes.end(),
                                    [&](const auto& s) { return s.shape == layer.shape; });
    if (found != table.shapes.end()) {
      found->layers.push_back(layer.layer);
      continue;
    }
    LatencyTable::Shape& shape =
        table.shapes.emplace_back(LatencyTable::Shape{layer.shape, {layer.layer}, {}});
    for (int w : {2, 4, 8}) {
      for (int a : {2, 4, 8}) {
        if (layer.reads_graph_input && a != 8) continue;
        shape.entries.push_back(
            {w, a, "kernel", 1000.0 * static_cast<double>(table.shapes.size() - 1) + 10 * w + a});
      }
    }
  }
  return table;
}

template <typename Work>
void expect_error(Work work, ErrorCode code, const std::vector<std::string>& parts) {
  try {
    work();
    ADD_FAILURE() << "no error, expected one with " << testing::PrintToString(parts);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    for (const auto& part : parts) EXPECT_THAT(error.what(), HasSubstr(part));
  }
}

TEST(LayerShapes, TellLayersApartByWhatCosts) {
  const auto graph = residual_net();
  const LayerShape stem = shape_named(graph, "stem"), a = shape_named(graph, "a"),
                   c = shape_named(graph, "c");
  EXPECT_EQ(stem.in_channels, 3);
  EXPECT_EQ(stem.out_channels, 4);
  EXPECT_EQ(stem.height, 8);
  EXPECT_EQ(stem.window.pad_left, 1);
  EXPECT_TRUE(stem.signed_input);
  EXPECT_EQ(stem.stores, 2) << "read by a and by the add";
  EXPECT_FALSE(a.signed_input);
  EXPECT_EQ(a.epilogue, "");
  EXPECT_EQ(a.stores, 1);
  EXPECT_EQ(a, shape_named(graph, "b"));
  EXPECT_EQ(c.epilogue, "add");
  EXPECT_FALSE(a == c);
  const LayerShape fc = shape_named(graph, "fc");
  EXPECT_TRUE(fc.is_linear);
  EXPECT_EQ(fc.in_channels, 4);
  EXPECT_EQ(fc.width, 1);
  EXPECT_TRUE(layer_shapes(graph)[0].reads_graph_input);
  EXPECT_FALSE(layer_shapes(graph)[1].reads_graph_input);
}

TEST(LayerShapes, BatchNormsBehindLayersAreFolded) {
  const auto with = layer_shapes(residual_net(true)), without = layer_shapes(residual_net());
  ASSERT_EQ(with.size(), without.size());
  for (size_t i = 0; i < with.size(); ++i) EXPECT_EQ(with[i].shape, without[i].shape) << with[i].layer;
}

TEST(LayerShapes, OtherStepsAreNamedInTheirOrder) {
  GraphMaker m({2, 4, 4});
  const ValueId y = m.add("swish", graph::testing::activation(program::StepKind::kHardSwish),
                          {m.add("c", square_conv(2, 2, 1), {0})});
  m.add("scale", graph::Affine{{2}, {1}}, {y});
  EXPECT_EQ(shape_named(m.graph, "c").epilogue, "hard-swish+affine");
}

TEST(LatencyTableJson, RoundTrips) {
  LatencyTable table = sample_table(residual_net());
  const std::string text = to_json(table);
  EXPECT_EQ(latency_table_from_json(text, "t"), table);
  EXPECT_EQ(to_json(latency_table_from_json(text, "t")), text);
  table.fixed_us.reset();
  table.network.clear();
  EXPECT_EQ(latency_table_from_json(to_json(table), "t"), table);
  table.shapes.clear();
  EXPECT_EQ(latency_table_from_json(to_json(table), "t"), table);
}

TEST(LatencyTableJson, WritesOneLinePerEntry) {
  EXPECT_THAT(to_json(sample_table(residual_net())),
              HasSubstr("\n        {\"w_bits\":4,\"a_bits\":2,\"kernel\":\"kernel\",\"us\":1042.0},\n"));
}

TEST(LatencyTableJson, RefusesUnknownMissingAndWrongKeysByName) {
  const std::string good = to_json(sample_table(residual_net()));
  const auto refused = [&](const std::string& from, const std::string& to,
                           const std::vector<std::string>& parts, ErrorCode code = ErrorCode::kBadInput) {
    SCOPED_TRACE(from + " -> " + to);
    std::string text = good;
    const auto at = text.find(from);
    ASSERT_NE(at, std::string::npos);
    text.replace(at, from.size(), to);
    std::vector<std::string> all = parts;
    all.push_back("some.json");
    expect_error([&] { latency_table_from_json(text, "some.json"); }, code, all);
  };
  refused("\"version\": 1", "\"version\": 2", {"version 2"}, ErrorCode::kUnsupported);
  refused("\"version\": 1", "\"version\": 1, \"extra\": 3", {"unknown key 'extra'"});
  refused("\"cpu\"", "\"cpus\"", {"'cpu' is missing"});
  refused("\"threads\": 2", "\"threads\": 0", {"'threads'", "found 0"});
  refused("\"batch\": 4", "\"batch\": \"4\"", {"'batch'"});
  refused("\"sawb\"", "\"saw\"", {"'policy'", "saw"});
  refused("\"fixed_us\": 12.5", "\"fixed_us\": -1", {"'fixed_us'", "-1"});
  refused("\"fixed_us\": 12.5", "\"fixed_us\": \"fast\"", {"'fixed_us'"});
  refused("\"fixed_us\"", "\"fixed\"", {"'fixed_us' is missing"});
  refused("\"shapes\"", "\"shape\"", {"'shapes' must be a list"});
  refused("\"kind\":\"conv\"", "\"kind\":\"pool\"", {"shape 0: shape", "'kind'", "pool"});
  refused("\"height\":8", "\"height\":0", {"shape 0: shape", "'height'"});
  refused("\"groups\":1", "\"groups\":1.5", {"'groups'"});
  refused("\"groups\":1,", "", {"'groups' is missing"});
  refused("\"kernel\":[3,3]", "\"kernel\":[3]", {"'kernel'", "[3]"});
  refused("\"kernel\":[3,3]", "\"kernel\":[0,3]", {"'kernel'"});
  refused("\"strides\":[1,1]", "\"strides\":[1,99999999999]", {"'strides'"});
  refused("\"pads\":[1,1,1,1]", "\"pads\":[1,-1,1,1]", {"'pads'"});
  refused("\"signed_input\":true", "\"signed_input\":1", {"'signed_input'"});
  refused("[\"stem\"]", "[7]", {"shape 0", "'layers'"});
  refused("\"w_bits\":2", "\"w_bits\":9", {"shape 0: entry 0", "'w_bits'", "found 9"});
  refused("\"w_bits\":2", "\"w_bits\":4", {"shape 0", "4 x 8 bits are listed twice"});
  refused("\"us\":28.0", "\"us\":-28.0", {"shape 0: entry 0", "'us'"});
  refused("\"us\":28.0", "\"us\":null", {"'us'"});
  refused("\"us\":28.0", "\"us\":1e999", {"not valid JSON"}, ErrorCode::kCorruptFile);
  refused("{\"w_bits\":2,", "{\"bits\":3,\"w_bits\":2,", {"unknown key 'bits'"});
}

TEST(LatencyTableJson, RefusesAShapeListedTwice) {
  LatencyTable table = sample_table(residual_net());
  table.shapes.push_back(table.shapes[1]);
  expect_error([&] { latency_table_from_json(to_json(table), "t"); }, ErrorCode::kBadInput,
               {"4x8x8 to 4, 3x3", "listed twice"});
}

TEST(LatencyTableJson, RefusesEveryTruncation) {
  const std::string text = to_json(sample_table(residual_net()));
  for (size_t length = 0; length + 2 < text.size(); ++length) {
    expect_error([&] { latency_table_from_json(text.substr(0, length), "t"); }, ErrorCode::kCorruptFile,
                 {"t: not valid JSON"});
  }
}

TEST(LatencyTableJson, NamesThatAreNotTextDoNotStopTheWriter) {
  LatencyTable table = sample_table(residual_net());
  table.shapes[0].layers = {"\xff\xfe"};
  EXPECT_EQ(latency_table_from_json(to_json(table), "t").shapes[0].entries, table.shapes[0].entries);
}

TEST(ReadLatencyTable, NamesAMissingFile) {
  expect_error([] { read_latency_table("/no/such/table.json"); }, ErrorCode::kIo, {"/no/such/table.json"});
}

TEST(CheckMachine, SaysWhatDiffersAndHowToMeasureAgain) {
  const LatencyTable table = sample_table(residual_net());
  EXPECT_NO_THROW(check_machine(table, table.machine, "t"));
  const auto refused = [&](Machine here, const std::vector<std::string>& parts) {
    expect_error([&] { check_machine(table, here, "t.json"); }, ErrorCode::kBadInput, parts);
  };
  refused({"Other", "avx2", 2, 4}, {"t.json", "Some", "Other", "bitstrata profile"});
  refused({table.machine.cpu, "vnni", 2, 4}, {"instruction set avx2", "vnni", "--isa vnni"});
  refused({table.machine.cpu, "avx2", 1, 4}, {"threads 2", "--threads 1"});
  refused({table.machine.cpu, "avx2", 2, 1}, {"batch 4", "--batch 1"});
}

TEST(LayerLatencies, GiveEveryLayerAtEveryPair) {
  const auto graph = residual_net();
  const std::vector<int> weight_bits = {2, 8}, activation_bits = {4};
  std::vector<std::string> found;
  for (const LayerLatency& l : layer_latencies(graph, sample_table(graph), weight_bits, activation_bits)) {
    found.push_back(fmt::format("{} {}x{} {:.3f}", l.layer, l.weight_bits, l.activation_bits, l.ms));
  }
  EXPECT_THAT(found,
              ElementsAre("stem 2x8 0.028", "stem 8x8 0.088", "a 2x4 1.024", "a 8x4 1.084", "b 2x4 1.024",
                          "b 8x4 1.084", "c 2x4 2.024", "c 8x4 2.084", "fc 2x4 3.024", "fc 8x4 3.084"));
}

TEST(LayerLatencies, HoldForTheNetworkWithBatchNormsToo) {
  const std::vector<int> bits = {4};
  EXPECT_EQ(layer_latencies(residual_net(true), sample_table(residual_net()), bits, bits).size(), 5u);
}

TEST(LayerLatencies, MissingPairsAndShapesNameTheLayerAndTheCommand) {
  const auto graph = residual_net();
  LatencyTable table = sample_table(graph);
  const std::vector<int> bits = {2, 3};
  expect_error([&] { layer_latencies(graph, table, bits, bits); }, ErrorCode::kBadInput,
               {"layer 'stem'", "3 weight bits x 8 activation bits", "bitstrata profile",
                "--isa avx2 --threads 2 --batch 4"});
  table.shapes.erase(table.shapes.begin() + 1);
  const std::vector<int> two = {2};
  expect_error([&] { layer_latencies(graph, table, two, two); }, ErrorCode::kBadInput,
               {"layer 'a'", "4x8x8 to 4, 3x3", "bitstrata profile"});
}

TEST(LayerLatencies, TheNearestNumberOfStoresStandsIn) {
  const auto graph = residual_net();
  LatencyTable table = sample_table(graph);
  LayerShape shape = shape_named(graph, "stem");
  shape.stores = 4;
  EXPECT_EQ(layer_us(table, "x", shape, 2, 8), 28);
  LatencyTable::Shape more = table.shapes[0];
  more.shape.stores = 5;
  more.entries[0].us = 99;
  table.shapes.push_back(more);
  EXPECT_EQ(layer_us(table, "x", shape, 2, 8), 99);
  shape.stores = 2;
  EXPECT_EQ(layer_us(table, "x", shape, 2, 8), 28);
}

}  // namespace
}  // namespace bitstrata::plan
