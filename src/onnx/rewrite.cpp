#include "onnx/rewrite.h"

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace bitstrata::onnx {

namespace {

using Producers = std::unordered_map<std::string_view, const pb::NodeProto*>;

Producers producers_of(const pb::GraphProto& graph) {
  Producers producers;
  for (const auto& node : graph.node()) {
    for (const auto& output : node.output()) producers.emplace(output, &node);
  }
  return producers;
}

/// The node that makes input `input` of `node`, if it is `op` of the default domain with `inputs` inputs.
const pb::NodeProto* made_by(const Producers& producers, const pb::NodeProto* node, int input,
                             std::string_view op, int inputs) {
  if (node == nullptr || node->input_size() <= input) return nullptr;
  const auto found = producers.find(node->input(input));
  if (found == producers.end()) return nullptr;
  const pb::NodeProto& made = *found->second;
  return made.op_type() == op && made.domain().empty() && made.input_size() == inputs ? &made : nullptr;
}

bool has_only(const pb::NodeProto& node, std::string_view attribute, int64_t value) {
  return node.attribute_size() == 0 || (node.attribute_size() == 1 && node.attribute(0).name() == attribute &&
                                        node.attribute(0).i() == value);
}

/// Gather(table, Cast(Sub(Round(Div(x, scale)), lowest))), as `export` writes a table of codes.
std::optional<pb::NodeProto> table_lookup(const pb::NodeProto& gather, const Producers& producers) {
  constexpr int64_t kInt64 = 7;
  if (gather.op_type() != "Gather" || !gather.domain().empty() || gather.input_size() != 2 ||
      !has_only(gather, "axis", 0))
    return std::nullopt;
  const pb::NodeProto* cast = made_by(producers, &gather, 1, "Cast", 1);
  if (cast == nullptr || !has_only(*cast, "to", kInt64)) return std::nullopt;
  const pb::NodeProto* sub = made_by(producers, cast, 0, "Sub", 2);
  const pb::NodeProto* div = made_by(producers, made_by(producers, sub, 0, "Round", 1), 0, "Div", 2);
  if (div == nullptr) return std::nullopt;
  pb::NodeProto lookup;
  lookup.set_name(gather.name());
  lookup.set_op_type(kTableOp);
  lookup.set_domain(kTableDomain);
  for (const std::string& input : {div->input(0), gather.input(0), div->input(1), sub->input(1)})
    lookup.add_input(input);
  *lookup.mutable_output() = gather.output();
  return lookup;
}

}  // namespace

NodeList::NodeList(const pb::GraphProto& graph) {
  const Producers producers = producers_of(graph);
  for (const auto& node : graph.node()) {
    if (auto lookup = table_lookup(node, producers)) {
      nodes_.push_back(&made_.emplace_back(std::move(*lookup)));
    } else {
      nodes_.push_back(&node);
    }
  }
}

}  // namespace bitstrata::onnx
