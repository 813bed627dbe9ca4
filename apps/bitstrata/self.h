#pragma once

#include <string>
#include <vector>

namespace bitstrata::cli {

/// Runs this program again with other arguments and returns what it writes to standard output; standard error
/// is shared. kJobFailed when it ends with another status than 0, kIo when it cannot be started.
std::string output_of_self(const std::vector<std::string>& arguments);

}  // namespace bitstrata::cli
