#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace bitstrata::cli {

/// Runs another program and waits for it; standard output goes to /dev/null, the rest is inherited. An
/// interrupt or the death of this process is passed on as SIGTERM. Returns the exit status, or 128 + the
/// signal that ended it. kIo when it cannot be started.
int run_child(const std::filesystem::path& executable, const std::vector<std::string>& arguments);

/// This executable, and the light one that belongs to it. kNotFound when the latter is missing.
std::filesystem::path this_executable();
std::filesystem::path light_executable();

}  // namespace bitstrata::cli
