#include "onnx/node.h"

#include "onnx/proto.h"

namespace bitstrata::onnx {

namespace {

const std::string kAbsent;

std::string node_name(const pb::NodeProto& proto) {
  if (!proto.name().empty()) return proto.name();
  return proto.op_type() + "_" + (proto.output_size() > 0 ? proto.output(0) : "");
}

}  // namespace

NodeView::NodeView(const pb::NodeProto& proto, int opset, const std::string& file)
    : proto_(proto),
      opset_(opset),
      name_(node_name(proto)),
      where_(
          fmt::format("{}: node '{}' ({})", printable(file), printable(name_), printable(proto.op_type()))) {}

const std::string& NodeView::op() const {
  return proto_.op_type();
}
size_t NodeView::num_inputs() const {
  return proto_.input_size();
}
size_t NodeView::num_outputs() const {
  return proto_.output_size();
}

const std::string& NodeView::input_name(size_t i) const {
  return i < num_inputs() ? proto_.input(static_cast<int>(i)) : kAbsent;
}

const std::string& NodeView::output_name(size_t i) const {
  return i < num_outputs() ? proto_.output(static_cast<int>(i)) : kAbsent;
}

const pb::AttributeProto* NodeView::find(const char* attribute, int type) const {
  asked_.insert(attribute);
  for (const auto& a : proto_.attribute()) {
    if (a.name() != attribute) continue;
    // Old writers leave the type out.
    if (a.type() != pb::AttributeProto::UNDEFINED && type != pb::AttributeProto::UNDEFINED &&
        a.type() != type) {
      bad("attribute '{}' has type {}, expected {}", attribute,
          pb::AttributeProto::AttributeType_Name(a.type()),
          pb::AttributeProto::AttributeType_Name(static_cast<pb::AttributeProto::AttributeType>(type)));
    }
    return &a;
  }
  return nullptr;
}

bool NodeView::has(const char* attribute) const {
  return find(attribute, pb::AttributeProto::UNDEFINED) != nullptr;
}

int64_t NodeView::integer(const char* attribute, int64_t otherwise) const {
  const auto* a = find(attribute, pb::AttributeProto::INT);
  return a != nullptr ? a->i() : otherwise;
}

float NodeView::real(const char* attribute, float otherwise) const {
  const auto* a = find(attribute, pb::AttributeProto::FLOAT);
  return a != nullptr ? a->f() : otherwise;
}

std::string NodeView::text(const char* attribute, const char* otherwise) const {
  const auto* a = find(attribute, pb::AttributeProto::STRING);
  return a != nullptr ? a->s() : otherwise;
}

std::vector<int64_t> NodeView::integers(const char* attribute) const {
  const auto* a = find(attribute, pb::AttributeProto::INTS);
  if (a == nullptr) return {};
  return {a->ints().begin(), a->ints().end()};
}

std::vector<float> NodeView::reals(const char* attribute) const {
  const auto* a = find(attribute, pb::AttributeProto::FLOATS);
  if (a == nullptr) return {};
  return {a->floats().begin(), a->floats().end()};
}

const pb::TensorProto* NodeView::tensor(const char* attribute) const {
  const auto* a = find(attribute, pb::AttributeProto::TENSOR);
  return a != nullptr ? &a->t() : nullptr;
}

void NodeView::check_attributes() const {
  for (const auto& a : proto_.attribute()) {
    if (!asked_.contains(a.name())) {
      unsupported("attribute '{}' is not known for opset {}; supported: {}", printable(a.name()), opset_,
                  asked_.empty() ? "none" : fmt::format("{}", fmt::join(asked_, ", ")));
    }
  }
}

}  // namespace bitstrata::onnx
