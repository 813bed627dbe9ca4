#include <bit>
#include <type_traits>
#include <utility>

#include "core/error.h"
#include "format/metadata.h"
#include "model_generated.h"

namespace bitstrata::format {
namespace {

/// Smallest space that one op takes in the buffer besides its vectors: its table, its kind's table and the
/// reference to it.
constexpr uint64_t kMinOpBytes = 24;
constexpr flatbuffers::uoffset_t kMaxDepth = 8;

template <typename T>
size_t size_of(const flatbuffers::Vector<T>* vector) {
  return vector == nullptr ? 0 : vector->size();
}

program::Window window_of(const fbs::Window& w) {
  return {.kernel_h = w.kernel_h(),
          .kernel_w = w.kernel_w(),
          .stride_h = w.stride_h(),
          .stride_w = w.stride_w(),
          .dilation_h = w.dilation_h(),
          .dilation_w = w.dilation_w(),
          .pad_top = w.pad_top(),
          .pad_left = w.pad_left(),
          .pad_bottom = w.pad_bottom(),
          .pad_right = w.pad_right()};
}

/// Reads the three sections side by side, in the order of docs/format.md.
class Reader {
 public:
  Reader(const Sections& sections, const std::string& name)
      : sections_(sections), name_(name), vector_bytes_left_(sections.metadata.size()) {}

  program::Program read() {
    const fbs::Model& model = verified();
    if (sections_.floats.size() % sizeof(float) != 0)
      damaged("section floats has {} bytes, expected a multiple of 4", sections_.floats.size());
    program::Program program;
    read_tensors(model, program);
    read_constants(model, program);
    read_ops(model, program);
    program.input = model.input();
    program.outputs = vector_of<program::TensorId>(model.outputs());
    program.mean = floats(model.mean_elems());
    program.std = floats(model.std_elems());
    read_names(model, program);
    if (floats_read_ * sizeof(float) != sections_.floats.size()) {
      damaged("section floats has {} bytes, its arrays take {}", sections_.floats.size(),
              floats_read_ * sizeof(float));
    }
    if (weight_bytes_read_ != sections_.weights.size()) {
      damaged("section weights has {} bytes, its arrays take {}", sections_.weights.size(),
              weight_bytes_read_);
    }
    return program;
  }

 private:
  template <typename... Args>
  [[noreturn]] void damaged(fmt::format_string<Args...> pattern, Args&&... args) const {
    fail(ErrorCode::kCorruptFile, "{}: {}; make the file again", name_,
         fmt::format(pattern, std::forward<Args>(args)...));
  }

  const fbs::Model& verified() const {
    const auto& bytes = sections_.metadata;
    flatbuffers::Verifier::Options options;
    options.max_depth = kMaxDepth;
    options.max_tables = static_cast<flatbuffers::uoffset_t>(bytes.size() / 16 + 1);
    // std::vector's memory is aligned for every scalar, so alignment inside the buffer is checked too.
    flatbuffers::Verifier verifier(bytes.data(), bytes.size(), options);
    if (!fbs::VerifyModelBuffer(verifier))
      damaged("section metadata ({} bytes) is not a valid FlatBuffer", bytes.size());
    return *fbs::GetModel(bytes.data());
  }

  /// Counts what is copied out of the buffer: one vector may be referred to many times, but a real buffer
  /// holds each one once.
  void charge(uint64_t bytes) {
    if (bytes > vector_bytes_left_)
      damaged("the vectors of section metadata together exceed its {} bytes", sections_.metadata.size());
    vector_bytes_left_ -= bytes;
  }

  template <typename To, typename From>
  std::vector<To> vector_of(const flatbuffers::Vector<From>* vector) {
    static_assert(sizeof(From) <= sizeof(uint32_t),
                  "the Verifier does not check the alignment of larger elements");
    charge(size_of(vector) * sizeof(From));
    std::vector<To> values;
    values.reserve(size_of(vector));
    for (size_t i = 0; i < size_of(vector); ++i)
      values.push_back(vector->Get(static_cast<flatbuffers::uoffset_t>(i)));
    return values;
  }

  std::vector<float> floats(uint32_t count_elems) {
    const size_t n = sections_.floats.size() / sizeof(float);
    if (count_elems > n - floats_read_) {
      damaged("section floats holds {} elements, an array of {} starts at {}", n, count_elems, floats_read_);
    }
    std::vector<float> values(count_elems);
    for (size_t i = 0; i < count_elems; ++i) {
      uint32_t bits = 0;
      for (size_t p = 0; p < 4; ++p)
        bits |= static_cast<uint32_t>(sections_.floats[p * n + floats_read_ + i]) << (8 * p);
      values[i] = std::bit_cast<float>(bits);
    }
    floats_read_ += count_elems;
    return values;
  }

