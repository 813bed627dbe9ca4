#include "runtime/model.h"

#include <algorithm>

#include "core/error.h"
#include "runtime/layout.h"

namespace bitstrata::runtime {
namespace {

constexpr int kMaxThreads = 1024, kMaxBatch = 1 << 16;

void check(const Options& options) {
  if (options.threads < 1 || options.threads > kMaxThreads) {
    fail(ErrorCode::kInvalidArgument, "found {} threads, expected 1 to {}", options.threads, kMaxThreads);
  }
  if (options.max_batch < 1 || options.max_batch > kMaxBatch) {
    fail(ErrorCode::kInvalidArgument, "found a batch of {} images, expected 1 to {}", options.max_batch,
         kMaxBatch);
  }
  const std::vector<Isa>& isas = available_isas();
  if (std::find(isas.begin(), isas.end(), options.isa) == isas.end()) {
    fail(ErrorCode::kUnsupported, "this machine lacks the instruction set '{}'", to_string(options.isa));
  }
}

std::unique_ptr<Executor> make_executor(const Preparation& p, const program::Op& op) {
  struct Maker {
    const Preparation& p;
    const program::Op& op;
    std::unique_ptr<Executor> operator()(const program::Conv&) const { return make_layer(p, op); }
    std::unique_ptr<Executor> operator()(const program::Linear&) const { return make_layer(p, op); }
    std::unique_ptr<Executor> operator()(const program::AveragePool&) const { return make_pool(p, op); }
    std::unique_ptr<Executor> operator()(const program::ReduceMean&) const { return make_pool(p, op); }
    std::unique_ptr<Executor> operator()(const program::MaxPool&) const { return make_pool(p, op); }
    std::unique_ptr<Executor> operator()(const program::Elementwise&) const {
      return make_elementwise(p, op);
    }
    std::unique_ptr<Executor> operator()(const program::Lookup&) const { return make_elementwise(p, op); }
    std::unique_ptr<Executor> operator()(const program::Softmax&) const { return make_float_op(p, op); }
    std::unique_ptr<Executor> operator()(const program::MatMul&) const { return make_float_op(p, op); }
    std::unique_ptr<Executor> operator()(const program::Concat&) const { return make_movement(p, op); }
    std::unique_ptr<Executor> operator()(const program::Slice&) const { return make_movement(p, op); }
    std::unique_ptr<Executor> operator()(const program::Pad&) const { return make_movement(p, op); }
    std::unique_ptr<Executor> operator()(const program::Transpose&) const { return make_movement(p, op); }
    std::unique_ptr<Executor> operator()(const program::Reshape&) const { return make_movement(p, op); }
    std::unique_ptr<Executor> operator()(const program::Gather&) const { return make_movement(p, op); }
  };
  return std::visit(Maker{p, op}, op.kind);
}

int64_t packed_bytes(const program::Program& program) {
  int64_t bytes = 0;
  for (const program::Op& op : program.ops) {
    const program::Weights* weights = nullptr;
    if (const auto* conv = std::get_if<program::Conv>(&op.kind)) weights = &conv->weights;
    if (const auto* linear = std::get_if<program::Linear>(&op.kind)) weights = &linear->weights;
    const auto* codes = weights ? std::get_if<program::CodeWeights>(weights) : nullptr;
    if (codes) bytes += static_cast<int64_t>(codes->packed.size());
  }
  return bytes;
}

program::Program validated(program::Program program) {
  program::validate(program);
  return program;
}

}  // namespace

AlignedBuffer::AlignedBuffer(size_t bytes) {
  try {
    bytes_.reset(static_cast<std::byte*>(
        ::operator new[](std::max(bytes, kAlignmentBytes), std::align_val_t{kAlignmentBytes})));
  } catch (const std::bad_alloc&) {
    fail(ErrorCode::kUnsupported,
         "the network needs {} bytes of memory, which this machine does not give; try a smaller batch",
         bytes);
  }
}

std::shared_ptr<const Model> Model::prepare(program::Program program, const Options& options) {
  try {
    check(options);
    return std::make_shared<PreparedModel>(std::move(program), options);
  } catch (const std::bad_alloc&) {
    fail(ErrorCode::kUnsupported, "not enough memory to prepare the network; try a smaller batch");
  }
}

PreparedModel::PreparedModel(program::Program program, const Options& options)
    : program_(validated(std::move(program))),
      options_(options),
      ops_(row_ops(options.isa)),
      locations_(program_.tensors.size()),
      constants_(place_constants()) {
  fill_constants();
  prepare_ops();
  plan();
}

// A constant that is read like an activation lies there once per image of the batch, as activations do. Step
// operands are kept by their steps.
size_t PreparedModel::place_constants() {
  std::vector<char> read_as_tensor(program_.tensors.size(), 0);
  for (const program::Op& op : program_.ops) {
    for (TensorId id : op.inputs) read_as_tensor[static_cast<size_t>(id)] = 1;
  }
  for (TensorId id : program_.outputs) read_as_tensor[static_cast<size_t>(id)] = 1;
  std::vector<Block> blocks;
  for (const program::Constant& constant : program_.constants) {
    const auto id = static_cast<size_t>(constant.tensor);
    locations_[id].constant = true;
    const size_t images = read_as_tensor[id] ? static_cast<size_t>(options_.max_batch) : 0;
    blocks.push_back({images * constant.values.size() * sizeof(float), 0, 0});
  }
  const size_t bytes = plan_memory(blocks);
  for (size_t i = 0; i < blocks.size(); ++i) {
    locations_[static_cast<size_t>(program_.constants[i].tensor)].offset_bytes =
        blocks[i].size_bytes == 0 ? bytes : blocks[i].offset_bytes;
  }
  constant_bytes_ = bytes;
  return bytes;
}

void PreparedModel::fill_constants() {
  for (const program::Constant& constant : program_.constants) {
    const auto id = static_cast<size_t>(constant.tensor);
    if (locations_[id].offset_bytes == constant_bytes_) continue;
    const Dims& dims = program_.tensors[id].dims;
    const StridedCopy copy(dims, row_major_strides(dims), physical_strides(dims));
    auto* target = reinterpret_cast<float*>(constants_.data() + locations_[id].offset_bytes);
    for (int image = 0; image < options_.max_batch; ++image, target += constant.values.size()) {
      copy.run(constant.values.data(), target);
    }
  }
}

void PreparedModel::prepare_ops() {
  std::optional<KernelTimes> times;
  if (options_.kernel_times) times.emplace(*options_.kernel_times);
  Preparation preparation{program_,
                          options_,
                          ops_,
                          times ? &*times : nullptr,
                          packed_bytes(program_),
                          std::vector<const std::vector<float>*>(program_.tensors.size(), nullptr)};
  for (const program::Constant& constant : program_.constants) {
    preparation.constants[static_cast<size_t>(constant.tensor)] = &constant.values;
  }
  for (const program::Op& op : program_.ops) {
    const bool alias = is_alias(program_, op) && !locations_[static_cast<size_t>(op.inputs[0])].constant;
    executors_.push_back(alias ? nullptr : make_executor(preparation, op));
    kernel_names_.push_back(alias ? "-" : executors_.back()->kernel_name());
    kernel_times_.push_back(alias ? std::vector<KernelTime>() : executors_.back()->kernel_times());
  }
  if (times) times->save();
}

// Step 0 is the conversion of the input, step i + 1 is op i, the last one reads the outputs.
void PreparedModel::plan() {
  const size_t tensors = program_.tensors.size(), last_step = program_.ops.size() + 1;
  blocks_.resize(tensors);
  std::vector<size_t> root(tensors);
  for (size_t i = 0; i < tensors; ++i) root[i] = i;
  const auto create = [&](TensorId id, size_t step) {
    const program::Tensor& tensor = program_.tensors[static_cast<size_t>(id)];
    const size_t images =
        static_cast<size_t>(options_.max_batch) * (tensor.code ? sizeof(uint8_t) : sizeof(float));
    blocks_[static_cast<size_t>(id)] = {static_cast<size_t>(program::elements(tensor.dims)) * images, step,
                                        step};
  };
  const auto read = [&](TensorId id, size_t step) {
    Block& block = blocks_[root[static_cast<size_t>(id)]];
    block.last = std::max(block.last, step);
  };
  create(program_.input, 0);
  for (size_t i = 0; i < program_.ops.size(); ++i) {
    const program::Op& op = program_.ops[i];
    for (TensorId id : op.inputs) read(id, i + 1);
    for (const program::Step& step : op.steps) {
      if (step.operand >= 0) read(step.operand, i + 1);
    }
    if (executors_[i] == nullptr)
      root[static_cast<size_t>(op.outputs[0])] = root[static_cast<size_t>(op.inputs[0])];
    else
      for (TensorId id : op.outputs) create(id, i + 1);
  }
  for (TensorId id : program_.outputs) read(id, last_step);
  if (options_.keep_all_tensors) {
    for (Block& block : blocks_) block.first = 0, block.last = last_step;
  }
  for (size_t i = 0; i < executors_.size(); ++i) {
    blocks_.push_back({executors_[i] ? executors_[i]->scratch_bytes() : 0, i + 1, i + 1});
  }
  arena_bytes_ = plan_memory(blocks_);
  for (size_t i = 0; i < tensors; ++i) {
    if (!locations_[i].constant) locations_[i].offset_bytes = blocks_[root[i]].offset_bytes;
  }
  for (size_t i = 0; i < executors_.size(); ++i)
    scratch_offsets_.push_back(blocks_[tensors + i].offset_bytes);
}

void PreparedModel::run_op(size_t index, Context context) const noexcept {
  if (executors_[index] == nullptr) return;
  context.scratch = context.arena + scratch_offsets_[index];
  executors_[index]->run(context);
}

}  // namespace bitstrata::runtime
