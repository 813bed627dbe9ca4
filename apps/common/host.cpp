#include "common/host.h"

#include <fstream>
#include <string>

#include "core/error.h"

namespace bitstrata::cli {

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

double peak_memory_mib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) / 1024;
  }
  fail(ErrorCode::kUnsupported,
       "/proc/self/status: found no VmHWM, the peak memory of a process; run this on Linux");
}

}  // namespace bitstrata::cli
