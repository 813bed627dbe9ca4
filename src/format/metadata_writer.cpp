#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

#include "core/error.h"
#include "format/metadata.h"
#include "model_generated.h"

namespace bitstrata::format {
namespace {

using flatbuffers::Offset;

static_assert(static_cast<int>(program::StepKind::kFunction) == static_cast<int>(fbs::StepKind::Function));
static_assert(static_cast<int>(program::Function::kPower) == static_cast<int>(fbs::Function::Power));

/// `value` as a T; kInvalidArgument when it does not fit.
template <typename T, typename V>
T narrow(V value, const char* what) {
  if (!std::in_range<T>(value)) {
    fail(ErrorCode::kInvalidArgument, "{} is {}, a .bst file holds {} to {} there; the network is not valid",
         what, value, std::numeric_limits<T>::min(), std::numeric_limits<T>::max());
  }
  return static_cast<T>(value);
}

std::vector<uint32_t> narrow_all(const std::vector<int64_t>& values, const char* what) {
  std::vector<uint32_t> result;
  for (const int64_t value : values) result.push_back(narrow<uint32_t>(value, what));
  return result;
}

fbs::Window window_of(const program::Window& w) {
  return {w.kernel_h,   w.kernel_w, w.stride_h, w.stride_w,   w.dilation_h,
          w.dilation_w, w.pad_top,  w.pad_left, w.pad_bottom, w.pad_right};
}

fbs::Tensor tensor_of(const program::Tensor& tensor) {
  uint32_t dims[5] = {};
  if (tensor.dims.size() > std::size(dims)) {
    fail(ErrorCode::kInvalidArgument,
         "tensor {} has {} dims, a .bst file holds at most 5; the network is not valid",
         printable(tensor.name), tensor.dims.size());
  }
  for (size_t i = 0; i < tensor.dims.size(); ++i)
    dims[i] = narrow<uint32_t>(tensor.dims[i], "dim of a tensor");
  const auto code = tensor.code.value_or(quant::CodeType{.bits = 0, .zero = 0, .scale = 0});
  return {dims, code.scale, narrow<int16_t>(code.zero, "zero of a code type"),
          narrow<uint8_t>(code.bits, "bits of a code type"), static_cast<uint8_t>(tensor.dims.size())};
}

/// Four byte planes, least significant first: bytes of equal significance resemble each other.
std::vector<uint8_t> byte_planes(const std::vector<float>& values) {
  const size_t n = values.size();
  std::vector<uint8_t> planes(4 * n);
  for (size_t i = 0; i < n; ++i) {
    const auto bits = std::bit_cast<uint32_t>(values[i]);
    for (size_t p = 0; p < 4; ++p) planes[p * n + i] = static_cast<uint8_t>(bits >> (8 * p));
  }
  return planes;
}

template <typename Table>
constexpr fbs::Kind type_of(Offset<Table>) {
  return fbs::KindTraits<Table>::enum_value;
}

/// Fills the three sections side by side; the order of the add_ calls is the order of arrays in
/// docs/format.md.
class Writer {
 public:
  explicit Writer(const program::Program& program) : program_(program) {}

  Sections write() {
    const auto constants = add_constants();
    const auto ops = add_ops();
    const auto mean_elems = add_floats(program_.mean);
    const auto std_elems = add_floats(program_.std);
    const auto tensors = add_tensors();
    add_names();
    const auto name_bytes = vector_of(name_bytes_);
    const auto name_sizes = vector_of(name_sizes_);
    const auto outputs = vector_of(program_.outputs);
    builder_.Finish(fbs::CreateModel(
        builder_, name_bytes, name_sizes, tensors, constants, ops, program_.input, outputs, mean_elems,
        std_elems, narrow<uint32_t>(program_.class_names.size(), "number of class names"),
        narrow<uint32_t>(program_.metadata.size(), "number of metadata entries")));
    const uint8_t* begin = builder_.GetBufferPointer();
    return {{begin, begin + builder_.GetSize()}, std::move(weights_), byte_planes(floats_)};
  }

 private:
  /// FlatBuffers only asserts that its 2 GiB are not exceeded.
  void expect_room(size_t size_bytes) const {
    if (size_bytes > kMaxMetadataBytes - std::min<uint64_t>(builder_.GetSize(), kMaxMetadataBytes)) {
      fail(ErrorCode::kUnsupported,
           "the network has more than {} bytes of names, indices and ops, a .bst file holds no more; "
           "shorten names and gather indices",
           kMaxMetadataBytes);
    }
  }

  template <typename T>
  Offset<flatbuffers::Vector<T>> vector_of(const std::vector<T>& values) {
    if (values.empty()) return {};
    expect_room(values.size() * sizeof(T));
    return builder_.CreateVector(values);
  }

  template <typename T>
  Offset<flatbuffers::Vector<const T*>> structs_of(const std::vector<T>& values) {
    if (values.empty()) return {};
    expect_room(values.size() * sizeof(T));
    return builder_.CreateVectorOfStructs(values);
  }

  uint32_t add_floats(const std::vector<float>& values) {
    floats_.insert(floats_.end(), values.begin(), values.end());
    return narrow<uint32_t>(values.size(), "size of a float array");
  }

  Offset<flatbuffers::Vector<const fbs::Constant*>> add_constants() {
    std::vector<fbs::Constant> constants;
    for (const auto& constant : program_.constants)
      constants.emplace_back(constant.tensor, add_floats(constant.values));
    return structs_of(constants);
  }

