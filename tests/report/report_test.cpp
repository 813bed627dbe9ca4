#include <gmock/gmock.h>

#include "core/file.h"
#include "tests/report/job_folder.h"

/// What `bitstrata report` puts into its page.
namespace bitstrata::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST(Report, ShowsWhatTheJobHolds) {
  const JobFolder folder;
  const Json data = folder.data();
  EXPECT_EQ(data.at("title"), "my net");
  for (const char* key : {"float_accuracy", "accuracy", "weight_bytes", "size_bytes", "compression", "bitops",
                          "peak_mib", "threads", "cpu"})
    EXPECT_EQ(data.at("run").at(key), folder.run.at(key)) << key;
  EXPECT_EQ(data.at("epochs"), folder.run.at("epochs"));
  ASSERT_EQ(data.at("points").size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(data.at("points")[i].at("layers"), folder.pareto.at("points")[i].at("layers"));
    EXPECT_EQ(data.at("points")[i].at("chosen"), i == 2);
  }
}

TEST(Report, ListsLayersWithTheKernelsOfInspect) {
  const JobFolder folder;
  const Json inspected = Json::parse(bitstrata({"inspect", folder / "model.bst", "--json"}).out),
             data = folder.data();
  ASSERT_EQ(data.at("layers").size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    const Json &layer = data.at("layers")[i], &op = inspected.at("layers")[i == 0 ? 1 : 3];
    EXPECT_EQ(layer.at("name"), op.at("name"));
    EXPECT_EQ(layer.at("weight_bits"), op.at("w_bits"));
    EXPECT_EQ(layer.at("activation_bits"), op.at("a_bits"));
    for (const char* key : {"macs", "weight_bytes", "kernel"}) EXPECT_EQ(layer.at(key), op.at(key));
    EXPECT_EQ(layer.at("sensitivity"), i == 0 ? 0.25 : 1.5);
  }
  EXPECT_EQ(data.at("isa"), inspected.at("isa"));
}

TEST(Report, JudgesTargets) {
  JobFolder folder;
  const std::vector<std::tuple<std::string, std::string, Json>> expected{
      {"size=10x", "10.71x", true},
      {"size=11x", "10.71x", false},
      {"size=1454B", "1454 bytes", true},
      {"size=1KB", "1454 bytes", false},
      {"avg-bits=3", "2.99 bits", true},
      {"avg-bits=2", "2.99 bits", false},
      {"bitops=1M", "0.0001 GBitOPs", true},
      {"drop=0.8", "0.75 points below the float network on test images", true},
      {"drop=0.5", "0.75 points below the float network on test images", false},
  };
  folder.plan["targets"] = Json::array();
  for (const auto& [target, reached, met] : expected) folder.plan["targets"].push_back(target);
  folder.write("plan.json", folder.plan);
  const Json targets = folder.data().at("targets");
  ASSERT_EQ(targets.size(), expected.size());
  for (size_t i = 0; i < targets.size(); ++i) {
    EXPECT_EQ(targets[i].at("text"), std::get<0>(expected[i]));
    EXPECT_EQ(targets[i].at("reached"), std::get<1>(expected[i]));
    EXPECT_EQ(targets[i].at("met"), std::get<2>(expected[i])) << targets[i];
  }
}

TEST(Report, SaysNothingOfTargetsThatItCannotKnow) {
  JobFolder folder;
  folder.plan["targets"] = {"latency=2ms", "latency=0.5x", "bitops=3x3", "drop=1"};
  folder.write("plan.json", folder.plan);
  folder.remove("run.json");
  folder.remove("checkpoint/start.onnx");
  const Json data = folder.data();
  for (const Json& target : data.at("targets")) EXPECT_TRUE(target.at("met").is_null()) << target;
}

