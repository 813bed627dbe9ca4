#pragma once

#include "common/output.h"
#include "common/settings.h"

namespace bitstrata::cli {

/// `bitstrata bench --kernels`: times every kernel of the table on convolutions of usual shapes.
void bench_kernels(const MachineOptions& machine, int batch, const OutputOptions& output);

}  // namespace bitstrata::cli
