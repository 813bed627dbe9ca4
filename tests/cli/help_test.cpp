#include <gmock/gmock.h>

#include <algorithm>
#include <sstream>

#include "tests/cli/process.h"

namespace bitstrata::testing {
namespace {

using ::testing::HasSubstr;

const std::vector<std::string> kLight = {"eval", "run", "bench", "inspect", "profile", "report", "export", "compile"};

/// The names under "Subcommands:" of `bitstrata --help`.
std::vector<std::string> listed_commands() {
  std::istringstream help(bitstrata({"--help"}).out);
  std::vector<std::string> names;
  bool in_list = false;
  for (std::string line; std::getline(help, line);) {
    if (in_list && line.starts_with("  ")) names.push_back(line.substr(2, line.find(' ', 2) - 2));
    in_list = in_list || line == "Subcommands:";
  }
  return names;
}

TEST(CliHelp, ListsEverySubcommandWithADescription) {
  const Finished help = bitstrata({"--help"});
  EXPECT_EQ(help.status, 0);
  EXPECT_EQ(help.err, "");
  const auto names = listed_commands();
  EXPECT_THAT(names,
              ::testing::IsSupersetOf({"eval", "run", "bench", "inspect", "profile", "report", "export",
                                       "compress", "train", "search", "finetune", "compile", "verify"}));
  for (const std::string& name : names)
    EXPECT_THAT(help.out, ::testing::ContainsRegex("\n  " + name + "  +[A-Z]"));
}

TEST(CliHelp, OfEverySubcommandOfTheLightExecutable) {
  for (const std::string& name : kLight) {
    const Finished help = bitstrata({name, "--help"});
    EXPECT_EQ(help.status, 0) << name;
    EXPECT_EQ(help.err, "") << name;
    EXPECT_THAT(help.out, HasSubstr("bitstrata " + name));
    EXPECT_THAT(help.out, HasSubstr("--json"));
  }
}

TEST(CliHelp, OfEverySubcommandOfTheTrainingExecutable) {
  if (!std::filesystem::exists(executable().parent_path() / "bitstrata-train"))
    GTEST_SKIP() << "bitstrata-train is not built here";
  for (const std::string& name : listed_commands()) {
    if (std::ranges::count(kLight, name) > 0) continue;
    const Finished help = bitstrata({name, "--help"});
    EXPECT_EQ(help.status, 0) << name;
    EXPECT_EQ(help.err, "") << name;
    EXPECT_THAT(help.out, HasSubstr("bitstrata " + name));
  }
}

TEST(CliHelp, Version) {
  const Finished version = bitstrata({"--version"});
  EXPECT_EQ(version.status, 0);
  EXPECT_THAT(version.out, ::testing::MatchesRegex("bitstrata [0-9]+\\.[0-9]+\\.[0-9]+\n"));
  EXPECT_EQ(version.err, "");
}

TEST(CliHelp, WrongUsageIsStatus2AndOneLine) {
  const std::vector<std::vector<std::string>> wrong = {
      {},
      {"no-such-command"},
      {"--no-such-option"},
      {"eval"},
      {"eval", "model.bst"},
      {"eval", "model.bst", "--data", "digits", "--split", "half"},
      {"eval", "model.bst", "--data", "digits", "--batch", "0"},
      {"eval", "model.bst", "--data", "digits", "--threads", "many"},
      {"eval", "model.bst", "--data", "digits", "--isa", "sse9"},
      {"eval", "model.bst", "--data", "digits", "--mean", "dark"},
      {"run", "model.bst"},
      {"run", "model.bst", "image.png", "--top", "-1"},
      {"bench"},
      {"bench", "model.bst", "--kernels"},
      {"bench", "--kernels", "--shapes", "64"},
      {"bench", "--kernels", "--shapes", "0@8"},
      {"bench", "--kernels", "--pairs", "9x1"},
      {"bench", "--kernels", "--pairs", "2x"},
      {"bench", "model.bst", "--pairs", "1x1"},
      {"inspect"},
      {"profile", "--no-such-option"},
      {"profile", "--check"},
      {"report"},
      {"inspect", "model.bst", "--no-such-option"},
      {"export", "model.bst", "--out", "model.onnx"},
      {"export", "model.bst", "--format", "qdq"},
      {"export", "model.bst", "--format", "tflite", "--out", "model.onnx"},
      {"export", "model.bst", "--format", "qdq", "--opset", "12", "--out", "model.onnx"},
  };
  for (const auto& arguments : wrong) {
    SCOPED_TRACE(::testing::PrintToString(arguments));
    expect_one_line_error(bitstrata(arguments), 2);
  }
}

}  // namespace
}  // namespace bitstrata::testing
