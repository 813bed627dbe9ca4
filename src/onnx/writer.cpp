#include "onnx/writer.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "onnx/proto.h"

namespace bitstrata::onnx {
namespace {

constexpr size_t kMaxFileBytes = (size_t{1} << 31) - 1;

/// The file format version that an opset came with.
int ir_version(int opset) {
  if (opset <= 14) return 7;
  if (opset <= 18) return 8;
  if (opset <= 20) return 9;
  if (opset <= 22) return 10;
  return opset - 12;
}

template <typename Values>
std::string json_text(const Values& values) {
  return nlohmann::json(values).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string insert_unique(std::set<std::string>& used, const std::string& name) {
  std::string candidate = name;
  for (int i = 2; !used.insert(candidate).second; ++i) candidate = fmt::format("{}#{}", name, i);
  return candidate;
}

}  // namespace

NodeWriter& NodeWriter::domain(const char* domain) {
  proto_.set_domain(domain);
  return *this;
}

pb::AttributeProto& NodeWriter::add(const char* name) {
  auto& attribute = *proto_.add_attribute();
  attribute.set_name(name);
  return attribute;
}

NodeWriter& NodeWriter::set(const char* name, int64_t value) {
  auto& attribute = add(name);
  attribute.set_type(pb::AttributeProto::INT);
  attribute.set_i(value);
  return *this;
}

NodeWriter& NodeWriter::set(const char* name, float value) {
  auto& attribute = add(name);
  attribute.set_type(pb::AttributeProto::FLOAT);
  attribute.set_f(value);
  return *this;
}

NodeWriter& NodeWriter::set(const char* name, const std::string& value) {
  auto& attribute = add(name);
  attribute.set_type(pb::AttributeProto::STRING);
  attribute.set_s(value);
  return *this;
}

NodeWriter& NodeWriter::set(const char* name, const std::vector<int64_t>& values) {
  auto& attribute = add(name);
  attribute.set_type(pb::AttributeProto::INTS);
  attribute.mutable_ints()->Add(values.begin(), values.end());
  return *this;
}

NodeWriter& NodeWriter::window(const program::Window& w) {
  return set("kernel_shape", std::vector<int64_t>{w.kernel_h, w.kernel_w})
      .set("strides", std::vector<int64_t>{w.stride_h, w.stride_w})
      .set("pads", std::vector<int64_t>{w.pad_top, w.pad_left, w.pad_bottom, w.pad_right});
}

int bits_of(ElementType type) noexcept {
  switch (type) {
    case ElementType::kUint8:
    case ElementType::kInt8:
      return 8;
    case ElementType::kInt4:
      return 4;
    case ElementType::kInt2:
      return 2;
  }
  return 8;
}

bool is_signed(ElementType type) noexcept {
  return type != ElementType::kUint8;
}

ModelWriter::ModelWriter(int opset) : opset_(opset), model_(std::make_unique<pb::ModelProto>()) {
  model_->set_ir_version(ir_version(opset));
  model_->set_producer_name("bitstrata");
  import_domain("", opset);
  name_graph("network");
}

ModelWriter::~ModelWriter() = default;

void ModelWriter::import_domain(const char* domain, int version) {
  auto& opset = *model_->add_opset_import();
  opset.set_domain(domain);
  opset.set_version(version);
}

void ModelWriter::name_graph(const std::string& name) {
  model_->mutable_graph()->set_name(name);
}

void ModelWriter::metadata(const std::string& key, const std::string& value) {
  auto& entry = *model_->add_metadata_props();
  entry.set_key(key);
  entry.set_value(value);
}

void ModelWriter::describe_network(const std::map<std::string, std::string>& free_text,
                                   const std::vector<float>& mean, const std::vector<float>& std,
                                   const std::vector<std::string>& class_names) {
  for (const auto& [key, value] : free_text) metadata(key, value);
  if (!mean.empty()) metadata("bitstrata.mean", json_text(mean));
  if (!std.empty()) metadata("bitstrata.std", json_text(std));
  if (!class_names.empty()) metadata("bitstrata.classes", json_text(class_names));
}

void ModelWriter::describe(pb::ValueInfoProto& info, const std::string& name, const Dims& dims) {
  info.set_name(name);
  auto& type = *info.mutable_type()->mutable_tensor_type();
  type.set_elem_type(pb::TensorProto::FLOAT);
  type.mutable_shape()->add_dim()->set_dim_param("batch");
  for (int64_t dim : dims) type.mutable_shape()->add_dim()->set_dim_value(dim);
}

void ModelWriter::add_input(const std::string& name, const Dims& dims) {
  describe(*model_->mutable_graph()->add_input(), name, dims);
}

void ModelWriter::add_output(const std::string& name, const Dims& dims) {
  describe(*model_->mutable_graph()->add_output(), name, dims);
}

void ModelWriter::rename_value(const std::string& from, const std::string& to) {
  for (auto& node : *model_->mutable_graph()->mutable_node()) {
    for (std::string& input : *node.mutable_input()) {
      if (input == from) input = to;
    }
    for (std::string& output : *node.mutable_output()) {
      if (output == from) output = to;
    }
  }
}

std::string ModelWriter::unique(const std::string& name) {
  return insert_unique(used_, name);
}

std::string ModelWriter::floats(const std::string& name, const std::vector<float>& values, const Dims& dims) {
  auto& tensor = *model_->mutable_graph()->add_initializer();
  tensor.set_name(unique(name));
  tensor.set_data_type(pb::TensorProto::FLOAT);
  tensor.mutable_dims()->Add(dims.begin(), dims.end());
  tensor.set_raw_data(values.data(), values.size() * sizeof(float));
  return tensor.name();
}

std::string ModelWriter::vector(const std::string& name, const std::vector<float>& values) {
  return floats(name, values, {static_cast<int64_t>(values.size())});
}

std::string ModelWriter::scalar(const std::string& name, float value) {
  return floats(name, {value}, {});
}

std::string ModelWriter::per_channel(const std::string& name, const std::vector<float>& values, size_t rank) {
  Dims shape(rank, 1);
  shape[0] = static_cast<int64_t>(values.size());
  return floats(name, values, shape);
}

std::string ModelWriter::ints(const std::string& name, const std::vector<int64_t>& values) {
  auto& tensor = *model_->mutable_graph()->add_initializer();
  tensor.set_name(unique(name));
  tensor.set_data_type(pb::TensorProto::INT64);
  tensor.add_dims(static_cast<int64_t>(values.size()));
  tensor.set_raw_data(values.data(), values.size() * sizeof(int64_t));
  return tensor.name();
}

std::string ModelWriter::integers(const std::string& name, ElementType type, std::span<const int32_t> values,
                                  const Dims& dims) {
  const auto bits = static_cast<size_t>(bits_of(type)), per_byte = 8 / bits;
  std::string packed((values.size() + per_byte - 1) / per_byte, '\0');
  const auto mask = static_cast<uint32_t>((1u << bits) - 1);
  for (size_t i = 0; i < values.size(); ++i) {
    const uint32_t field = (static_cast<uint32_t>(values[i]) & mask) << (i % per_byte * bits);
    packed[i / per_byte] = static_cast<char>(static_cast<uint8_t>(packed[i / per_byte]) | field);
  }
  auto& tensor = *model_->mutable_graph()->add_initializer();
  tensor.set_name(unique(name));
  tensor.set_data_type(static_cast<int>(type));
  tensor.mutable_dims()->Add(dims.begin(), dims.end());
  tensor.set_raw_data(std::move(packed));
  return tensor.name();
}

NodeWriter ModelWriter::add(const char* op, const std::vector<std::string>& inputs, const std::string& output,
                            const std::string& name) {
  auto& node = *model_->mutable_graph()->add_node();
  node.set_op_type(op);
  node.set_name(insert_unique(used_nodes_, name));
  for (const std::string& input : inputs) node.add_input(input);
  node.add_output(output);
  return NodeWriter(node);
}

uint64_t ModelWriter::save(const std::filesystem::path& path) const {
  const size_t bytes = model_->ByteSizeLong();
  if (bytes > kMaxFileBytes) {
    fail(ErrorCode::kUnsupported, "{}: the model has {} bytes, ONNX files without external data hold {}",
         path.string(), bytes, kMaxFileBytes);
  }
  write_file_atomically(path, std::string_view(model_->SerializeAsString()));
  return bytes;
}

}  // namespace bitstrata::onnx
