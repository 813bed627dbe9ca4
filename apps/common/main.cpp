#include "common/main.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <new>
#include <string>
#include <vector>

#include "common/config_file.h"
#include "common/output.h"
#include "core/error.h"

namespace bitstrata::cli {
namespace {

constexpr size_t kMessageLimitBytes = 4000;

int report(int status, const std::string& message) {
  const std::string kind = has_colour(STDERR_FILENO) ? "\033[1;31merror:\033[0m " : "error: ";
  write_stderr_line("bitstrata: " + kind + printable(message, kMessageLimitBytes));
  return status;
}

std::string help_hint(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  return chosen.empty() ? "see 'bitstrata --help'"
                        : "see 'bitstrata " + chosen.front()->get_name() + " --help'";
}

int parse_and_run(CLI::App& app, int argc, char** argv) {
  try {
    std::vector<std::string> arguments = with_config_file(app, {argv + std::min(argc, 1), argv + argc});
    std::ranges::reverse(arguments);  // the order that CLI11 wants
    app.parse(std::move(arguments));
    return 0;
  } catch (const CLI::CallForVersion&) {
    write_stdout("bitstrata " + std::string(version()) + "\n");
    return 0;
  } catch (const CLI::Success&) {
    write_stdout(app.help());
    return 0;
  } catch (const CLI::ParseError& error) {
    return report(exit_status(ErrorCode::kInvalidArgument),
                  fmt::format("{} ({})", error.what(), help_hint(app)));
  } catch (const UsageErrors& errors) {
    for (const std::string& line : errors.lines()) report(exit_status(ErrorCode::kInvalidArgument), line);
    return exit_status(ErrorCode::kInvalidArgument);
  }
}

}  // namespace

const char* version() noexcept {
  return BITSTRATA_VERSION;
}

int run_main(int argc, char** argv, const std::function<void(CLI::App&)>& define) {
  try {
    CLI::App app(
        "Learns how many bits each layer of a network needs, trains it at those bits, packs it and runs it "
        "on a CPU",
        "bitstrata");
    app.set_version_flag("--version", version(), "Print the version and exit");
    app.require_subcommand(1);
    app.get_formatter()->column_width(34);
    define(app);
    add_config_options(app);
    return parse_and_run(app, argc, argv);
  } catch (const Error& error) {
    return report(exit_status(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    return report(
        exit_status(ErrorCode::kBadInput),
        "out of memory: the network, batch or data need more than this machine gives; try a smaller --batch");
  } catch (const std::filesystem::filesystem_error& error) {
    return report(exit_status(ErrorCode::kIo), error.what());
  } catch (const std::exception& error) {
    return report(exit_status(ErrorCode::kInternal), fmt::format("internal error: {}", error.what()));
  }
}

}  // namespace bitstrata::cli