  program::Weights weights_of(const fbs::Weights& weights) {
    if (weights.bits() == 0) {
      if (weights.grid_mul() != 0 || weights.grid_offset() != 0)
        damaged("float weights have an integer grid");
      return program::FloatWeights{floats(weights.size())};
    }
    const size_t size_bytes = weights.size();
    if (size_bytes > sections_.weights.size() - weight_bytes_read_) {
      damaged("section weights holds {} bytes, an array of {} starts at {}", sections_.weights.size(),
              size_bytes, weight_bytes_read_);
    }
    const auto* begin = sections_.weights.data() + weight_bytes_read_;
    weight_bytes_read_ += size_bytes;
    return program::CodeWeights{.bits = weights.bits(),
                                .grid = {weights.grid_mul(), weights.grid_offset()},
                                .packed = {begin, begin + size_bytes}};
  }

  void read_tensors(const fbs::Model& model, program::Program& program) {
    charge(size_of(model.tensors()) * sizeof(fbs::Tensor));
    for (size_t i = 0; i < size_of(model.tensors()); ++i) {
      const fbs::Tensor& from = *model.tensors()->Get(static_cast<flatbuffers::uoffset_t>(i));
      if (from.rank() > from.dims()->size())
        damaged("tensor {} has rank {}, expected at most 5", i, from.rank());
      program::Tensor& tensor = program.tensors.emplace_back();
      for (uint16_t d = 0; d < from.dims()->size(); ++d) {
        if (d < from.rank()) {
          tensor.dims.push_back(from.dims()->Get(d));
        } else if (from.dims()->Get(d) != 0) {
          damaged("tensor {} of rank {} has a dim beyond it", i, from.rank());
        }
      }
      if (from.bits() != 0) {
        tensor.code = quant::CodeType{.bits = from.bits(), .zero = from.zero(), .scale = from.scale()};
      } else if (from.zero() != 0 || std::bit_cast<uint32_t>(from.scale()) != 0) {
        damaged("float tensor {} has a code type", i);
      }
    }
  }

  void read_constants(const fbs::Model& model, program::Program& program) {
    charge(size_of(model.constants()) * sizeof(fbs::Constant));
    for (size_t i = 0; i < size_of(model.constants()); ++i) {
      const fbs::Constant& from = *model.constants()->Get(static_cast<flatbuffers::uoffset_t>(i));
      program.constants.push_back({.tensor = from.tensor(), .values = floats(from.elems())});
    }
  }

  void read_ops(const fbs::Model& model, program::Program& program) {
    charge(size_of(model.ops()) * kMinOpBytes);
    for (size_t i = 0; i < size_of(model.ops()); ++i) {
      const fbs::Op* from = model.ops()->Get(static_cast<flatbuffers::uoffset_t>(i));
      if (from->kind() == nullptr) damaged("op {} has no kind", i);
      program::Op& op = program.ops.emplace_back();
      op.kind = kind_of(*from, i);
      op.inputs = vector_of<program::TensorId>(from->inputs());
      op.outputs = vector_of<program::TensorId>(from->outputs());
      charge(size_of(from->steps()) * sizeof(fbs::Step));
      for (size_t s = 0; s < size_of(from->steps()); ++s) {
        op.steps.push_back(step_of(*from->steps()->Get(static_cast<flatbuffers::uoffset_t>(s)), i));
      }
    }
  }

  program::Step step_of(const fbs::Step& from, size_t op) {
    if (from.kind() > fbs::StepKind::MAX || from.function() > fbs::Function::MAX) {
      damaged("op {} has step kind {} and function {}, version {} knows 0 to {} and 0 to {}", op,
              static_cast<int>(from.kind()), static_cast<int>(from.function()), kVersion,
              static_cast<int>(fbs::StepKind::MAX), static_cast<int>(fbs::Function::MAX));
    }
    program::Step step;
    step.kind = static_cast<program::StepKind>(from.kind());
    step.function = static_cast<program::Function>(from.function());
    step.operand = from.operand();
    step.a = from.a();
    step.b = from.b();
    step.mul = floats(from.mul_elems());
    step.add = floats(from.add_elems());
    return step;
  }

