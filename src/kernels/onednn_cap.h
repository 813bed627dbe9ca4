#pragma once

#include "core/isa.h"

namespace bitstrata::kernels {

/// Holds oneDNN to instruction sets up to `cap` (kScalar and kNeon: to the lowest it has) and returns the one
/// that it is held to. oneDNN allows one choice per process, before its first use: the first call decides
/// (unless DNNL_MAX_CPU_ISA or other code in the process came first), later ones only report. Making or
/// asking about any int8 or float kernel calls it with that kernel's cap, so a program that wants one cap
/// calls this first. Thread-safe.
Isa cap_onednn(Isa cap);

}  // namespace bitstrata::kernels
