#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "format/bst.h"
#include "tests/cli/network.h"
#include "tests/cli/process.h"

namespace bitstrata::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

json run_json(std::vector<std::string> arguments) {
  arguments.push_back("--json");
  const Finished finished = bitstrata(arguments);
  EXPECT_EQ(finished.status, 0) << finished.err;
  return json::parse(finished.out);
}

class CliCompile : public ::testing::Test {
 protected:
  void SetUp() override { format::write(folder_.path() / "model.bst", digits_network()); }
  TemporaryFolder folder_;
};

TEST_F(CliCompile, PacksWhatExportHasWritten) {
  for (const std::string form : {"qdq", "qonnx"}) {
    const std::string exported = folder_ / (form + ".onnx"), packed = folder_ / (form + ".bst");
    run_json({"export", folder_ / "model.bst", "--format", form, "--out", exported});
    const json compiled = run_json({"compile", exported, "--out", packed});
    EXPECT_EQ(compiled.at("layers"), 2);
    EXPECT_TRUE(compiled.at("float_layers").empty());
    const double expected = reference_accuracy(digits_network());
    for (const std::string& network : {exported, packed})
      EXPECT_NEAR(run_json({"eval", network, "--data", "digits"}).at("accuracy").get<double>(), expected,
                  0.002);
    const json inspected = run_json({"inspect", packed});
    EXPECT_EQ(inspected.at("metadata").at("method"), "imported");
    EXPECT_LT(inspected.at("totals").at("avg_weight_bits").get<double>(), 4);
    EXPECT_THAT(bitstrata({"inspect", exported}).out, HasSubstr("quantized network"));
  }
}

TEST_F(CliCompile, RefusesWhatItCannotPack) {
  const std::string model = folder_ / "model.bst", exported = folder_ / "model.onnx";
  run_json({"export", model, "--format", "qdq", "--out", exported});
  expect_one_line_error(bitstrata({"compile", model, "--out", folder_ / "x.bst"}), 3);
  expect_one_line_error(bitstrata({"compile", folder_ / "nowhere"}), 3);
  const Finished no_file = bitstrata({"compile", exported});
  expect_one_line_error(no_file, 2);
  EXPECT_THAT(no_file.err, HasSubstr("--out FILE is missing"));
  expect_one_line_error(bitstrata({"compile", folder_.path().string(), "--json"}), 2);
}

}  // namespace
}  // namespace bitstrata::testing
