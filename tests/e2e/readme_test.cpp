#include <gmock/gmock.h>

#include <regex>
#include <sstream>

#include "core/file.h"
#include "data/npy.h"
#include "tests/cli/process.h"

namespace bitstrata::testing {
namespace {

/// The commands of the README, in order: lines of an indented block that start with "bitstrata", and `bitstrata ...` inside text.
std::vector<std::string> readme_commands() {
  const std::string text = read_text_file(std::filesystem::path(BITSTRATA_SOURCE_DIR) / "README.md");
  std::vector<std::string> commands;
  const std::regex pattern("(?:^|\n)    (bitstrata [^\n#]*)|`(bitstrata train [^`]*)`");
  for (auto it = std::sregex_iterator(text.begin(), text.end(), pattern); it != std::sregex_iterator(); ++it) {
    commands.push_back((*it)[1].matched ? (*it)[1].str() : (*it)[2].str());
  }
  return commands;
}

TEST(Readme, EveryCommandShownRuns) {
  const TemporaryFolder folder;
  data::write_npy(folder.path() / "cat.npy", {1, 8, 8}, std::vector<float>(64, 0.25f));
  ASSERT_EQ(bitstrata({"train", "lenet", "--data", "digits", "--out", folder / "model.onnx", "--epochs", "2", "--quiet"}).status, 0);
  // A stranger's folder of images stands for the digits here, so that the commands run without any other file.
  const auto here = [&](const std::string& word) -> std::string {
    if (word == "folder:DIR") return "digits";
    if (word == "cat.png") return folder / "cat.npy";
    if (word == "model.onnx" || word.starts_with("job")) return folder / word;
    return word;
  };
  const auto commands = readme_commands();
  ASSERT_GE(commands.size(), 7u);
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

}  // namespace
}  // namespace bitstrata::testing
