#pragma once

#include <optional>
#include <string>

#include "job.h"
#include "search/space.h"

namespace bitstrata::cli {

/// Says so, in one line of the log, when a layer at bits that this job may choose (or that its --plan has)
/// would run on a scalar kernel on this machine: before hours go into training it.
void warn_of_slow_kernels(Job& job, const graph::Graph& graph);

/// One line for the log when networks of fewer bits take as long as 8x8 bits by the table; nothing otherwise.
std::optional<std::string> note_on_speed(const search::LatencyTable& table);

}  // namespace bitstrata::cli
