#include "common/host.h"

#include <fstream>
#include <string>

#include "core/error.h"

namespace bitstrata::cli {

double peak_memory_mib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) / 1024;
  }
  fail(ErrorCode::kUnsupported,
       "/proc/self/status: found no VmHWM, the peak memory of a process; run this on Linux");
}

}  // namespace bitstrata::cli
