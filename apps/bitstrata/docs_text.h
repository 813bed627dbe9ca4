#pragma once

#include <string_view>

/// What holds for all commands, for every document that says so.
namespace bitstrata::cli {

inline constexpr std::string_view kAbout =
    "bitstrata learns how many bits each layer of a trained network needs, trains it at those bits, packs it "
    "and runs it on a "
    "CPU with kernels that compute at those bits.";
inline constexpr std::string_view kStreams =
    "Results go to standard output, everything else to standard error; with --json standard output is one "
    "JSON object.";
inline constexpr std::string_view kConfig =
    "--config FILE.yaml takes options from a file: a map from long options, without dashes, to a value, a "
    "list of values, or "
    "true and false for flags. What is given on the command line wins. Every unknown or ill-typed key is "
    "reported with its line.";
inline constexpr std::string_view kInterrupts =
    "Ctrl-C and SIGTERM save a checkpoint where the command has one and say how to go on.";

struct ExitStatus {
  int status;
  std::string_view text;
};
inline constexpr ExitStatus kExitStatuses[] = {
    {0, "done"},
    {1, "the job failed: verify found a difference, a target cannot be met, or it was interrupted"},
    {2, "wrong usage"},
    {3, "bad input: missing, corrupt or unsupported"},
};

struct Variable {
  std::string_view name, text;
};
inline constexpr Variable kEnvironment[] = {
    {"BITSTRATA_ISA", "highest instruction set to use, as --isa"},
    {"XDG_CACHE_HOME", "decoded images are kept in its folder bitstrata (default: ~/.cache)"},
};

}  // namespace bitstrata::cli
