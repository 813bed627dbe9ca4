#include <gmock/gmock.h>

#include "core/file.h"
#include "core/random.h"
#include "tests/report/job_folder.h"

/// `bitstrata report` on folders that are not what a job leaves.
namespace bitstrata::testing {
namespace {

using ::testing::HasSubstr;

const std::vector<std::string> kFiles = {"run.json", "plan.json", "pareto.json", "checkpoint/job.json",
                                         "checkpoint/progress.json"};

TEST(DamagedReport, NoFolderOrNothingInIt) {
  const TemporaryFolder folder;
  expect_one_line_error(bitstrata({"report", folder / "absent"}), 3);
  const Finished empty = bitstrata({"report", folder.path().string()});
  expect_one_line_error(empty, 3);
  EXPECT_THAT(empty.err, HasSubstr("run.json"));
}

TEST(DamagedReport, NoPlaceToWriteTo) {
  const JobFolder folder;
  expect_one_line_error(bitstrata({"report", folder.path(), "--out", folder / "absent/report.html"}), 3);
}

TEST(DamagedReport, TruncatedFilesAreNamed) {
  for (const std::string& name : kFiles) {
    SCOPED_TRACE(name);
    const JobFolder folder;
    const std::string whole = read_text_file(folder / name);
    folder.write_text(name, whole.substr(0, whole.size() / 2));
    // progress.json counts only while there is no run.json, but damage is damage.
    const Finished finished = bitstrata({"report", folder.path()});
    expect_one_line_error(finished, 3);
    EXPECT_THAT(finished.err, HasSubstr(name));
    EXPECT_FALSE(std::filesystem::exists(folder / "report.html"));
  }
}

TEST(DamagedReport, OtherKindsOfJsonAreNamed) {
  for (const std::string& name : kFiles) {
    if (name == "checkpoint/progress.json") continue;
    for (const char* text : {"[]", "null", "3", "\"text\"", "{\"epochs\": 1}"}) {
      SCOPED_TRACE(name + " " + text);
      const JobFolder folder;
      folder.write_text(name, text);
      expect_one_line_error(bitstrata({"report", folder.path()}), 3);
    }
  }
}

TEST(DamagedReport, AFieldOfAnotherTypeIsNamed) {
  JobFolder folder;
  folder.run["accuracy"] = "high";
  folder.write("run.json", folder.run);
  const Finished finished = bitstrata({"report", folder.path()});
  expect_one_line_error(finished, 3);
  EXPECT_THAT(finished.err, HasSubstr("'accuracy': found \"high\", expected a number"));
}

TEST(DamagedReport, ModelOfOtherBytes) {
  const JobFolder folder;
  folder.write_text("model.bst", "not a model");
  expect_one_line_error(bitstrata({"report", folder.path()}), 3);
}

TEST(DamagedReport, ComparisonOfAnotherShape) {
  const JobFolder folder;
  Json comparison = folder.comparison();
  comparison["rows"][0]["runs"][0]["run"].erase("bitops");
  folder.write("compare.json", comparison);
  const Finished finished = bitstrata({"report", folder.path()});
  expect_one_line_error(finished, 3);
  EXPECT_THAT(finished.err, HasSubstr("'bitops'"));
}

/// Changed bytes either make no difference to what is read or are an error of one line; nothing crashes.
TEST(DamagedReport, RandomChangesNeverCrash) {
  Random random(20261121, 5);
  const std::string alphabet = "{}[]\",:0159-.eE\\ntfu \x01\xff<";
  const JobFolder folder;
  folder.write("compare.json", folder.comparison());
  std::vector<std::string> files = kFiles;
  files.push_back("compare.json");
  for (int round = 0; round < 120; ++round) {
    const std::string& name = files[random.below(files.size())];
    const std::string whole = read_text_file(folder / name);
    std::string damaged = whole;
    for (uint64_t change = 0; change <= random.below(3); ++change)
      damaged[random.below(damaged.size())] = alphabet[random.below(alphabet.size())];
    folder.write_text(name, damaged);
    const Finished finished = bitstrata({"report", folder.path()});
    if (finished.status != 0) expect_one_line_error(finished, 3);
    folder.write_text(name, whole);
  }
}

}  // namespace
}  // namespace bitstrata::testing