TEST(Report, TakesTimesFromTheJobsLatencyTable) {
  JobFolder folder;
  const auto entry = [](int weight_bits, int activation_bits, double us) {
    return Json{{"w_bits", weight_bits}, {"a_bits", activation_bits}, {"kernel", "k"}, {"us", us}};
  };
  const auto shape = [](const char* layer, int channels, const Json& entries) {
    return Json{{"shape",
                 {{"kind", "conv"},
                  {"in_channels", channels},
                  {"height", 8},
                  {"width", 8},
                  {"out_channels", 6},
                  {"groups", 1},
                  {"kernel", {3, 3}},
                  {"strides", {1, 1}},
                  {"dilations", {1, 1}},
                  {"pads", {1, 1, 1, 1}},
                  {"signed_input", true},
                  {"epilogue", ""},
                  {"stores", 1}}},
                {"layers", {layer}},
                {"entries", entries}};
  };
  folder.write("checkpoint/latency.json", {{"version", 1},
                                           {"cpu", "c"},
                                           {"isa", "scalar"},
                                           {"threads", 1},
                                           {"batch", 1},
                                           {"policy", "pact"},
                                           {"network", "net.onnx"},
                                           {"fixed_us", 10.0},
                                           {"shapes",
                                            {shape("first", 1, {entry(2, 8, 20), entry(8, 8, 60)}),
                                             shape("last", 6, {entry(3, 4, 30), entry(8, 8, 50)})}}});
  folder.plan["targets"] = {"latency=0.06ms", "latency=0.05ms", "latency=0.5x", "latency=0.6x"};
  folder.write("plan.json", folder.plan);
  const Json data = folder.data();
  EXPECT_DOUBLE_EQ(data.at("layers")[0].at("ms").get<double>(), 0.02);
  EXPECT_DOUBLE_EQ(data.at("layers")[1].at("ms").get<double>(), 0.03);
  EXPECT_DOUBLE_EQ(data.at("latency_ms").get<double>(), 0.06);
  const std::vector<bool> met{true, false, true, true};
  for (size_t i = 0; i < met.size(); ++i)
    EXPECT_EQ(data.at("targets")[i].at("met"), met[i]) << data.at("targets")[i];
  const Json& widths = data.at("widths");
  EXPECT_DOUBLE_EQ(widths[1].at("latency_ms").get<double>(), 0.12);
  EXPECT_DOUBLE_EQ(widths.back().at("latency_ms").get<double>(), 0.06);
}

TEST(Report, SetsThePlanBesideFloatAndUniformBits) {
  const JobFolder folder;
  const Json rows = folder.data().at("widths");
  ASSERT_EQ(rows.size(), 4u);
  // 54 weights and 3456 MACs in the first layer, whose input keeps 8 bits; 3840 of both in the last.
  const auto expect_row = [&](size_t i, const char* name, int weight_bytes, double bitops,
                              const Json& accuracy) {
    SCOPED_TRACE(name);
    EXPECT_EQ(rows[i].at("name"), name);
    EXPECT_EQ(rows[i].at("weight_bytes"), weight_bytes);
    EXPECT_EQ(rows[i].at("bitops"), bitops);
    EXPECT_EQ(rows[i].contains("accuracy") ? rows[i].at("accuracy") : Json(), accuracy);
  };
  expect_row(0, "float", 4 * 3894, 1024.0 * (3456 + 3840), folder.run.at("float_accuracy"));
  expect_row(1, "int8 (W8 A8)", 3894, 64.0 * (3456 + 3840), nullptr);
  expect_row(2, "uniform (W3 A5)", 21 + 1440, 3 * 8 * 3456.0 + 3 * 5 * 3840.0, nullptr);
  expect_row(3, "this plan", 14 + 1440, 2 * 8 * 3456.0 + 3 * 4 * 3840.0, folder.run.at("accuracy"));
}

