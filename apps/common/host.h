#pragma once

#include <string>

namespace bitstrata::cli {

/// The CPU's own name, as "AMD EPYC 9R14"; "unknown" where /proc/cpuinfo has none.
std::string cpu_name();

/// Largest resident set of this process so far, in MiB. Unlike getrusage's, it does not count what ran before
/// exec. kUnsupported where /proc/self/status does not say.
double peak_memory_mib();

}  // namespace bitstrata::cli
