#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"

namespace onnx {
class AttributeProto;
class NodeProto;
class TensorProto;
}  // namespace onnx

namespace bitstrata::onnx {

/// Typed access to one node of the file, with errors that name file, node and operator. Remembers which
/// attributes were asked for, so that one the importer does not know is an error instead of a silently
/// different network.
class NodeView {
 public:
  NodeView(const ::onnx::NodeProto& proto, int opset, const std::string& file);

  const std::string& op() const;
  int opset() const noexcept { return opset_; }
  /// The node's name, or one made of operator and output.
  const std::string& name() const noexcept { return name_; }
  /// "model.onnx: node 'x' (Conv)", printable.
  const std::string& where() const noexcept { return where_; }

  size_t num_inputs() const;
  /// Empty when the input is absent.
  const std::string& input_name(size_t i) const;
  size_t num_outputs() const;
  const std::string& output_name(size_t i) const;

  bool has(const char* attribute) const;
  int64_t integer(const char* attribute, int64_t otherwise) const;
  float real(const char* attribute, float otherwise) const;
  std::string text(const char* attribute, const char* otherwise) const;
  std::vector<int64_t> integers(const char* attribute) const;
  std::vector<float> reals(const char* attribute) const;
  /// nullptr when absent.
  const ::onnx::TensorProto* tensor(const char* attribute) const;

  /// kUnsupported when an attribute of the file was never asked for.
  void check_attributes() const;

  template <typename... Args>
  [[noreturn]] void unsupported(fmt::format_string<Args...> pattern, Args&&... args) const {
    fail(ErrorCode::kUnsupported, "{}: {}", where_, fmt::format(pattern, std::forward<Args>(args)...));
  }
  template <typename... Args>
  [[noreturn]] void bad(fmt::format_string<Args...> pattern, Args&&... args) const {
    fail(ErrorCode::kBadInput, "{}: {}", where_, fmt::format(pattern, std::forward<Args>(args)...));
  }

 private:
  const ::onnx::AttributeProto* find(const char* attribute, int type) const;

  const ::onnx::NodeProto& proto_;
  int opset_;
  std::string name_, where_;
  mutable std::set<std::string> asked_;
};

}  // namespace bitstrata::onnx