  program::Kind kind_of(const fbs::Op& op, size_t index) {
    switch (op.kind_type()) {
      case fbs::Kind::Conv:
        return conv_of(*op.kind_as_Conv());
      case fbs::Kind::Linear:
        return linear_of(*op.kind_as_Linear());
      case fbs::Kind::AveragePool: {
        const auto& from = *op.kind_as_AveragePool();
        return program::AveragePool{.window = window_of(*from.window()),
                                    .count_include_pad = from.count_include_pad()};
      }
      case fbs::Kind::ReduceMean: {
        const auto& from = *op.kind_as_ReduceMean();
        return program::ReduceMean{.axes = vector_of<int>(from.axes()), .keep_dims = from.keep_dims()};
      }
      case fbs::Kind::Elementwise:
        return program::Elementwise{};
      case fbs::Kind::Lookup:
        return program::Lookup{floats(op.kind_as_Lookup()->table_elems())};
      case fbs::Kind::Softmax:
        return program::Softmax{op.kind_as_Softmax()->axis()};
      case fbs::Kind::MatMul:
        return program::MatMul{};
      case fbs::Kind::MaxPool:
        return program::MaxPool{window_of(*op.kind_as_MaxPool()->window())};
      case fbs::Kind::Concat:
        return program::Concat{op.kind_as_Concat()->axis()};
      case fbs::Kind::Slice: {
        const auto& from = *op.kind_as_Slice();
        return program::Slice{.axis = from.axis(), .start = from.start(), .step = from.step()};
      }
      case fbs::Kind::Pad: {
        const auto& from = *op.kind_as_Pad();
        program::Pad pad;
        pad.before = vector_of<int64_t>(from.before());
        pad.after = vector_of<int64_t>(from.after());
        pad.value = std::bit_cast<float>(from.value_bits());
        return pad;
      }
      case fbs::Kind::Transpose:
        return program::Transpose{vector_of<int>(op.kind_as_Transpose()->perm())};
      case fbs::Kind::Reshape:
        return program::Reshape{};
      case fbs::Kind::Gather: {
        const auto& from = *op.kind_as_Gather();
        return program::Gather{.axis = from.axis(), .indices = vector_of<int64_t>(from.indices())};
      }
      case fbs::Kind::NONE:
        break;
    }
    damaged("op {} has kind {}, version {} knows 1 to {}", index, static_cast<int>(op.kind_type()), kVersion,
            static_cast<int>(fbs::Kind::MAX));
  }

  program::Conv conv_of(const fbs::Conv& from) {
    program::Conv conv;
    conv.window = window_of(*from.window());
    conv.groups = from.groups();
    conv.oc = from.oc();
    conv.weights = weights_of(*from.weights());
    conv.mul = floats(from.mul_elems());
    conv.add = floats(from.add_elems());
    return conv;
  }

  program::Linear linear_of(const fbs::Linear& from) {
    program::Linear linear;
    linear.out = from.out();
    linear.weights = weights_of(*from.weights());
    linear.mul = floats(from.mul_elems());
    linear.add = floats(from.add_elems());
    return linear;
  }

  void read_names(const fbs::Model& model, program::Program& program) {
    const auto bytes = vector_of<uint8_t>(model.name_bytes());
    const auto sizes = vector_of<uint32_t>(model.name_sizes());
    const uint64_t expected = uint64_t{program.tensors.size()} + program.ops.size() + model.class_names() +
                              2 * uint64_t{model.metadata_entries()};
    if (sizes.size() != expected)
      damaged("section metadata has {} names, expected {}", sizes.size(), expected);
    size_t at = 0, index = 0;
    const auto next = [&] {
      const uint32_t size = sizes[index++];
      if (size > bytes.size() - at)
        damaged("name {} has {} bytes, {} are left", index - 1, size, bytes.size() - at);
      const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(at);
      at += size;
      return std::string(begin, begin + size);
    };
    for (auto& tensor : program.tensors) tensor.name = next();
    for (auto& op : program.ops) op.name = next();
    for (uint32_t i = 0; i < model.class_names(); ++i) program.class_names.push_back(next());
    for (uint32_t i = 0; i < model.metadata_entries(); ++i) {
      std::string key = next();
      if (!program.metadata.empty() && key <= program.metadata.rbegin()->first) {
        damaged("metadata key {} does not follow {} in order", printable(key),
                printable(program.metadata.rbegin()->first));
      }
      program.metadata.emplace_hint(program.metadata.end(), std::move(key), next());
    }
    if (at != bytes.size()) damaged("the names take {} bytes, {} are there", at, bytes.size());
  }

  const Sections& sections_;
  const std::string& name_;
  uint64_t vector_bytes_left_;
  size_t floats_read_ = 0;        // elements
  size_t weight_bytes_read_ = 0;  // bytes
};

}  // namespace

program::Program read_program(const Sections& sections, const std::string& name) {
  return Reader(sections, name).read();
}

}  // namespace bitstrata::format
