#include "common/host.h"

#include <fstream>
#include <string>

#include "core/error.h"

namespace bitstrata::cli {

namespace {

double status_mib(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key + ":")) return std::stod(line.substr(key.size() + 1)) / 1024;
  }
  fail(ErrorCode::kUnsupported, "/proc/self/status: found no {}, the memory of a process; run this on Linux",
       key);
}

}  // namespace

double peak_memory_mib() { return status_mib("VmHWM"); }

double resident_memory_mib() { return status_mib("VmRSS"); }

}  // namespace bitstrata::cli
