#include <gmock/gmock.h>

#include <cstdlib>
#include <sstream>

#include "core/file.h"
#include "tests/cli/process.h"

namespace bitstrata::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// Where the Python module was not built, neither was a library that a stranger's program can link
// (sanitizers).
constexpr std::string_view kPython = BITSTRATA_PYTHON_EXECUTABLE;
constexpr std::string_view kFirstThatNeedsIt = "## In Python";

constexpr std::string_view kOnnxRuntime = "## In ONNX Runtime", kBehindIt = "## Your own images";
const fs::path kJudge = fs::path(BITSTRATA_BINARY_DIR) / "judge";  // has ONNX Runtime, from ./dev setup

/// The lines of all indented blocks as one script, without the build that this test is part of and without
/// downloads.
std::string script_of(const std::string& document) {
  std::istringstream lines(document);
  std::string script;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("```")) {
      while (std::getline(lines, line) && line != "```") continue;
    } else if (line.starts_with("    ") && !line.starts_with("    ./dev ") &&
               !line.starts_with("    npm install ")) {
      script += line.substr(4) + "\n";
    }
  }
  return script;
}

/// Writes every program that the document says to save: "Save as `NAME`:", then a fenced block.
void save_programs(const std::string& document, const fs::path& folder) {
  constexpr std::string_view kSave = "Save as `";
  for (size_t at = document.find(kSave); at != std::string::npos; at = document.find(kSave, at + 1)) {
    const size_t name = at + kSave.size(), name_end = document.find('`', name);
    const size_t fence = document.find("```", name_end), begin = document.find('\n', fence) + 1;
    const size_t end = document.find("```", begin);
    ASSERT_NE(end, std::string::npos);
    write_file_atomically(folder / document.substr(name, name_end - name),
                          document.substr(begin, end - begin));
  }
}

TEST(Tutorial, RunsAsItStands) {
  const TemporaryFolder folder;
  fs::create_directory_symlink(BITSTRATA_BINARY_DIR, folder.path() / "build");
  fs::create_directory_symlink(fs::path(BITSTRATA_SOURCE_DIR) / "examples", folder.path() / "examples");
  std::string document = read_text_file(fs::path(BITSTRATA_SOURCE_DIR) / "docs/tutorial.md");
  if (kPython.empty()) document.resize(document.find(kFirstThatNeedsIt));
  const size_t onnx_runtime = document.find(kOnnxRuntime);
  const bool has_onnx_runtime = onnx_runtime != std::string::npos && fs::exists(kJudge / "installed");
  if (onnx_runtime != std::string::npos && !has_onnx_runtime)
    document.erase(onnx_runtime, document.find(kBehindIt) - onnx_runtime);
  save_programs(document, folder.path());

  std::vector<std::string> environment{"NODE_PATH=" + (kJudge / "node_modules").string()};
  if (!kPython.empty()) {
    environment.push_back("PATH=" + fs::path(kPython).parent_path().string() + ":" + std::getenv("PATH"));
  }
  const Finished finished = run_process(
      "/bin/bash", {"-euxo", "pipefail", "-c", "cd '" + folder.path().string() + "'\n" + script_of(document)},
      environment);

  ASSERT_EQ(finished.status, 0) << finished.err;
  EXPECT_TRUE(fs::exists(folder / "job/report.html"));
  EXPECT_THAT(finished.out, HasSubstr("0 mismatched codes"));
  if (kPython.empty()) return;
  EXPECT_THAT(finished.out, HasSubstr("\nclass 7\n")) << "from look.py";
  EXPECT_THAT(finished.out, HasSubstr("\nclass 7: 7\n")) << "from classify_cpp";
  if (has_onnx_runtime) {
    EXPECT_THAT(finished.out, HasSubstr("\nclass 7 by ONNX Runtime\n"));
  }
}

}  // namespace
}  // namespace bitstrata::testing
