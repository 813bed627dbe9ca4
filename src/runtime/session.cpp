#include "runtime/session.h"

#include <chrono>

#include "core/error.h"
#include "runtime/layout.h"
#include "runtime/model.h"
#include "runtime/parallel.h"

namespace bitstrata::runtime {
namespace {

std::shared_ptr<const PreparedModel> prepared(std::shared_ptr<const Model> model) {
  auto result = std::dynamic_pointer_cast<const PreparedModel>(std::move(model));
  if (result == nullptr)
    fail(ErrorCode::kInvalidArgument, "session without a prepared model: use Model::prepare");
  return result;
}

/// How a tensor goes to row-major order.
struct Export {
  explicit Export(const Dims& dims)
      : copy(dims, physical_strides(dims), row_major_strides(dims)),
        row_major(same_order(dims, {program::elements(dims)})) {}
  StridedCopy copy;
  bool row_major;  ///< it lies so already
};

}  // namespace

struct Session::State {
  explicit State(std::shared_ptr<const Model> shared)
      : model(prepared(std::move(shared))),
        arena(model->arena_bytes()),
        input_dims(tensor(model->program().input).dims),
        import_copy(input_dims, row_major_strides(input_dims), physical_strides(input_dims)) {
    for (TensorId id : model->program().outputs) exports.emplace_back(tensor(id).dims);
  }

  const program::Tensor& tensor(TensorId id) const {
    return model->program().tensors[static_cast<size_t>(id)];
  }

  Context context() const noexcept {
    return {arena.data(), model->constants(), model->locations(), nullptr, images};
  }

  void check(std::span<const float> input, int n, std::span<const std::span<float>> outputs) const {
    const program::Program& program = model->program();
    if (n < 1 || n > model->options().max_batch) {
      fail(ErrorCode::kBadInput, "run: found {} images, expected 1 to {}", n, model->options().max_batch);
    }
    const auto expected = [&](TensorId id) {
      return static_cast<size_t>(n) * static_cast<size_t>(program::elements(tensor(id).dims));
    };
    if (input.size() != expected(program.input)) {
      fail(ErrorCode::kBadInput, "run: found {} input values for {} images, expected {}", input.size(), n,
           expected(program.input));
    }
    if (outputs.size() != program.outputs.size()) {
      fail(ErrorCode::kBadInput, "run: found {} outputs, expected {}", outputs.size(),
           program.outputs.size());
    }
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i].size() == expected(program.outputs[i])) continue;
      fail(ErrorCode::kBadInput, "run: found room for {} values of output {}, expected {}", outputs[i].size(),
           i, expected(program.outputs[i]));
    }
  }

  void import_input(const float* input) const noexcept {
    const int64_t elems = program::elements(input_dims);
    float* target = context().data<float>(model->program().input);
    parallel_for(model->options().threads, images,
                 [&](int64_t image, int) { import_copy.run(input + image * elems, target + image * elems); });
  }

  /// Values of one image in row-major order.
  void export_values(TensorId id, const Export& how, int64_t image, float* target) const noexcept {
    const program::Tensor& source = tensor(id);
    const int64_t elems = program::elements(source.dims);
    if (!source.code) {
      how.copy.run(context().data<float>(id) + image * elems, target);
      return;
    }
    const uint8_t* codes = context().data<uint8_t>(id) + image * elems;
    if (how.row_major) {
      model->ops().load(codes, source.code->zero, source.code->scale, target, static_cast<size_t>(elems));
      return;
    }
    const int64_t channels = source.dims[0], pixels = elems / channels;
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t i = 0; i < pixels; ++i)
        *target++ = quant::dequantize(codes[i * channels + c], *source.code);
    }
  }

  void export_outputs(std::span<const std::span<float>> outputs) const noexcept {
    const program::Program& program = model->program();
    for (size_t i = 0; i < outputs.size(); ++i) {
      const int64_t elems = program::elements(tensor(program.outputs[i]).dims);
      parallel_for(model->options().threads, images, [&](int64_t image, int) {
        export_values(program.outputs[i], exports[i], image, outputs[i].data() + image * elems);
      });
    }
  }

  void check_kept(TensorId id, int image) const {
    if (!model->options().keep_all_tensors) {
      fail(ErrorCode::kInvalidArgument, "reading tensors needs a model prepared with keep_all_tensors");
    }
    if (id < 0 || static_cast<size_t>(id) >= model->program().tensors.size()) {
      fail(ErrorCode::kNotFound, "found tensor {}, expected 0 to {}", id, model->program().tensors.size());
    }
    if (image < 0 || image >= images)
      fail(ErrorCode::kInvalidArgument, "found image {} of a run of {}", image, images);
  }

  std::shared_ptr<const PreparedModel> model;
  AlignedBuffer arena;
  int images = 0;  ///< of the last run
  Dims input_dims;
  StridedCopy import_copy;
  std::vector<Export> exports;
};

Session::Session(std::shared_ptr<const Model> model) : state_(std::make_unique<State>(std::move(model))) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

void Session::run(std::span<const float> input, int n, std::span<const std::span<float>> outputs) {
  state_->check(input, n, outputs);
  state_->images = n;
  state_->import_input(input.data());
  const Context context = state_->context();
  for (size_t i = 0; i < state_->model->program().ops.size(); ++i) state_->model->run_op(i, context);
  state_->export_outputs(outputs);
}

void Session::run(std::span<const float> input, int n, std::span<float> output) {
  run(input, n, std::span(&output, 1));
}

std::vector<OpTime> Session::profile(std::span<const float> input, int n,
                                     std::span<const std::span<float>> outputs) {
  state_->check(input, n, outputs);
  state_->images = n;
  state_->import_input(input.data());
  const Context context = state_->context();
  std::vector<OpTime> times;
  for (size_t i = 0; i < state_->model->program().ops.size(); ++i) {
    const auto start = std::chrono::steady_clock::now();
    state_->model->run_op(i, context);
    const std::chrono::duration<double, std::milli> elapsed = std::chrono::steady_clock::now() - start;
    times.push_back({i, elapsed.count()});
  }
  state_->export_outputs(outputs);
  return times;
}

std::vector<uint8_t> Session::codes(program::TensorId id, int image) const {
  state_->check_kept(id, image);
  const program::Tensor& tensor = state_->tensor(id);
  if (!tensor.code)
    fail(ErrorCode::kNotFound, "tensor '{}' is float32 and has no codes", printable(tensor.name));
  std::vector<uint8_t> codes(static_cast<size_t>(program::elements(tensor.dims)));
  Export(tensor.dims)
      .copy.run(state_->context().data<uint8_t>(id) + static_cast<size_t>(image) * codes.size(),
                codes.data());
  return codes;
}

std::vector<float> Session::values(program::TensorId id, int image) const {
  state_->check_kept(id, image);
  for (const program::Constant& constant : state_->model->program().constants) {
    if (constant.tensor == id) return constant.values;
  }
  const program::Tensor& tensor = state_->tensor(id);
  std::vector<float> values(static_cast<size_t>(program::elements(tensor.dims)));
  state_->export_values(id, Export(tensor.dims), image, values.data());
  return values;
}

const Model& Session::model() const noexcept {
  return *state_->model;
}

}  // namespace bitstrata::runtime
