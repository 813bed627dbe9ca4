#pragma once

#include <deque>
#include <vector>

#include "onnx/proto.h"

namespace bitstrata::onnx {

/// Domain and operator of a table of functions: inputs x, table, scale, lowest; y = table[rint(x / scale) -
/// lowest].
inline constexpr const char* kTableDomain = "bitstrata";
inline constexpr const char* kTableOp = "TableLookup";

/// The nodes of a file in its order, where operators that stand for several others are replaced by these, and
/// several that stand for one by that one (docs/import.md). Refers to `graph`, which must outlive it.
class NodeList {
 public:
  explicit NodeList(const pb::GraphProto& graph);
  NodeList(const NodeList&) = delete;
  NodeList& operator=(const NodeList&) = delete;

  const std::vector<const pb::NodeProto*>& nodes() const noexcept { return nodes_; }

 private:
  std::deque<pb::NodeProto> made_;
  std::vector<const pb::NodeProto*> nodes_;
};

}  // namespace bitstrata::onnx
