// bitstrata._runtime: Model, Session, Tensor, Layer, Error. __init__.pyi describes them.
#include <pybind11/stl.h>

#include <atomic>
#include <optional>

#include "arrays.h"

namespace bitstrata::python {
namespace {

std::string path_of(const py::object& value) {
  const auto path = py::module_::import("os").attr("fsencode")(value).cast<std::string>();
  if (path.find('\0') != std::string::npos) refuse("path: found a zero byte in it");
  return path;
}

Model load(const py::object& source, int threads, int max_batch, const std::optional<std::string>& isa,
           const std::optional<std::string>& kernels, const py::object& kernel_times) {
  Options options{threads, max_batch, isa.value_or(""), kernels.value_or(""), std::nullopt};
  if (!kernel_times.is_none()) options.kernel_times = path_of(kernel_times);
  if (py::isinstance<py::bytes>(source)) {
    const std::string_view bytes = py::reinterpret_borrow<py::bytes>(source);
    const py::gil_scoped_release unlocked;
    return Model::load(std::as_bytes(std::span(bytes)), options);
  }
  const std::string path = path_of(source);
  const py::gil_scoped_release unlocked;
  return Model::load(path, options);
}

std::vector<Tensor> outputs(const Model& model) {
  std::vector<Tensor> tensors;
  for (size_t i = 0; i < model.info().output_count; ++i) tensors.push_back(model.output(i));
  return tensors;
}

std::vector<Layer> layers(const Model& model) {
  std::vector<Layer> all;
  for (size_t i = 0; i < model.info().layer_count; ++i) all.push_back(model.layer(i));
  return all;
}

std::vector<std::string> class_names(const Model& model) {
  std::vector<std::string> names;
  for (size_t i = 0; i < model.info().class_count; ++i) names.push_back(model.class_name(i));
  return names;
}

/// A session that notices when two threads enter it at once, which Python cannot rule out.
class GuardedSession {
 public:
  explicit GuardedSession(const Model& model)
      : session_(model), input_(model.input()), outputs_(outputs(model)) {}

  py::object run(const py::object& images, const py::object& out) {
    const py::array input = images_of(images, input_.dims);
    std::vector<py::array> arrays = outputs_of(out, outputs_, input.shape(0));
    std::vector<std::span<float>> rooms;
    for (py::array& array : arrays) rooms.push_back(room_of(array));
    run(static_cast<size_t>(input.shape(0)), values_of(input), rooms);
    if (arrays.size() == 1) return arrays.front();
    return py::cast(arrays);
  }

 private:
  void run(size_t n, std::span<const float> input, std::span<const std::span<float>> rooms) {
    struct Turn {
      explicit Turn(std::atomic_flag& flag) : busy(flag), is_mine(!flag.test_and_set()) {}
      ~Turn() {
        if (is_mine) busy.clear();
      }
      std::atomic_flag& busy;
      const bool is_mine;
    } turn(busy_);
    if (!turn.is_mine)
      throw Error(BITSTRATA_INVALID_ARGUMENT,
                  "run: another thread is in this session; give each thread its own");
    const py::gil_scoped_release unlocked;
    session_.run(n, input, rooms);
  }

  Session session_;
  Tensor input_;
  std::vector<Tensor> outputs_;
  std::atomic_flag busy_;
};

void add_tensor_and_layer(py::module_& module) {
  py::class_<Tensor>(module, "Tensor")
      .def_readonly("name", &Tensor::name)
      .def_property_readonly("shape", [](const Tensor& tensor) { return py::tuple(py::cast(tensor.dims)); })
      .def("__repr__", [](const Tensor& tensor) {
        return py::str("Tensor({!r}, {})").format(tensor.name, py::tuple(py::cast(tensor.dims)));
      });
  py::class_<Layer>(module, "Layer")
      .def_readonly("name", &Layer::name)
      .def_readonly("op", &Layer::op)
      .def_readonly("kernel", &Layer::kernel)
      .def_readonly("weight_bits", &Layer::weight_bits)
      .def_readonly("activation_bits", &Layer::activation_bits)
      .def_readonly("macs", &Layer::macs)
      .def_readonly("weight_count", &Layer::weight_count)
      .def_readonly("weight_bytes", &Layer::weight_bytes)
      .def("__repr__", [](const Layer& layer) {
        return py::str("Layer({!r}, {}, w{} a{}, {})")
            .format(layer.name, layer.op, layer.weight_bits, layer.activation_bits, layer.kernel);
      });
}

void add_model_and_session(py::module_& module) {
  py::class_<Model>(module, "Model")
      .def(py::init(&load), py::arg("source"), py::kw_only(), py::arg("threads") = 1,
           py::arg("max_batch") = 1, py::arg("isa") = py::none(), py::arg("kernels") = py::none(),
           py::arg("kernel_times") = py::none())
      .def_property_readonly("input", [](const Model& model) { return model.input(); })
      .def_property_readonly("outputs", &outputs)
      .def_property_readonly("layers", &layers)
      .def_property_readonly("class_names", &class_names)
      .def_property_readonly("mean", [](const Model& model) { return model.normalization().mean; })
      .def_property_readonly("std", [](const Model& model) { return model.normalization().std; })
      .def_property_readonly("macs", [](const Model& model) { return model.info().macs; })
      .def_property_readonly("weight_bytes", [](const Model& model) { return model.info().weight_bytes; })
      .def_property_readonly("arena_bytes", [](const Model& model) { return model.info().arena_bytes; })
      .def_property_readonly("threads", [](const Model& model) { return model.info().threads; })
      .def_property_readonly("max_batch", [](const Model& model) { return model.info().max_batch; })
      .def_property_readonly("isa", [](const Model& model) { return model.info().isa; });
  py::class_<GuardedSession>(module, "Session")
      .def(py::init<const Model&>(), py::arg("model"))
      .def("run", py::overload_cast<const py::object&, const py::object&>(&GuardedSession::run),
           py::arg("images"), py::arg("out") = py::none());
}

}  // namespace

PYBIND11_MODULE(_runtime, module) {
  module.attr("__version__") = bitstrata_version();
  module.attr("format_version") = bitstrata_format_version();

  // Lives as long as the interpreter: the translator has no other way to it.
  static PyObject* const error_type = PyErr_NewException("bitstrata.Error", PyExc_RuntimeError, nullptr);
  module.attr("Error") = py::handle(error_type);
  py::register_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const Error& error) {
      // Not UTF-8 where a path in the message is not.
      const auto message = py::reinterpret_steal<py::object>(
          PyUnicode_DecodeUTF8(error.what(), static_cast<Py_ssize_t>(std::strlen(error.what())), "replace"));
      const py::object instance = py::handle(error_type)(message);
      instance.attr("code") = error.code_name();
      PyErr_SetObject(error_type, instance.ptr());
    }
  });

  add_tensor_and_layer(module);
  add_model_and_session(module);
}

}  // namespace bitstrata::python
