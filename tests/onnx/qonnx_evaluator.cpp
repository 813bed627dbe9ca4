#include "tests/onnx/qonnx_evaluator.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/file.h"
#include "onnx/proto.h"

namespace bitstrata::testing {
namespace {

namespace pb = ::onnx;

class Replacer {
 public:
  explicit Replacer(pb::ModelProto& model) : graph_(*model.mutable_graph()) {
    for (const auto& tensor : graph_.initializer()) initialisers_[tensor.name()] = &tensor;
  }

  void run() {
    google::protobuf::RepeatedPtrField<pb::NodeProto> old;
    old.Swap(graph_.mutable_node());
    for (const auto& node : old) {
      if (node.domain().empty())
        *graph_.add_node() = node;
      else if (node.domain() == "qonnx.custom_op.general" && node.op_type() == "Quant")
        quant(node);
      else if (node.domain() == "qonnx.custom_op.general" && node.op_type() == "BipolarQuant")
        bipolar(node);
      else
        throw std::runtime_error("unknown operator " + node.domain() + "::" + node.op_type());
    }
  }

 private:
  std::string add(const char* op, const std::vector<std::string>& inputs, std::string output = "") {
    if (output.empty()) output = fmt::format("replaced{}", count_++);
    auto& node = *graph_.add_node();
    node.set_op_type(op);
    for (const auto& input : inputs) node.add_input(input);
    node.add_output(output);
    return output;
  }

  std::string scalar(float value) {
    auto& tensor = *graph_.add_initializer();
    tensor.set_name(fmt::format("replaced{}", count_++));
    tensor.set_data_type(pb::TensorProto::FLOAT);
    tensor.add_float_data(value);
    return tensor.name();
  }

  double value(const std::string& name) const {
    float result;
    std::memcpy(&result, initialisers_.at(name)->raw_data().data(), sizeof result);
    return result;
  }

  void quant(const pb::NodeProto& node) {
    std::map<std::string, int64_t> integers;
    for (const auto& attribute : node.attribute()) {
      if (attribute.name() == "rounding_mode") {
        if (attribute.s() != "ROUND") throw std::runtime_error("rounding_mode " + attribute.s());
      } else {
        integers[attribute.name()] = attribute.i();
      }
    }
    const double levels = std::exp2(value(node.input(3)));
    const bool is_signed = integers.at("signed") != 0, is_narrow = integers.at("narrow") != 0;
    const double low = is_signed ? -levels / 2 + is_narrow : 0,
                 high = is_signed ? levels / 2 - 1 : levels - 1 - is_narrow;
    const std::string &scale = node.input(1), &zero = node.input(2);
    const std::string shifted = add("Add", {add("Div", {node.input(0), scale}), zero});
    const std::string clipped =
        add("Clip", {shifted, scalar(static_cast<float>(low)), scalar(static_cast<float>(high))});
    add("Mul", {add("Sub", {add("Round", {clipped}), zero}), scale}, node.output(0));
  }

  void bipolar(const pb::NodeProto& node) {
    const std::string positive = add("GreaterOrEqual", {node.input(0), scalar(0)});
    add("Where", {positive, node.input(1), add("Neg", {node.input(1)})}, node.output(0));
  }

  pb::GraphProto& graph_;
  std::map<std::string, const pb::TensorProto*> initialisers_;
  int count_ = 0;
};

}  // namespace

void replace_quant_nodes(const std::filesystem::path& path) {
  pb::ModelProto model;
  const auto bytes = read_file(path, uint64_t{1} << 30);
  if (!model.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    throw std::runtime_error("not ONNX");
  Replacer(model).run();
  write_file_atomically(path, std::string_view(model.SerializeAsString()));
}

}  // namespace bitstrata::testing
