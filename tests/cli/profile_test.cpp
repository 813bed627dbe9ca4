#include <gmock/gmock.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/file.h"
#include "format/bst.h"
#include "tests/cli/network.h"
#include "tests/cli/process.h"

namespace bitstrata::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class CliProfile : public ::testing::Test {
 protected:
  CliProfile() : model_(folder_ / "model.bst"), table_(folder_ / "table.json") {
    format::write(model_, digits_network());
  }

  /// Runs profile with --quick on one thread; expects success.
  Finished profile(std::vector<std::string> arguments) {
    const std::vector<std::string> always = {"--threads", "1", "--quick", "--quiet"};
    arguments.insert(arguments.begin(), "profile");
    arguments.insert(arguments.end(), always.begin(), always.end());
    Finished finished = bitstrata(arguments);
    EXPECT_EQ(finished.status, 0) << finished.err;
    EXPECT_EQ(finished.err, "");
    return finished;
  }

  /// Writes the table of model_ after `change`.
  std::string changed_table(void (*change)(json&)) {
    profile({model_, "--out", table_});
    json table = json::parse(read_text_file(table_));
    change(table);
    write_file_atomically(table_, table.dump());
    return table_;
  }

  TemporaryFolder folder_;
  std::string model_, table_;
};

TEST_F(CliProfile, MeasuresEveryLayerAtEveryPair) {
  const json printed = json::parse(profile({model_, "--bits", "8,1,4", "--out", table_, "--json"}).out);
  const json table = json::parse(read_text_file(table_));
  EXPECT_EQ(printed, table);
  EXPECT_EQ(table.at("version"), 1);
  EXPECT_EQ(table.at("threads"), 1);
  EXPECT_EQ(table.at("batch"), 1);
  EXPECT_EQ(table.at("network"), "model.bst");
  EXPECT_FALSE(table.at("cpu").get<std::string>().empty());
  EXPECT_GT(table.at("fixed_us").get<double>(), 0);

  const json& shapes = table.at("shapes");
  ASSERT_EQ(shapes.size(), 2u);
  const auto pairs = [](const json& shape) {
    std::set<std::pair<int, int>> found;
    for (const json& entry : shape.at("entries")) {
      EXPECT_GT(entry.at("us").get<double>(), 0);
      EXPECT_FALSE(entry.at("kernel").get<std::string>().empty());
      found.emplace(entry.at("w_bits").get<int>(), entry.at("a_bits").get<int>());
    }
    EXPECT_EQ(found.size(), shape.at("entries").size());
    return found;
  };
  using Pairs = std::set<std::pair<int, int>>;
  EXPECT_EQ(shapes[0].at("shape").at("kind"), "conv");
  EXPECT_EQ(shapes[0].at("shape").at("signed_input"), true);
  EXPECT_EQ(pairs(shapes[0]), (Pairs{{1, 8}, {4, 8}, {8, 8}})) << "the pixels keep their 8 bits";
  EXPECT_EQ(shapes[1].at("shape").at("kind"), "linear");
  EXPECT_EQ(shapes[1].at("shape").at("in_channels"), 384);
  EXPECT_EQ(shapes[1].at("layers"), json::array({digits_network().ops[3].name}));
  EXPECT_EQ(pairs(shapes[1]),
            (Pairs{{1, 1}, {1, 4}, {1, 8}, {4, 1}, {4, 4}, {4, 8}, {8, 1}, {8, 4}, {8, 8}}));
}

TEST_F(CliProfile, PredictsAPackedNetworkFromATable) {
  profile({model_, "--out", table_});
  const json check = json::parse(profile({"--table", table_, "--check", model_, "--json"}).out).at("check");
  const double predicted = check.at("predicted_ms"), measured = check.at("measured_ms");
  EXPECT_GT(measured, 0);
  EXPECT_NEAR(check.at("ratio").get<double>(), predicted / measured, 1e-9);
  // The sum of what the table says of a 2 x 8 bit and a 3 x 4 bit layer, and of the rest.
  const json table = json::parse(read_text_file(table_));
  double sum = table.at("fixed_us");
  for (const auto& [shape, w, a] : {std::tuple{0, 2, 8}, std::tuple{1, 3, 4}}) {
    for (const json& entry : table.at("shapes")[static_cast<size_t>(shape)].at("entries")) {
      if (entry.at("w_bits") == w && entry.at("a_bits") == a) sum += entry.at("us").get<double>();
    }
  }
  EXPECT_NEAR(predicted, sum / 1e3, 1e-9);
  EXPECT_EQ(check.at("layers").size(), 2u);
}

