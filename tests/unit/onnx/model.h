#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/error.h"
#include "graph/graph.h"
#include "onnx/import.h"
#include "onnx/proto.h"

namespace bitstrata::onnx::testing {

/// Numbers of ONNX's integer element types, of which the ONNX library here need not know all.
constexpr int kUint8 = 2, kInt8 = 3, kInt32 = 6, kUint4 = 21, kInt4 = 22, kUint2 = 25, kInt2 = 26;

/// A node being written: attributes by chained calls.
class NodeMaker {
 public:
  explicit NodeMaker(pb::NodeProto& proto) : proto_(proto) {}
  NodeMaker& name(const std::string& value);
  NodeMaker& domain(const std::string& value);
  NodeMaker& set(const char* attribute, int value);
  NodeMaker& set(const char* attribute, float value);
  NodeMaker& set(const char* attribute, const char* value);
  NodeMaker& set(const char* attribute, const std::vector<int64_t>& values);
  /// A tensor of floats or int64.
  NodeMaker& tensor(const char* attribute, const std::vector<float>& values,
                    const std::vector<int64_t>& dims);
  NodeMaker& tensor_ints(const char* attribute, const std::vector<int64_t>& values);

 private:
  pb::AttributeProto& add(const char* attribute, int type);
  pb::NodeProto& proto_;
};

/// A small model with input "x" and output "y", made through the protobuf classes.
class Model {
 public:
  /// `dims` with the batch; 0 or less: open.
  explicit Model(std::vector<int64_t> dims, int opset = 13);

  NodeMaker node(const char* op, const std::vector<std::string>& inputs,
                 const std::vector<std::string>& outputs = {"y"});
  Model& floats(const std::string& name, const std::vector<float>& values, const std::vector<int64_t>& dims);
  /// As floats(), counting 0.5, 1, 1.5, ... repeated over seven steps.
  Model& ramp(const std::string& name, const std::vector<int64_t>& dims);
  Model& ints(const std::string& name, const std::vector<int64_t>& values);
  /// An initialiser of integers of `type`, one of the numbers above, as raw data.
  Model& integers(const std::string& name, int type, const std::vector<int>& values,
                  const std::vector<int64_t>& dims);

  std::string bytes() const { return proto.SerializeAsString(); }
  graph::Graph import(const Options& options = {}) const;
  /// describe() of the imported graph without its first and last line.
  std::string nodes(const Options& options = {}) const;

  pb::ModelProto proto;
};

/// Expects `action` to throw an Error of `code` on one line that holds every one of `parts`.
void expect_error(ErrorCode code, const std::vector<std::string>& parts, const std::function<void()>& action);

}  // namespace bitstrata::onnx::testing
