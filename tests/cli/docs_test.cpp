#include <gmock/gmock.h>

#include <algorithm>
#include <sstream>

#include "core/file.h"
#include "tests/cli/process.h"

/// What the program writes about itself: man pages, completions, the command line reference.
namespace bitstrata::testing {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

class CliDocs : public ::testing::Test {
 protected:
  /// Path of one file that `bitstrata docs` writes.
  std::string made(const std::string& format, const std::string& file) {
    const Finished run = bitstrata({"docs", "--format", format, "--out", folder_.path().string()});
    EXPECT_EQ(run.status, 0) << run.err;
    EXPECT_EQ(run.out + run.err, "");
    return folder_ / file;
  }
  static bool has_training() { return fs::exists(executable().parent_path() / "bitstrata-train"); }
  static std::string program(const char* name) {
    const std::string path = std::string("/usr/bin/") + name;
    return fs::exists(path) ? path : "";
  }
  /// What bash offers when Tab is pressed behind `words`.
  std::string completed(const std::string& script, const std::vector<std::string>& words) {
    const std::string program =
        "compopt() { :; }; . \"$1\"; shift; COMP_WORDS=(bitstrata \"$@\"); COMP_CWORD=$#; _bitstrata; printf "
        "'%s\\n' \"${COMPREPLY[@]}\"";
    std::vector<std::string> arguments{"--norc", "-c", program, "bash", script};
    arguments.insert(arguments.end(), words.begin(), words.end());
    const Finished run = run_process("/bin/bash", arguments);
    EXPECT_EQ(run.err, "");
    return run.out;
  }

  TemporaryFolder folder_;
};

TEST_F(CliDocs, TheCommittedReferenceIsWhatTheProgramWrites) {
  if (!has_training()) GTEST_SKIP() << "bitstrata-train is not built here";
  const std::string now = read_text_file(made("markdown", "cli.md"));
  EXPECT_EQ(read_text_file(fs::path(BITSTRATA_SOURCE_DIR) / "docs/cli.md"), now)
      << "run: bitstrata docs --format markdown --out docs";
}

TEST_F(CliDocs, TheReferenceNamesEveryCommandWithAnExample) {
  const std::string text = read_text_file(made("markdown", "cli.md"));
  std::vector<std::string> names{"eval", "run", "bench", "inspect", "profile", "export", "compile", "report"};
  if (has_training())
    names.insert(names.end(), {"compress", "train", "search", "finetune", "compare", "verify"});
  for (const std::string& name : names) {
    EXPECT_THAT(text, HasSubstr("\n## " + name + "\n"));
    EXPECT_THAT(text, HasSubstr("\nbitstrata " + name + " ")) << "no example";
  }
  EXPECT_THAT(text, ::testing::Not(HasSubstr("describe")));
  EXPECT_THAT(text, ::testing::Not(HasSubstr(folder_.path().parent_path().string())));
}

TEST_F(CliDocs, EveryHelpEndsWithExamples) {
  for (const std::string name : {"eval", "run", "bench", "inspect", "profile", "export", "report", "compress",
                                 "train", "search", "finetune", "compile", "compare", "verify"}) {
    const Finished help = bitstrata({name, "--help"});
    if (help.status != 0 && !has_training()) continue;
    EXPECT_THAT(help.out, HasSubstr("Examples:\n  bitstrata " + name + " "));
  }
}

TEST_F(CliDocs, ManPagesRenderWithoutWarnings) {
  const std::string groff = program("groff");
  if (groff.empty()) GTEST_SKIP() << "groff is not installed";
  made("man", "bitstrata.1");
  int pages = 0;
  for (const auto& entry : fs::directory_iterator(folder_.path())) {
    SCOPED_TRACE(entry.path());
    const Finished run = run_process(groff, {"-man", "-ww", "-Tascii", "-P-cbou", entry.path().string()});
    EXPECT_EQ(run.status, 0);
    EXPECT_EQ(run.err, "");
    EXPECT_THAT(run.out, HasSubstr("SYNOPSIS"));
    ++pages;
  }
  EXPECT_EQ(pages, has_training() ? 15 : 9);
  const Finished page = run_process(groff, {"-man", "-Tascii", "-P-cbou", folder_ / "bitstrata-eval.1"});
  EXPECT_THAT(page.out, HasSubstr("bitstrata eval MODEL [OPTION]..."));
  EXPECT_THAT(page.out, HasSubstr("--split"));
  EXPECT_THAT(page.out, HasSubstr("one of test, train, val"));
}

TEST_F(CliDocs, BashCompletesWords) {
  const std::string script = made("bash", "bitstrata");
  const Finished parsed = run_process("/bin/bash", {"-n", script});
  EXPECT_EQ(parsed.status, 0) << parsed.err;
  EXPECT_EQ(completed(script, {"ins"}), "inspect\n");
  EXPECT_EQ(completed(script, {"eval", "m.bst", "--spl"}), "--split\n");
  EXPECT_EQ(completed(script, {"eval", "m.bst", "--split", "t"}), "test\ntrain\n");
  EXPECT_EQ(completed(script, {"eval", "m.bst", "--split", "=", "v"}), "val\n");
  EXPECT_EQ(completed(script, {"eval", "m.bst", "--split", "="}), "test\ntrain\nval\n");
  EXPECT_EQ(completed(script, {"eval", "m.bst", "--data", "f"}), "folder:\n");
  EXPECT_EQ(completed(script, {"eval", "m.bst", "--batch", "1"}), "\n") << "a number is not a file";
  EXPECT_EQ(completed(script, {"eval", folder_ / "bitstr"}), script + "\n");
  fs::create_directory(folder_.path() / "images");
  EXPECT_EQ(completed(script, {"eval", "m.bst", "--data", "folder", ":", folder_ / "im"}),
            (folder_ / "images") + "\n");
  if (!has_training()) return;
  EXPECT_EQ(completed(script, {"comp"}), "compress\ncompare\ncompile\n");
  EXPECT_EQ(completed(script, {"compress", "m.onnx", "--method", "e"}), "eagl\nebs\n");
  EXPECT_EQ(completed(script, {"compare", "m.onnx", "--pol"}), "--policy\n") << "an option of compress";
}

TEST_F(CliDocs, ZshAndFishParseTheirCompletions) {
  const std::string zsh = program("zsh"), fish = program("fish");
  if (zsh.empty() && fish.empty()) GTEST_SKIP() << "neither zsh nor fish is installed";
  for (const auto& [shell, file] :
       {std::pair(zsh, made("zsh", "_bitstrata")), std::pair(fish, made("fish", "bitstrata.fish"))}) {
    if (shell.empty()) continue;
    const Finished run = run_process(shell, {"-n", file});
    EXPECT_EQ(run.status, 0) << run.err;
    EXPECT_EQ(run.err, "");
  }
}

TEST_F(CliDocs, WrongUsageIsRefused) {
  expect_one_line_error(bitstrata({"docs", "--format", "pdf", "--out", folder_.path().string()}), 2);
  expect_one_line_error(bitstrata({"docs", "--format", "man"}), 2);
  expect_one_line_error(bitstrata({"docs", "--format", "man", "--out", "/dev/null/docs"}), 3);
}

}  // namespace
}  // namespace bitstrata::testing
