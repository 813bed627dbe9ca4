#include "model.h"

#include <gtest/gtest.h>

namespace bitstrata::onnx::testing {

namespace {

void fill(pb::TensorProto& tensor, const std::vector<float>& values, const std::vector<int64_t>& dims) {
  tensor.set_data_type(pb::TensorProto::FLOAT);
  tensor.mutable_dims()->Add(dims.begin(), dims.end());
  tensor.mutable_float_data()->Add(values.begin(), values.end());
}

void fill(pb::TensorProto& tensor, const std::vector<int64_t>& values) {
  tensor.set_data_type(pb::TensorProto::INT64);
  tensor.add_dims(static_cast<int64_t>(values.size()));
  tensor.mutable_int64_data()->Add(values.begin(), values.end());
}

void fill(pb::ValueInfoProto& info, const std::string& name, const std::vector<int64_t>& dims) {
  info.set_name(name);
  auto& type = *info.mutable_type()->mutable_tensor_type();
  type.set_elem_type(pb::TensorProto::FLOAT);
  for (int64_t d : dims) {
    auto& dim = *type.mutable_shape()->add_dim();
    if (d > 0) {
      dim.set_dim_value(d);
    } else {
      dim.set_dim_param("n");
    }
  }
}

}  // namespace

pb::AttributeProto& NodeMaker::add(const char* attribute, int type) {
  auto& a = *proto_.add_attribute();
  a.set_name(attribute);
  a.set_type(static_cast<pb::AttributeProto::AttributeType>(type));
  return a;
}

NodeMaker& NodeMaker::name(const std::string& value) {
  proto_.set_name(value);
  return *this;
}

NodeMaker& NodeMaker::domain(const std::string& value) {
  proto_.set_domain(value);
  return *this;
}

NodeMaker& NodeMaker::set(const char* attribute, int value) {
  add(attribute, pb::AttributeProto::INT).set_i(value);
  return *this;
}

NodeMaker& NodeMaker::set(const char* attribute, float value) {
  add(attribute, pb::AttributeProto::FLOAT).set_f(value);
  return *this;
}

NodeMaker& NodeMaker::set(const char* attribute, const char* value) {
  add(attribute, pb::AttributeProto::STRING).set_s(value);
  return *this;
}

NodeMaker& NodeMaker::set(const char* attribute, const std::vector<int64_t>& values) {
  add(attribute, pb::AttributeProto::INTS).mutable_ints()->Add(values.begin(), values.end());
  return *this;
}

NodeMaker& NodeMaker::tensor(const char* attribute, const std::vector<float>& values,
                             const std::vector<int64_t>& dims) {
  fill(*add(attribute, pb::AttributeProto::TENSOR).mutable_t(), values, dims);
  return *this;
}

NodeMaker& NodeMaker::tensor_ints(const char* attribute, const std::vector<int64_t>& values) {
  fill(*add(attribute, pb::AttributeProto::TENSOR).mutable_t(), values);
  return *this;
}

Model::Model(std::vector<int64_t> dims, int opset) {
  proto.set_ir_version(7);
  proto.add_opset_import()->set_version(opset);
  proto.mutable_graph()->set_name("test");
  fill(*proto.mutable_graph()->add_input(), "x", dims);
  fill(*proto.mutable_graph()->add_output(), "y", {});
}

NodeMaker Model::node(const char* op, const std::vector<std::string>& inputs,
                      const std::vector<std::string>& outputs) {
  auto& node = *proto.mutable_graph()->add_node();
  node.set_op_type(op);
  node.set_name(outputs[0] + "_node");
  for (const auto& input : inputs) node.add_input(input);
  for (const auto& output : outputs) node.add_output(output);
  return NodeMaker(node);
}

Model& Model::floats(const std::string& name, const std::vector<float>& values,
                     const std::vector<int64_t>& dims) {
  auto& tensor = *proto.mutable_graph()->add_initializer();
  tensor.set_name(name);
  fill(tensor, values, dims);
  return *this;
}

Model& Model::ramp(const std::string& name, const std::vector<int64_t>& dims) {
  int64_t count = 1;
  for (int64_t d : dims) count *= d;
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(0.5f * static_cast<float>(i % 7 + 1));
  return floats(name, values, dims);
}

Model& Model::ints(const std::string& name, const std::vector<int64_t>& values) {
  auto& tensor = *proto.mutable_graph()->add_initializer();
  tensor.set_name(name);
  fill(tensor, values);
  return *this;
}

Model& Model::integers(const std::string& name, int type, const std::vector<int>& values,
                       const std::vector<int64_t>& dims) {
  auto& tensor = *proto.mutable_graph()->add_initializer();
  tensor.set_name(name);
  tensor.set_data_type(type);
  tensor.mutable_dims()->Add(dims.begin(), dims.end());
  const int bits = type == kInt32 ? 32 : type >= kUint2 ? 2 : type >= kUint4 ? 4 : 8;
  std::string raw((values.size() * static_cast<size_t>(bits) + 7) / 8, '\0');
  for (size_t i = 0; i < values.size(); ++i) {
    for (size_t bit = 0; bit < static_cast<size_t>(bits); ++bit) {
      const size_t at = i * static_cast<size_t>(bits) + bit;
      if (static_cast<uint32_t>(values[i]) >> bit & 1)
        raw[at / 8] = static_cast<char>(raw[at / 8] | 1 << at % 8);
    }
  }
  tensor.set_raw_data(raw);
  return *this;
}

graph::Graph Model::import(const Options& options) const {
  const std::string text = bytes();
  return import_bytes({reinterpret_cast<const uint8_t*>(text.data()), text.size()}, "test.onnx", options);
}

std::string Model::nodes(const Options& options) const {
  const std::string text = graph::describe(import(options));
  const size_t first = text.find('\n') + 1;
  return text.substr(first, text.rfind("output ") - first);
}

void expect_error(ErrorCode code, const std::vector<std::string>& parts,
                  const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    const std::string what = error.what();
    EXPECT_STREQ(to_string(error.code()), to_string(code)) << what;
    EXPECT_EQ(what.find('\n'), std::string::npos) << what;
    for (const auto& part : parts)
      EXPECT_NE(what.find(part), std::string::npos) << "'" << part << "' in: " << what;
    return;
  }
  ADD_FAILURE() << "no error, expected one with '" << (parts.empty() ? "" : parts[0]) << "'";
}

}  // namespace bitstrata::onnx::testing
