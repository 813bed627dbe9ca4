#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "format/container.h"
#include "program/program.h"

/// The inner layer of model.bst: a program as the raw content of the three sections, and back.
namespace bitstrata::format {

/// kInvalidArgument when a number of the program has no place in the format (a valid program's all have).
Sections write_program(const program::Program& program);

/// Checks all that is needed to build a Program, not that it makes sense: program::validate does.
/// kCorruptFile, with `name` in the message.
program::Program read_program(const Sections& sections, const std::string& name);

}  // namespace bitstrata::format