TEST(Report, LeavesOutUniformBitsThatAreThePlansOwn) {
  JobFolder folder;
  for (Json& layer : folder.plan["layers"]) layer["weight_bits"] = layer["activation_bits"] = 8;
  folder.write("plan.json", folder.plan);
  const Json rows = folder.data().at("widths");
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].at("name"), "float");
  EXPECT_EQ(rows[1].at("name"), "this plan");
}

TEST(Report, GivesTheExactCommand) {
  const JobFolder folder;
  EXPECT_EQ(
      folder.data().at("command"),
      "bitstrata compress '/models/my net.onnx' --data digits --method pdq --policy pact --target size=10x "
      "--target drop=0.5 --target avg-bits=2 "
      "--bits 2,3,8 --keep-least --seed 7 --tied false --batch-size 32 --search-epochs 2 --threads 3 --out " +
          folder.path());
}

TEST(Report, NamesFromFilesStayText) {
  const std::string script = "</script><script>window.hacked=1</script>",
                    image = "\"'><img src=x onerror=hacked()>&lt;\u2028";
  JobFolder folder({script, image});
  folder.job["data"] = "folder:<b>" + script;
  folder.job["model"] = script;
  folder.write("checkpoint/job.json", folder.job);
  const std::string page = folder.page();
  const JobFolder plain;
  EXPECT_EQ(count(page, "<script"), count(plain.page(), "<script"));
  EXPECT_EQ(count(page, "</script"), count(plain.page(), "</script"));
  EXPECT_THAT(page, Not(HasSubstr("<img")));
  EXPECT_THAT(page, Not(HasSubstr("<b>")));
  EXPECT_THAT(page, Not(HasSubstr("\u2028")));
  const Json data = JobFolder::data_of(page);
  EXPECT_EQ(data.at("layers")[0].at("name"), script);
  EXPECT_EQ(data.at("layers")[1].at("name"), image);
}

