#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace bitstrata::cli {

/// "0.1.0".
const char* version() noexcept;

/// The main function of an executable: `define` adds subcommands whose callbacks do the work, then the
/// arguments are parsed and the chosen callback runs. Every failure becomes one line "bitstrata: error: ..."
/// on stderr and an exit status: exit_status() for Error, 2 for arguments that do not parse, 3 when memory
/// runs out or standard output cannot be written, 1 for anything else. Help and version go to stdout, status
/// 0.
int run_main(int argc, char** argv, const std::function<void(CLI::App&)>& define);

}  // namespace bitstrata::cli
