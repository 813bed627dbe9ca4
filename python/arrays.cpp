#include "arrays.h"

#include <cstdint>

namespace bitstrata::python {
namespace {

std::string text(const py::handle& value) {
  return py::str(value).cast<std::string>();
}

std::string describe(const py::array& array) {
  return text(array.dtype()) + " " + text(array.attr("shape"));
}

std::string describe(const char* first, const std::vector<int64_t>& shape) {
  std::string line = std::string("float32 (") + first;
  for (int64_t dim : shape) line += ", " + std::to_string(dim);
  return line + ")";
}

bool is_float32(const py::array& array) {
  return py::isinstance<py::array_t<float>>(array);
}

bool has_images(const py::array& array, const std::vector<int64_t>& shape) {
  if (array.ndim() != static_cast<py::ssize_t>(shape.size()) + 1) return false;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (array.shape(static_cast<py::ssize_t>(i) + 1) != shape[i]) return false;
  }
  return true;
}

bool is_plain(const py::array& array) {
  return (array.flags() & py::array::c_style) != 0 &&
         reinterpret_cast<uintptr_t>(array.data()) % alignof(float) == 0;
}

py::array checked_output(const py::handle& value, const Tensor& output, py::ssize_t n) {
  const std::string expected =
      describe(std::to_string(n).c_str(), output.dims) + ", C-contiguous and writable";
  if (!py::isinstance<py::array>(value))
    refuse("out: found " + text(py::type::of(value)) + ", expected " + expected);
  auto array = py::reinterpret_borrow<py::array>(value);
  if (!is_float32(array) || !has_images(array, output.dims) || array.shape(0) != n || !is_plain(array) ||
      !array.writeable()) {
    refuse("out '" + output.name + "': found " + describe(array) + ", expected " + expected);
  }
  return array;
}

}  // namespace

void refuse(const std::string& message) {
  throw Error(BITSTRATA_BAD_INPUT, message.c_str());
}

py::array images_of(const py::object& value, const std::vector<int64_t>& shape) {
  if (!py::isinstance<py::array>(value))
    refuse("images: found " + text(py::type::of(value)) + ", expected a NumPy array " + describe("n", shape));
  const auto array = value.cast<py::array>();
  if (!is_float32(array) || !has_images(array, shape))
    refuse("images: found " + describe(array) + ", expected " + describe("n", shape));
  return is_plain(array) ? array : py::array_t<float, py::array::c_style>(array.attr("copy")("C"));
}

std::vector<py::array> outputs_of(const py::object& out, const std::vector<Tensor>& outputs, py::ssize_t n) {
  std::vector<py::array> arrays;
  if (out.is_none()) {
    for (const Tensor& output : outputs) {
      std::vector<py::ssize_t> shape = {n};
      shape.insert(shape.end(), output.dims.begin(), output.dims.end());
      arrays.push_back(py::array_t<float>(shape));
    }
    return arrays;
  }
  const bool is_list = py::isinstance<py::sequence>(out) && !py::isinstance<py::array>(out);
  const py::list given = is_list ? py::list(out) : py::list(py::make_tuple(out));
  if (given.size() != outputs.size()) {
    refuse("out: found " + std::to_string(given.size()) + " arrays, expected " +
           std::to_string(outputs.size()));
  }
  for (size_t i = 0; i < outputs.size(); ++i) arrays.push_back(checked_output(given[i], outputs[i], n));
  return arrays;
}

std::span<const float> values_of(const py::array& array) {
  return {static_cast<const float*>(array.data()), static_cast<size_t>(array.size())};
}

std::span<float> room_of(py::array& array) {
  return {static_cast<float*>(array.mutable_data()), static_cast<size_t>(array.size())};
}

}  // namespace bitstrata::python
