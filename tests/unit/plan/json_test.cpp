#include <gmock/gmock.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "plan/plan.h"

namespace bitstrata::plan {
namespace {

using quant::Policy;
using testing::HasSubstr;

Plan sample_plan() {
  Plan plan;
  plan.method = "ccq";
  plan.layers = {{"stage1/conv \"a\"\n", 3, 4, Policy::kPact, true}, {"fc", 0, 0, Policy::kWrpn, false}};
  plan.streams = {{"relu", 8}, {"soft", 0}};
  plan.targets = {"avg-bits=3", "drop=0.5"};
  plan.sensitivity = {{"fc", 0.1}, {"stage1", -2.5e-7}};
  return plan;
}

TEST(PlanJson, RoundTripsAndWritesOneLinePerLayerAndStream) {
  const Plan plan = sample_plan();
  const std::string text = to_json(plan, {});
  const Plan read = from_json(text, "plan.json");
  EXPECT_EQ(read.method, plan.method);
  EXPECT_EQ(read.layers, plan.layers);
  EXPECT_EQ(read.streams, plan.streams);
  EXPECT_EQ(read.targets, plan.targets);
  EXPECT_EQ(read.sensitivity, plan.sensitivity);
  EXPECT_EQ(to_json(read, {}), text);
  EXPECT_THAT(text, HasSubstr("\n    { \"name\": \"fc\", \"weight_bits\": 0, \"activation_bits\": 0, "
                              "\"policy\": \"wrpn\", \"per_channel\": false }\n"));
  EXPECT_THAT(text, HasSubstr("\n    { \"value\": \"relu\", \"bits\": 8 },\n"));
}

constexpr char kSmall[] =
    R"({"version": 1, "layers": [{"name": "c", "weight_bits": 2, "activation_bits": 4, "policy": "lsq"}], "streams": [{"value": "r", "bits": 8}]})";

TEST(PlanJson, ReadsAPlanWrittenByHand) {
  const Plan plan = from_json(kSmall, "p");
  EXPECT_EQ(plan.method, "manual");
  EXPECT_THAT(plan.layers, testing::ElementsAre(LayerPlan{"c", 2, 4, Policy::kLsq, false}));
  EXPECT_THAT(plan.streams, testing::ElementsAre(StreamPlan{"r", 8}));
}

void expect_refused(std::string text, ErrorCode code, const std::vector<std::string>& parts) {
  try {
    from_json(text, "some.json");
    ADD_FAILURE() << "accepted " << text;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_THAT(error.what(), HasSubstr("some.json"));
    for (const auto& part : parts) EXPECT_THAT(error.what(), HasSubstr(part));
  }
}

std::string with(const std::string& from, const std::string& to) {
  std::string text = kSmall;
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(PlanJson, RefusesUnknownMissingAndWrongKeysByName) {
  constexpr auto kBad = ErrorCode::kBadInput;
  expect_refused(with("\"version\"", "\"extra\": 1, \"version\""), kBad, {"unknown key 'extra'"});
  expect_refused(with("\"name\"", "\"weight_bit\": 1, \"name\""), kBad,
                 {"layer 0", "unknown key 'weight_bit'"});
  expect_refused(with("\"bits\"", "\"bit\": 1, \"bits\""), kBad, {"stream 0", "unknown key 'bit'"});
  expect_refused(with("\"weight_bits\": 2, ", ""), kBad, {"layer 0", "'weight_bits' is missing"});
  expect_refused(with("\"version\": 1, ", ""), kBad, {"'version' is missing"});
  for (const char* value :
       {"\"2\"", "2.5", "true", "null", "[2]", "1e3", "99999999999", "18446744073709551615"}) {
    expect_refused(with("\"weight_bits\": 2", std::string("\"weight_bits\": ") + value), kBad,
                   {"layer 0", "'weight_bits'"});
    expect_refused(with("\"bits\": 8", std::string("\"bits\": ") + value), kBad, {"stream 0", "'bits'"});
  }
  expect_refused(with("\"c\"", "7"), kBad, {"layer 0", "'name'"});
  expect_refused(with("\"lsq\"", "\"lsqq\""), kBad, {"layer 0", "'policy'", "lsqq"});
  expect_refused(with("\"lsq\"", "3"), kBad, {"layer 0", "'policy'"});
  expect_refused(with("\"lsq\"", "\"lsq\", \"per_channel\": 1"), kBad, {"layer 0", "'per_channel'"});
  expect_refused(with("\"version\": 1", "\"version\": 1, \"method\": 5"), kBad, {"'method'"});
  expect_refused(with("\"version\": 1", "\"version\": 1, \"targets\": [1]"), kBad, {"targets"});
  expect_refused(with("\"version\": 1", "\"version\": 1, \"targets\": \"drop=1\""), kBad, {"'targets'"});
  expect_refused(with("\"version\": 1", "\"version\": 1, \"sensitivity\": {\"c\": \"high\"}"), kBad,
                 {"sensitivity", "'c'"});
  expect_refused(with("\"version\": 1", "\"version\": 1, \"sensitivity\": 3"), kBad, {"sensitivity"});
  expect_refused(R"({"version": 1, "layers": {}, "streams": []})", kBad, {"'layers'"});
  expect_refused(R"({"version": 1, "layers": []})", kBad, {"'streams'"});
  expect_refused(R"({"version": 1, "layers": [3], "streams": []})", kBad, {"layer 0", "expected an object"});
  expect_refused("[]", kBad, {"expected an object"});
  expect_refused(with("\"version\": 1", "\"version\": 2"), ErrorCode::kUnsupported, {"version 2"});
}

TEST(PlanJson, RefusesEveryTruncationAndBadBytes) {
  const std::string text = to_json(sample_plan(), {});
  const size_t end = text.find_last_of('}');
  for (size_t length = 0; length <= end; ++length)
    expect_refused(text.substr(0, length), ErrorCode::kCorruptFile, {"not valid JSON"});
  expect_refused(text + "{}", ErrorCode::kCorruptFile, {"not valid JSON"});
  expect_refused(with("\"c\"", "\"\xff\xfe\""), ErrorCode::kCorruptFile, {"not valid JSON"});
  expect_refused(std::string(100000, '['), ErrorCode::kCorruptFile, {"not valid JSON"});
}

TEST(ReadPlan, ReportsFiles) {
  const auto path = std::filesystem::temp_directory_path() / "bitstrata_plan_json_test.json";
  std::ofstream(path) << kSmall;
  EXPECT_EQ(read_plan(path).layers.size(), 1u);
  std::filesystem::remove(path);
  try {
    read_plan(path);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
    EXPECT_THAT(error.what(), HasSubstr(path.string()));
  }
}

}  // namespace
}  // namespace bitstrata::plan
