#include "core/isa.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>

#include "core/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace bitstrata {
namespace {

constexpr Isa kAll[] = {Isa::kScalar, Isa::kNeon, Isa::kAvx2, Isa::kAvx512, Isa::kVnni, Isa::kAmx};

#if defined(__x86_64__)
uint64_t enabled_state() {
  uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

std::vector<Isa> detect() {
  std::vector<Isa> found{Isa::kScalar};
  uint32_t a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return found;
  const bool osxsave = c & (1u << 27), fma = c & (1u << 12);
  if (!osxsave) return found;
  const uint64_t state = enabled_state();
  uint32_t a7 = 0, b7 = 0, c7 = 0, d7 = 0;
  if (!__get_cpuid_count(7, 0, &a7, &b7, &c7, &d7)) return found;
  const auto bit = [](uint32_t word, int n) { return ((word >> n) & 1u) != 0; };
  if ((state & 0x6) != 0x6 || !bit(b7, 5) || !fma) return found;
  found.push_back(Isa::kAvx2);
  // F 16, DQ 17, CD 28, BW 30, VL 31.
  const bool avx512 = bit(b7, 16) && bit(b7, 17) && bit(b7, 28) && bit(b7, 30) && bit(b7, 31) && (state & 0xe6) == 0xe6;
  if (!avx512) return found;
  found.push_back(Isa::kAvx512);
  if (!bit(c7, 11)) return found;
  found.push_back(Isa::kVnni);
  const bool amx = bit(d7, 24) && bit(d7, 25) && (state & 0x60000) == 0x60000;
  // Linux hands out the tile state on request only (ARCH_REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18).
  if (amx && syscall(SYS_arch_prctl, 0x1023, 18) == 0) found.push_back(Isa::kAmx);
  return found;
}
#elif defined(__aarch64__)
std::vector<Isa> detect() { return {Isa::kScalar, Isa::kNeon}; }
#else
std::vector<Isa> detect() { return {Isa::kScalar}; }
#endif

std::string names(const std::vector<Isa>& isas) {
  std::string line;
  for (Isa isa : isas) line += (line.empty() ? "" : ", ") + std::string(to_string(isa));
  return line;
}

}  // namespace

const char* to_string(Isa isa) noexcept {
  switch (isa) {
    case Isa::kScalar: return "scalar";
    case Isa::kNeon: return "neon";
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512: return "avx512";
    case Isa::kVnni: return "vnni";
    case Isa::kAmx: return "amx";
  }
  return "scalar";
}

Isa parse_isa(std::string_view name) {
  for (Isa isa : kAll) {
    if (name == to_string(isa)) return isa;
  }
  fail(ErrorCode::kInvalidArgument, "unknown instruction set '{}': expected one of {}", printable(std::string(name)),
       names({std::begin(kAll), std::end(kAll)}));
}

const std::vector<Isa>& available_isas() {
  static const std::vector<Isa> found = detect();
  return found;
}

Isa best_isa() { return available_isas().back(); }

Isa resolve_isa(std::string_view name) {
  if (name.empty()) {
    const char* forced = std::getenv("BITSTRATA_ISA");
    if (forced == nullptr || *forced == '\0') return best_isa();
    name = forced;
  }
  const Isa isa = parse_isa(name);
  const auto& found = available_isas();
  if (std::find(found.begin(), found.end(), isa) == found.end()) {
    fail(ErrorCode::kUnsupported, "this machine lacks the instruction set '{}': it has {}", name, names(found));
  }
  return isa;
}

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

}  // namespace bitstrata
