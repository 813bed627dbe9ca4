#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace bitstrata::testing {

/// What a finished process left.
struct Finished {
  int status = -1;  ///< exit status, or 128 + the signal that ended it
  std::string out, err;
};

/// Runs a program with arguments and waits. environment: "NAME=value", added to this process's own.
/// stdout_path: where standard output goes instead of Finished::out.
Finished run_process(const std::filesystem::path& program, const std::vector<std::string>& arguments,
                     const std::vector<std::string>& environment = {}, const std::string& stdout_path = "");

/// run_process of the `bitstrata` under test.
Finished bitstrata(const std::vector<std::string>& arguments,
                   const std::vector<std::string>& environment = {}, const std::string& stdout_path = "");

/// The executable under test.
std::filesystem::path executable();

/// An empty folder that lives as long as the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const noexcept { return path_; }
  /// Path of an entry, as text.
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

/// Expects `exit_status`, nothing on stdout and exactly one line on stderr: "bitstrata: error: ...".
void expect_one_line_error(const Finished& finished, int exit_status);

}  // namespace bitstrata::testing