  Offset<flatbuffers::Vector<const fbs::Tensor*>> add_tensors() {
    std::vector<fbs::Tensor> tensors;
    for (const auto& tensor : program_.tensors) tensors.push_back(tensor_of(tensor));
    return structs_of(tensors);
  }

  void add_name(const std::string& name) {
    name_bytes_.insert(name_bytes_.end(), name.begin(), name.end());
    name_sizes_.push_back(narrow<uint32_t>(name.size(), "length of a name"));
  }

  void add_names() {
    for (const auto& tensor : program_.tensors) add_name(tensor.name);
    for (const auto& op : program_.ops) add_name(op.name);
    for (const auto& class_name : program_.class_names) add_name(class_name);
    for (const auto& [key, value] : program_.metadata) {
      add_name(key);
      add_name(value);
    }
  }

  fbs::Weights add_weights(const program::Weights& weights) {
    if (const auto* floats = std::get_if<program::FloatWeights>(&weights))
      return {add_floats(floats->values), 0, 0, 0};
    const auto& codes = std::get<program::CodeWeights>(weights);
    weights_.insert(weights_.end(), codes.packed.begin(), codes.packed.end());
    return {narrow<uint32_t>(codes.packed.size(), "size of packed weights"), codes.grid.mul,
            codes.grid.offset, narrow<uint8_t>(codes.bits, "bits of weights")};
  }

  // One add_kind per kind of op; each returns the table that the union `Kind` points to.

  auto add_kind(const program::Conv& conv) {
    const auto window = window_of(conv.window);
    const auto weights = add_weights(conv.weights);
    const auto mul_elems = add_floats(conv.mul);
    return fbs::CreateConv(builder_, &window, &weights, conv.groups, conv.oc, mul_elems,
                           add_floats(conv.add));
  }
  auto add_kind(const program::Linear& linear) {
    const auto weights = add_weights(linear.weights);
    const auto mul_elems = add_floats(linear.mul);
    return fbs::CreateLinear(builder_, &weights, linear.out, mul_elems, add_floats(linear.add));
  }
  auto add_kind(const program::AveragePool& pool) {
    const auto window = window_of(pool.window);
    return fbs::CreateAveragePool(builder_, &window, pool.count_include_pad);
  }
  auto add_kind(const program::ReduceMean& mean) {
    return fbs::CreateReduceMean(builder_, vector_of(mean.axes), mean.keep_dims);
  }
  auto add_kind(const program::Elementwise&) { return fbs::CreateElementwise(builder_); }
  auto add_kind(const program::Lookup& lookup) {
    return fbs::CreateLookup(builder_, add_floats(lookup.table));
  }
  auto add_kind(const program::Softmax& softmax) { return fbs::CreateSoftmax(builder_, softmax.axis); }
  auto add_kind(const program::MatMul&) { return fbs::CreateMatMul(builder_); }
  auto add_kind(const program::MaxPool& pool) {
    const auto window = window_of(pool.window);
    return fbs::CreateMaxPool(builder_, &window);
  }
  auto add_kind(const program::Concat& concat) { return fbs::CreateConcat(builder_, concat.axis); }
  auto add_kind(const program::Slice& slice) {
    return fbs::CreateSlice(builder_, slice.axis, slice.start, slice.step);
  }
  auto add_kind(const program::Pad& pad) {
    const auto before = vector_of(narrow_all(pad.before, "padding"));
    const auto after = vector_of(narrow_all(pad.after, "padding"));
    return fbs::CreatePad(builder_, before, after, std::bit_cast<uint32_t>(pad.value));
  }
  auto add_kind(const program::Transpose& transpose) {
    return fbs::CreateTranspose(builder_, vector_of(transpose.perm));
  }
  auto add_kind(const program::Reshape&) { return fbs::CreateReshape(builder_); }
  auto add_kind(const program::Gather& gather) {
    return fbs::CreateGather(builder_, gather.axis,
                             vector_of(narrow_all(gather.indices, "index of a gather")));
  }

  Offset<flatbuffers::Vector<const fbs::Step*>> add_steps(const std::vector<program::Step>& steps) {
    std::vector<fbs::Step> result;
    for (const auto& step : steps) {
      const auto mul_elems = add_floats(step.mul);
      const auto add_elems = add_floats(step.add);
      result.emplace_back(step.operand, step.a, step.b, mul_elems, add_elems,
                          static_cast<fbs::StepKind>(step.kind), static_cast<fbs::Function>(step.function));
    }
    return structs_of(result);
  }

  Offset<fbs::Op> add_op(const program::Op& op) {
    fbs::Kind type{};
    const auto kind = std::visit(
        [&](const auto& of_kind) -> Offset<void> {
          const auto table = add_kind(of_kind);
          type = type_of(table);
          return table.Union();
        },
        op.kind);
    const auto steps = add_steps(op.steps);
    const auto inputs = vector_of(op.inputs);
    const auto outputs = vector_of(op.outputs);
    return fbs::CreateOp(builder_, type, kind, inputs, steps, outputs);
  }

  Offset<flatbuffers::Vector<Offset<fbs::Op>>> add_ops() {
    std::vector<Offset<fbs::Op>> ops;
    for (const auto& op : program_.ops) ops.push_back(add_op(op));
    return vector_of(ops);
  }

  const program::Program& program_;
  flatbuffers::FlatBufferBuilder builder_;
  std::vector<uint8_t> weights_;
  std::vector<float> floats_;
  std::vector<uint8_t> name_bytes_;
  std::vector<uint32_t> name_sizes_;
};

}  // namespace

Sections write_program(const program::Program& program) {
  return Writer(program).write();
}

}  // namespace bitstrata::format
