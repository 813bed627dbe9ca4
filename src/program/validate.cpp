#include "program/validate.h"

#include <cmath>
#include <unordered_set>

#include "core/error.h"

namespace bitstrata::program {
namespace {

constexpr ErrorCode kCorrupt = ErrorCode::kCorruptFile;

class Validator {
 public:
  explicit Validator(const Program& program) : program_(program), defined_(program.tensors.size(), 0) {}

  void run() {
    if (program_.tensors.size() > static_cast<size_t>(kMaxElements))
      fail(kCorrupt, "program: too many tensors");
    for (size_t i = 0; i < program_.tensors.size(); ++i) check_tensor(i);
    check_input();
    for (const Constant& constant : program_.constants) check_constant(constant);
    for (const Op& op : program_.ops) check_op(op);
    check_outputs();
    for (size_t i = 0; i < defined_.size(); ++i) {
      if (!defined_[i])
        fail(kCorrupt, "tensor {} '{}': found no op, constant or input that writes it", i, name(i));
    }
  }

 private:
  std::string name(size_t id) const { return printable(program_.tensors[id].name); }

  bool in_range(TensorId id) const { return id >= 0 && static_cast<size_t>(id) < program_.tensors.size(); }

  void check_tensor(size_t id) const {
    const Tensor& tensor = program_.tensors[id];
    if (tensor.dims.empty() || tensor.dims.size() > 5) {
      fail(kCorrupt, "tensor {} '{}': found rank {}, expected 1 to 5", id, name(id), tensor.dims.size());
    }
    int64_t product = 1;
    for (int64_t dim : tensor.dims) {
      if (dim < 1 || dim > kMaxElements / product) {
        fail(kCorrupt, "tensor {} '{}': found dims {}, expected dims >= 1 and at most {} elements", id,
             name(id), detail::text(tensor.dims), kMaxElements);
      }
      product *= dim;
    }
    if (!tensor.code) return;
    const quant::CodeType& code = *tensor.code;
    if (code.bits < 1 || code.bits > 8) {
      fail(kCorrupt, "tensor {} '{}': found codes of {} bits, expected 1 to 8", id, name(id), code.bits);
    }
    if (code.zero > 0 || code.zero < -code.max_code()) {
      fail(kCorrupt, "tensor {} '{}': found zero point {}, expected {} to 0", id, name(id), code.zero,
           -code.max_code());
    }
    // A finite reciprocal too: store multiplies with it.
    if (!(code.scale > 0) || !std::isfinite(code.scale) || !std::isfinite(code.inverse_scale())) {
      fail(kCorrupt,
           "tensor {} '{}': found scale {}, expected a positive finite number with a finite reciprocal", id,
           name(id), code.scale);
    }
  }

  void check_input() {
    if (!in_range(program_.input)) {
      fail(kCorrupt, "program: found input tensor {}, expected 0 to {}", program_.input,
           program_.tensors.size());
    }
    const auto id = static_cast<size_t>(program_.input);
    const Tensor& input = program_.tensors[id];
    if (input.code) fail(kCorrupt, "program: input tensor '{}' holds codes, expected float32", name(id));
    defined_[id] = 1;
    const auto channels = static_cast<size_t>(input.dims[0]);
    for (const auto* values : {&program_.mean, &program_.std}) {
      if (!values->empty() && values->size() != channels) {
        fail(kCorrupt, "program: found normalisation of {} channels, expected {}", values->size(), channels);
      }
      for (float value : *values) {
        if (!std::isfinite(value) || (values == &program_.std && !(value > 0))) {
          fail(kCorrupt, "program: found normalisation value {}, expected finite numbers, std above 0",
               value);
        }
      }
    }
    if (program_.mean.size() != program_.std.size()) {
      fail(kCorrupt, "program: found {} normalisation means and {} deviations, expected as many",
           program_.mean.size(), program_.std.size());
    }
  }

  void define(TensorId id, const std::string& where) {
    if (!in_range(id)) {
      fail(kCorrupt, "{}: found tensor {}, expected 0 to {}", where, id, program_.tensors.size());
    }
    const auto index = static_cast<size_t>(id);
    if (defined_[index]) fail(kCorrupt, "{}: tensor {} '{}' is written twice", where, id, name(index));
    defined_[index] = 1;
  }

  void check_constant(const Constant& constant) {
    define(constant.tensor, "constant");
    const auto id = static_cast<size_t>(constant.tensor);
    const Tensor& tensor = program_.tensors[id];
    if (tensor.code) fail(kCorrupt, "constant '{}': found a tensor of codes, expected float32", name(id));
    if (constant.values.size() != static_cast<size_t>(elements(tensor.dims))) {
      fail(kCorrupt, "constant '{}': found {} values, expected {}", name(id), constant.values.size(),
           elements(tensor.dims));
    }
    for (float value : constant.values) {
      if (!std::isfinite(value))
        fail(kCorrupt, "constant '{}': found {}, expected finite values", name(id), value);
    }
  }

  void check_read(TensorId id, const std::string& where) const {
    if (!in_range(id)) {
      fail(kCorrupt, "{}: found tensor {}, expected 0 to {}", where, id, program_.tensors.size());
    }
    if (!defined_[static_cast<size_t>(id)]) {
      fail(kCorrupt, "{}: tensor {} '{}' is read before it is written", where, id,
           name(static_cast<size_t>(id)));
    }
  }

  void check_op(const Op& op) {
    const std::string where = fmt::format("op '{}' ({})", printable(op.name), to_string(op.kind));
    if (!names_.insert(op.name).second)
      fail(kCorrupt, "{}: found another op of this name, expected unique names", where);
    for (TensorId id : op.inputs) check_read(id, where);
    for (const Step& step : op.steps) {
      if (step.operand != -1) check_read(step.operand, where);
    }
    if (op.outputs.empty()) fail(kCorrupt, "{}: found no output, expected one or more", where);
    for (TensorId id : op.outputs) define(id, where);
    detail::validate_op(program_, op);
  }

  void check_outputs() const {
    if (program_.outputs.empty()) fail(kCorrupt, "program: found no output, expected one or more");
    std::unordered_set<TensorId> seen;
    for (TensorId id : program_.outputs) {
      check_read(id, "program output");
      if (!seen.insert(id).second) fail(kCorrupt, "program: tensor {} is an output twice", id);
    }
  }

  const Program& program_;
  std::vector<char> defined_;
  std::unordered_set<std::string> names_;
};

}  // namespace

void validate(const Program& program) {
  Validator(program).run();
}

}  // namespace bitstrata::program
