#include <gtest/gtest.h>

#include "core/file.h"
#include "tests/report/job_folder.h"

/// The page in a real browser; browser_test.js does what a reader does.
namespace bitstrata::testing {
namespace {

namespace fs = std::filesystem;

const fs::path kSource = BITSTRATA_SOURCE_DIR;

fs::path find_program(const std::string& name) {
  for (const char* folder : {"/usr/bin", "/usr/local/bin"}) {
    if (fs::exists(fs::path(folder) / name)) return fs::path(folder) / name;
  }
  return {};
}

class ReportInABrowser : public ::testing::Test {
 protected:
  void SetUp() override {
    if (chromium_.empty()) GTEST_SKIP() << "chromium is missing";
    if (node_.empty()) GTEST_SKIP() << "node is missing";
    Json comparison = folder_.comparison(), other = comparison["rows"][0];
    other["name"] = "uniform";
    for (Json& each : other["runs"]) each["run"]["weight_bytes"] = 3894;
    comparison["rows"].push_back(other);
    folder_.write("compare.json", comparison);
  }

  void expect_well(const std::string& page, const std::string& screenshots) const {
    const Finished finished = run_process(
        node_, {(kSource / "tests/report/browser_test.js").string(), chromium_.string(), page,
                (fs::path(BITSTRATA_BINARY_DIR) / "report-screenshots" / screenshots).string(), "compare"});
    EXPECT_EQ(finished.status, 0) << finished.out << finished.err;
  }

  const fs::path chromium_ = find_program("chromium"), node_ = find_program("node");
  const JobFolder folder_{{"</script><script>window.hacked=1</script>",
                           "<img src=x onerror=hacked=1> a quite long name of a layer/of some/block/conv2"}};
};

TEST_F(ReportInABrowser, WithTheChartLibrary) {
  const std::string page = folder_.page();
  if (JobFolder::data_of(page).at("charts") == "")
    GTEST_SKIP() << "this bitstrata was built without the chart library: run ./dev setup first";
  expect_well(folder_ / "report.html", "charts");
}

TEST_F(ReportInABrowser, OfAJobThatHeldNoImageOut) {
  Json run = folder_.run;
  for (Json& epoch : run["epochs"]) epoch.erase("holdout_accuracy");
  folder_.write("run.json", run);
  folder_.page();
  expect_well(folder_ / "report.html", "all-images");
}

/// A page as built without the library: its charts are those of charts_svg.js.
TEST_F(ReportInABrowser, WithoutTheChartLibrary) {
  std::string page = folder_.page();
  const std::string open = "<script>", close = "</script>", name = "\"charts\":\"";
  const size_t data = page.find("id=\"data\""), library = page.find(open, data),
               charts = page.find(open, library + 1), end = page.find(close, charts);
  const size_t value = page.find(name, data) + name.size();
  ASSERT_NE(end, std::string::npos);
  page.replace(library, end - library,
               open + close + open + read_text_file(kSource / "apps/bitstrata/report/charts_svg.js"));
  page.erase(value, page.find('"', value) - value);
  folder_.write_text("plain.html", page);
  ASSERT_EQ(JobFolder::data_of(page).at("charts"), "");
  expect_well(folder_ / "plain.html", "plain");
}

}  // namespace
}  // namespace bitstrata::testing
