#include "tests/cli/process.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "core/file.h"

namespace bitstrata::testing {
namespace {

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

std::vector<std::string> merged_environment(const std::vector<std::string>& added) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::string name = text.substr(0, text.find('=') + 1);
    if (std::ranges::none_of(added, [&](const std::string& other) { return other.starts_with(name); }))
      all.push_back(text);
  }
  all.insert(all.end(), added.begin(), added.end());
  return all;
}

}  // namespace

Finished run_process(const std::filesystem::path& program, const std::vector<std::string>& arguments,
                     const std::vector<std::string>& environment, const std::string& stdout_path) {
  const TemporaryFolder folder;
  const std::string out = stdout_path.empty() ? folder / "out" : stdout_path, err = folder / "err";
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);

  std::vector<std::string> argv{program.filename().string()}, envp = merged_environment(environment);
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  pid_t pid = -1;
  const int spawned =
      posix_spawn(&pid, program.c_str(), &actions, nullptr, pointers(argv).data(), pointers(envp).data());
  posix_spawn_file_actions_destroy(&actions);
  Finished finished;
  EXPECT_EQ(spawned, 0) << program;
  if (spawned != 0) return finished;

  int status = 0;
  waitpid(pid, &status, 0);
  finished.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  if (stdout_path.empty()) finished.out = read_text_file(out);
  finished.err = read_text_file(err);
  return finished;
}

std::filesystem::path executable() {
  return BITSTRATA_EXECUTABLE;
}

Finished bitstrata(const std::vector<std::string>& arguments, const std::vector<std::string>& environment,
                   const std::string& stdout_path) {
  return run_process(executable(), arguments, environment, stdout_path);
}

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "bitstrata-cli-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) std::abort();
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void expect_one_line_error(const Finished& finished, int exit_status) {
  EXPECT_EQ(finished.status, exit_status) << finished.err;
  EXPECT_EQ(finished.out, "");
  EXPECT_THAT(finished.err, ::testing::StartsWith("bitstrata: error: "));
  EXPECT_EQ(std::ranges::count(finished.err, '\n'), 1) << finished.err;
  EXPECT_THAT(finished.err, ::testing::EndsWith("\n"));
}

}  // namespace bitstrata::testing