TEST_F(CliProfile, TextListsShapesAndTheCheck) {
  const std::string out = profile({model_, "--check", model_, "--bits", "2,3,4"}).out;
  EXPECT_THAT(out, HasSubstr("384x1x1 to 10, linear"));
  EXPECT_THAT(out, HasSubstr("W4A4"));
  EXPECT_THAT(out, HasSubstr("predicted "));
  EXPECT_THAT(out, HasSubstr("ratio "));
}

TEST_F(CliProfile, ProgressGoesToStandardError) {
  const Finished finished = bitstrata({"profile", model_, "--bits", "8", "--quick", "--threads", "1"});
  EXPECT_EQ(finished.status, 0);
  EXPECT_THAT(finished.err, HasSubstr("profile"));
}

TEST_F(CliProfile, RefusesTheTableOfAnotherMachineUnlessForced) {
  changed_table([](json& table) { table["cpu"] = "Another CPU"; });
  const Finished refused =
      bitstrata({"profile", "--table", table_, "--check", model_, "--threads", "1", "--quiet"});
  expect_one_line_error(refused, 3);
  EXPECT_THAT(refused.err, HasSubstr("Another CPU"));
  EXPECT_THAT(refused.err, HasSubstr("--force"));
  profile({"--table", table_, "--check", model_, "--force"});
  const Finished threads = bitstrata({"profile", "--table", table_, "--check", model_, "--threads", "2"});
  expect_one_line_error(threads, 3);
}

TEST_F(CliProfile, RefusesBadTables) {
  const auto expect_refused = [&](const std::string& text) {
    const Finished refused =
        bitstrata({"profile", "--table", table_, "--check", model_, "--threads", "1", "--quick", "--quiet"});
    expect_one_line_error(refused, 3);
    EXPECT_THAT(refused.err, HasSubstr(text));
  };
  changed_table([](json& table) { table["shapes"][1]["entries"] = json::array(); });
  expect_refused("3 weight bits x 4 activation bits");
  changed_table([](json& table) { table["shapes"].erase(0); });
  expect_refused("has no shape 1x8x8 to 6, 3x3");
  changed_table([](json& table) { table["fixed_us"] = nullptr; });
  expect_refused("bitstrata profile NETWORK");
  changed_table([](json& table) { table.erase("isa"); });
  expect_refused("'isa' is missing");
  write_file_atomically(table_, std::string_view("{\"version\": 1, "));
  expect_refused("not valid JSON");
  std::filesystem::remove(table_);
  expect_refused("table.json");
}

TEST_F(CliProfile, RefusesOtherBadInput) {
  expect_one_line_error(bitstrata({"profile", folder_ / "missing.onnx"}), 3);
  expect_one_line_error(bitstrata({"profile", model_, "--check", folder_ / "missing.bst"}), 3);
  expect_one_line_error(
      bitstrata({"profile", model_, "--quick", "--out", folder_ / "no/such/folder/table.json"}), 3);
  expect_one_line_error(bitstrata({"profile", model_, "--table", table_}), 2);
  expect_one_line_error(bitstrata({"profile", model_, "--bits", "0,2"}), 2);
  expect_one_line_error(bitstrata({"profile", model_, "--bits", "9"}), 2);
  expect_one_line_error(bitstrata({"profile", model_, "--bits", "few"}), 2);
}

TEST_F(CliProfile, ALowerInstructionSetIsMeasuredAsSuch) {
  const json table =
      json::parse(profile({model_, "--bits", "2", "--isa", "scalar", "--batch", "3", "--json"}).out);
  EXPECT_EQ(table.at("isa"), "scalar");
  EXPECT_EQ(table.at("batch"), 3);
  for (const json& shape : table.at("shapes")) {
    for (const json& entry : shape.at("entries"))
      EXPECT_THAT(entry.at("kernel").get<std::string>(), ::testing::EndsWith("__scalar"));
  }
}

TEST_F(CliProfile, LayersOfOneShapeShareTheirEntries) {
  if (shared_folder().empty()) GTEST_SKIP() << "../shared is absent: no ResNet-20";
  if (std::string_view(BITSTRATA_SANITIZE) != "") GTEST_SKIP() << "timing under sanitizers says nothing";
  const auto network = shared_folder() / "models" / "resnet20-cifar10.onnx";
  const json table = json::parse(profile({network.string(), "--bits", "2,8", "--json"}).out);
  size_t layers = 0;
  for (const json& shape : table.at("shapes")) {
    layers += shape.at("layers").size();
    EXPECT_EQ(shape.at("entries").size(), shape.at("shape").at("signed_input") == true ? 2u : 4u);
  }
  EXPECT_EQ(layers, 20u);
  EXPECT_EQ(table.at("shapes").size(), 11u);
}

}  // namespace
}  // namespace bitstrata::testing
