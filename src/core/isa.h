#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace bitstrata {

/// Instruction sets that kernels are compiled for, in rising order within one architecture. `kScalar` runs everywhere.
/// avx2: AVX2+FMA. avx512: F, BW, DQ, VL, CD. vnni: avx512 + VNNI (+ VPOPCNTDQ where the CPU has it). amx: vnni + AMX-INT8.
enum class Isa { kScalar, kNeon, kAvx2, kAvx512, kVnni, kAmx };

/// Stable name: "scalar", "neon", "avx2", "avx512", "vnni", "amx".
const char* to_string(Isa isa) noexcept;

/// Parses a name. kInvalidArgument, listing the names, when unknown.
Isa parse_isa(std::string_view name);

/// The ISAs this CPU and operating system can run, rising, always starting with kScalar. Detected once; thread-safe.
const std::vector<Isa>& available_isas();

/// The highest of available_isas().
Isa best_isa();

/// Resolves a user's cap (--isa, or the environment variable BITSTRATA_ISA when `name` is empty; neither: best_isa()).
/// kUnsupported, listing what exists, when this machine lacks the ISA.
Isa resolve_isa(std::string_view name);

/// The CPU's own name, as "AMD EPYC 9R14"; "unknown" where /proc/cpuinfo has none.
std::string cpu_name();

}  // namespace bitstrata