TEST(Report, IsOneFileThatNeedsNoOther) {
  const std::string page = JobFolder().page();
  EXPECT_THAT(page, ::testing::StartsWith("<!doctype html>"));
  EXPECT_THAT(page, HasSubstr("default-src 'none'"));
  for (const char* foreign : {" src=", "href=\"http", "url(", "@import", "fetch(", "XMLHttpRequest"})
    EXPECT_THAT(page, Not(HasSubstr(foreign)));
  EXPECT_LT(page.size(), 200'000u);
}

TEST(Report, NamesTheChartLibraryAndItsLicence) {
  const std::string page = JobFolder().page();
  const std::string charts = JobFolder::data_of(page).at("charts");
  if (charts.empty())
    GTEST_SKIP() << "this bitstrata was built without the chart library: run ./dev setup first";
  EXPECT_THAT(charts, ::testing::MatchesRegex("uPlot [0-9.]+"));
  EXPECT_THAT(page, HasSubstr("<!-- Charts: " + charts));
  EXPECT_THAT(page, HasSubstr("The MIT License (MIT)"));
}

TEST(Report, EveryPieceMayBeMissing) {
  for (const char* name : {"run.json", "plan.json", "pareto.json", "model.bst", "checkpoint/job.json",
                           "checkpoint/progress.json"}) {
    SCOPED_TRACE(name);
    const JobFolder folder;
    folder.remove(name);
    const Json data = folder.data();
    EXPECT_EQ(data.contains("run"), std::string_view(name) != "run.json");
    EXPECT_EQ(data.contains("command"), std::string_view(name) != "checkpoint/job.json");
    EXPECT_EQ(data.at("points").empty(), std::string_view(name) == "pareto.json");
    EXPECT_FALSE(data.at("layers").empty());
    EXPECT_EQ(data.at("epochs").size(), 4u);
  }
}

TEST(Report, OfAJobWithoutTrainingHasNoEpochs) {
  JobFolder folder;
  folder.run["epochs"] = Json::array();
  folder.write("run.json", folder.run);
  EXPECT_TRUE(folder.data().at("epochs").empty());
}

TEST(Report, OfAJobThatHeldNoImageOutHasNoSuchAccuracy) {
  JobFolder folder;
  for (Json& epoch : folder.run["epochs"]) epoch.erase("holdout_accuracy");
  folder.write("run.json", folder.run);
  const Json epochs = folder.data().at("epochs");
  ASSERT_EQ(epochs.size(), 4u);
  for (const Json& epoch : epochs) EXPECT_FALSE(epoch.contains("holdout_accuracy"));
  EXPECT_DOUBLE_EQ(epochs[3].at("train_accuracy").get<double>(), 0.94);
}

TEST(Report, ShowsTheComparisonThatTheJobIsPartOf) {
  const TemporaryFolder root;
  const JobFolder folder;
  std::filesystem::copy(folder.path(), root.path() / "pdq-1", std::filesystem::copy_options::recursive);
  write_file_atomically(root.path() / "compare.json", std::string_view(folder.comparison().dump()));
  ASSERT_EQ(bitstrata({"report", root / "pdq-1/"}).status, 0);
  const Json compare = JobFolder::data_of(read_text_file(root / "pdq-1/report.html")).at("compare");
  const Json &pdq = compare.at("rows")[0], &hawq = compare.at("rows")[1];
  EXPECT_EQ(pdq.at("runs"), 2);
  EXPECT_DOUBLE_EQ(pdq.at("accuracy").get<double>(), 0.9675);
  EXPECT_EQ(pdq.at("accuracy_deviation"), 0.0071);
  EXPECT_EQ(pdq.at("this"), true);
  EXPECT_EQ(hawq.at("runs"), 0);
  EXPECT_EQ(hawq.at("failed"), 1);
  EXPECT_EQ(hawq.at("this"), false);
}

TEST(Report, OfAFolderOfCompareShowsTheComparisonAlone) {
  const TemporaryFolder root;
  write_file_atomically(root.path() / "compare.json", std::string_view(JobFolder().comparison().dump()));
  ASSERT_EQ(bitstrata({"report", root.path().string()}).status, 0);
  const Json data = JobFolder::data_of(read_text_file(root / "report.html"));
  EXPECT_EQ(data.at("has_job"), false);
  EXPECT_EQ(data.at("compare").at("command"),
            "bitstrata compare net.onnx --data digits --methods pdq,hawq --seeds 1,2 --out " +
                root.path().string());
  EXPECT_EQ(data.at("compare").at("rows").size(), 2u);
}

TEST(Report, RowsWithOptionsOfTheirOwnComeBackAsVariants) {
  const TemporaryFolder root;
  Json comparison = JobFolder().comparison();
  comparison["rows"][1]["name"] = "few bits";
  comparison["rows"][1]["options"] = {"--method", "hawq", "--bits", "2,3"};
  write_file_atomically(root.path() / "compare.json", std::string_view(comparison.dump()));
  ASSERT_EQ(bitstrata({"report", root.path().string()}).status, 0);
  const Json data = JobFolder::data_of(read_text_file(root / "report.html"));
  EXPECT_THAT(data.at("compare").at("command").get<std::string>(),
              HasSubstr(" --methods pdq --variant 'few bits=--method hawq --bits 2,3' --seeds 1,2 "));
}

TEST(Report, GoesWhereItIsAskedToAndSaysSo) {
  const JobFolder folder;
  const TemporaryFolder elsewhere;
  const Finished text = bitstrata({"report", folder.path(), "--out", elsewhere / "a.html"});
  EXPECT_EQ(text.out, elsewhere / "a.html" + "\n");
  const Json object = Json::parse(bitstrata({"report", folder.path(), "--json"}).out);
  EXPECT_EQ(object.at("report"), folder / "report.html");
  EXPECT_EQ(object.at("bytes"), std::filesystem::file_size(folder / "report.html"));
  EXPECT_EQ(read_text_file(elsewhere / "a.html"), read_text_file(folder / "report.html"));
}

}  // namespace
}  // namespace bitstrata::testing
