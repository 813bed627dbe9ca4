#include <gmock/gmock.h>

#include <regex>
#include <sstream>

#include "core/file.h"
#include "data/npy.h"
#include "tests/cli/process.h"

namespace bitstrata::testing {
namespace {

/// The commands of a document, in order: lines of an indented block that start with "bitstrata", and `bitstrata train ...` inside text.
std::vector<std::string> commands_of(const std::string& document) {
  const std::string text = read_text_file(std::filesystem::path(BITSTRATA_SOURCE_DIR) / document);
  std::vector<std::string> commands;
  const std::regex pattern("(?:^|\n)    (bitstrata [^\n#]*)|`(bitstrata train [^`]*)`");
  for (auto it = std::sregex_iterator(text.begin(), text.end(), pattern); it != std::sregex_iterator(); ++it) {
    commands.push_back((*it)[1].matched ? (*it)[1].str() : (*it)[2].str());
  }
  return commands;
}

/// A float network of the digits as the `model.onnx` that documents speak of.
void train_model(const TemporaryFolder& folder) {
  ASSERT_EQ(bitstrata({"train", "lenet", "--data", "digits", "--out", folder / "model.onnx", "--epochs", "2", "--quiet"}).status, 0);
}

/// Runs commands of a document. A stranger's folder of images stands for the digits here, so that they run without any other file.
void run_commands(const std::vector<std::string>& commands, const TemporaryFolder& folder) {
  const auto here = [&](const std::string& word) -> std::string {
    if (word == "folder:DIR") return "digits";
    if (word == "cat.png") return folder / "cat.npy";
    if (word == "model.onnx" || word.starts_with("table") || word.starts_with("job")) return folder / word;
    return word;
  };
  for (const std::string& command : commands) {
    SCOPED_TRACE(command);
    std::istringstream words(command);
    std::vector<std::string> arguments;
    for (std::string word; words >> word;) arguments.push_back(here(word));
    arguments.erase(arguments.begin());
    // The README's training of a ResNet runs its defaults; two passes over small images show that the command works.
    if (arguments[0] == "train") arguments.insert(arguments.end(), {"--epochs", "1", "--quiet"});
    const Finished finished = bitstrata(arguments);
    EXPECT_EQ(finished.status, 0) << finished.err;
    EXPECT_FALSE(finished.out.empty());
  }
}

TEST(Readme, EveryCommandShownRuns) {
  const TemporaryFolder folder;
  data::write_npy(folder.path() / "cat.npy", {1, 8, 8}, std::vector<float>(64, 0.25f));
  train_model(folder);
  const auto commands = commands_of("README.md");
  ASSERT_GE(commands.size(), 7u);
  run_commands(commands, folder);
}

TEST(LatencyDocument, EveryCommandShownRuns) {
  const TemporaryFolder folder;
  train_model(folder);
  ASSERT_EQ(bitstrata({"compress", folder / "model.onnx", "--data", "digits", "--target", "avg-bits=4", "--epochs", "1", "--out",
                       folder / "job", "--quiet"}).status, 0);
  const auto commands = commands_of("docs/latency.md");
  ASSERT_EQ(commands.size(), 3u);
  run_commands(commands, folder);
}

TEST(SearchDocument, EveryCommandShownRuns) {
  const TemporaryFolder folder;
  train_model(folder);
  const auto commands = commands_of("docs/search.md");
  ASSERT_EQ(commands.size(), 1u);
  run_commands(commands, folder);
}

TEST(ExportDocument, EveryCommandShownRuns) {
  const TemporaryFolder folder;
  train_model(folder);
  ASSERT_EQ(bitstrata({"compress", folder / "model.onnx", "--data", "digits", "--target", "avg-bits=4", "--epochs", "1", "--out",
                       folder / "job", "--quiet"}).status, 0);
  const auto commands = commands_of("docs/export.md");
  ASSERT_EQ(commands.size(), 3u);
  run_commands(commands, folder);
}

}  // namespace
}  // namespace bitstrata::testing
