#pragma once

namespace bitstrata::cli {

/// Largest resident set of this process so far, in MiB. Unlike getrusage's, it does not count what ran before
/// exec. kUnsupported where /proc/self/status does not say.
double peak_memory_mib();

/// Resident set of this process now, in MiB. Errors: as peak_memory_mib.
double resident_memory_mib();

}  // namespace bitstrata::cli
