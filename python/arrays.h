#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <span>
#include <vector>

#include "bitstrata/bitstrata.hpp"

/// NumPy arrays as the spans that the library takes.
namespace bitstrata::python {

namespace py = pybind11;

/// Throws Error(BITSTRATA_BAD_INPUT, message).
[[noreturn]] void refuse(const std::string& message);

/// A float32 array [n, shape...] as contiguous aligned memory: the array itself where it is so, else a copy.
/// BITSTRATA_BAD_INPUT for another type or shape.
py::array images_of(const py::object& value, const std::vector<int64_t>& shape);

/// One array [n, shape...] per output: new ones for None, else those given, which must fit exactly.
std::vector<py::array> outputs_of(const py::object& out, const std::vector<Tensor>& outputs, py::ssize_t n);

std::span<const float> values_of(const py::array& array);
std::span<float> room_of(py::array& array);

}  // namespace bitstrata::python
