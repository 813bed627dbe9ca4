#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "program/program.h"

namespace onnx {
class AttributeProto;
class ModelProto;
class NodeProto;
class ValueInfoProto;
}  // namespace onnx

namespace bitstrata::onnx {

using program::Dims;

/// One ONNX node being filled in.
class NodeWriter {
 public:
  explicit NodeWriter(::onnx::NodeProto& proto) : proto_(proto) {}

  NodeWriter& domain(const char* domain);
  NodeWriter& set(const char* name, int64_t value);
  NodeWriter& set(const char* name, float value);
  NodeWriter& set(const char* name, const std::string& value);
  NodeWriter& set(const char* name, const std::vector<int64_t>& values);
  /// kernel_shape, strides and pads.
  NodeWriter& window(const program::Window& window);

 private:
  ::onnx::AttributeProto& add(const char* name);

  ::onnx::NodeProto& proto_;
};

/// Number of ONNX's element types for integers, those of onnx.proto (TensorProto.DataType). The newest are
/// younger than the ONNX library that bitstrata builds with, which only stores the number.
enum class ElementType : int {
  kUint8 = 2,
  kInt8 = 3,
  kInt4 = 22,
  kInt2 = 26,
};

/// Bits of one element.
int bits_of(ElementType type) noexcept;
bool is_signed(ElementType type) noexcept;

/// One node to write: its name, the names of its first input and its output, and their dims per image.
struct Site {
  std::string name, x, y;
  Dims in, out;
};

/// An ONNX model under construction: header, initialisers, nodes, and the operators that look the same in
/// every file that is exported. Batch is dynamic; axes of a program are those of an image.
class ModelWriter {
 public:
  /// opset in 13..25, of the default domain.
  explicit ModelWriter(int opset);
  ~ModelWriter();
  ModelWriter(const ModelWriter&) = delete;
  ModelWriter& operator=(const ModelWriter&) = delete;

  int opset() const noexcept { return opset_; }
  void import_domain(const char* domain, int version);
  void name_graph(const std::string& name);
  void metadata(const std::string& key, const std::string& value);
  /// "bitstrata.mean", "bitstrata.std" and "bitstrata.classes", where known, and free text.
  void describe_network(const std::map<std::string, std::string>& free_text, const std::vector<float>& mean,
                        const std::vector<float>& std, const std::vector<std::string>& class_names);
  void add_input(const std::string& name, const Dims& dims);
  void add_output(const std::string& name, const Dims& dims);
  /// Gives the value `from`, written by a node, the name `to` everywhere.
  void rename_value(const std::string& from, const std::string& to);

  /// `name`, or the first of name#2, name#3, ... that no value has yet.
  std::string unique(const std::string& name);

  // Initialisers; each returns its name.
  std::string floats(const std::string& name, const std::vector<float>& values, const Dims& dims);
  std::string vector(const std::string& name, const std::vector<float>& values);
  std::string scalar(const std::string& name, float value);
  /// One value per index of an image's first dim (or one for all), shaped to broadcast to `rank` dims.
  std::string per_channel(const std::string& name, const std::vector<float>& values, size_t rank);
  std::string ints(const std::string& name, const std::vector<int64_t>& values);
  /// Integers of a narrow type, packed as ONNX does: little end first, several to a byte. Values must fit.
  std::string integers(const std::string& name, ElementType type, std::span<const int32_t> values,
                       const Dims& dims);

  /// Appends a node; `name` is made unique among nodes.
  NodeWriter add(const char* op, const std::vector<std::string>& inputs, const std::string& output,
                 const std::string& name);

  // Operators. What ONNX has no form for is kUnsupported.
  void write(const Site& site, const program::AveragePool& kind);
  void write(const Site& site, const program::ReduceMean& kind);
  void write(const Site& site, const program::Softmax& kind);
  void write(const Site& site, const program::MaxPool& kind);
  void write(const Site& site, const program::Slice& kind);
  void write(const Site& site, const program::Pad& kind);
  void write(const Site& site, const program::Transpose& kind);
  void write(const Site& site, const program::Reshape& kind);
  void write(const Site& site, const program::Gather& kind);
  void write_concat(const std::vector<std::string>& inputs, int axis, const Site& site);
  /// x * mul + add; either may do nothing.
  void write_affine(const Site& site, const std::vector<float>& mul, const std::vector<float>& add_values);
  /// A step without operand.
  void write_step(const Site& site, const program::Step& step);

  /// Serialises to `path`, atomically. kUnsupported beyond the 2 GiB that protobuf holds.
  uint64_t save(const std::filesystem::path& path) const;

 private:
  void write_clip(const Site& site, const program::Step& step);
  void write_function(const Site& site, const program::Step& step);
  void write_gelu(const Site& site);
  void describe(::onnx::ValueInfoProto& info, const std::string& name, const Dims& dims);
  [[noreturn]] void refuse(const Site& site, const char* kind, const char* what) const;

  int opset_;
  std::unique_ptr<::onnx::ModelProto> model_;
  std::set<std::string> used_, used_nodes_;
};

}  // namespace bitstrata::onnx
