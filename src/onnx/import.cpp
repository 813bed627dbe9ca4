#include "onnx/import.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "core/file.h"
#include "graph/shapes.h"
#include "onnx/fold.h"
#include "onnx/operator_form.h"
#include "onnx/ops.h"
#include "onnx/proto.h"
#include "onnx/rewrite.h"

namespace bitstrata::onnx {

namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxFileBytes = (uint64_t{1} << 31) - 1;  // protobuf's own limit
constexpr int kMinOpset = 7, kMaxOpset = 25;
constexpr int kMaxNodes = 1 << 16;
constexpr int64_t kFreeElems = 1 << 24;  // what any file may materialise, however small

const Handlers& handlers() {
  static const Handlers table = [] {
    Handlers h;
    add_layer_ops(h);
    add_window_ops(h);
    add_elementwise_ops(h);
    add_shape_ops(h);
    add_qdq_ops(h);
    add_qonnx_ops(h);
    return h;
  }();
  return table;
}

/// Operators whose scales are no constants.
bool is_dynamic(std::string_view op) {
  constexpr std::string_view kDynamic[] = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulInteger",
                                           "ConvInteger", "MatMulIntegerToFloat"};
  return std::ranges::find(kDynamic, op) != std::end(kDynamic);
}

/// Reads one parsed model.
class Importer {
 public:
  Importer(const pb::ModelProto& model, std::string file, std::optional<fs::path> folder, int64_t size_bytes,
           const Options& options)
      : model_(model),
        file_(std::move(file)),
        options_(options),
        builder_(file_, std::move(folder), kFreeElems + 4 * size_bytes),
        nodes_(model.graph()) {}

  graph::Graph operator()() {
    check_model();
    read_initialisers();
    read_input();
    for (const pb::NodeProto* node : needed_nodes()) import_node(*node);
    read_outputs();
    read_metadata();
    name_values();
    graph::Graph& graph = builder_.graph;
    graph.name = model_.graph().name();
    graph::remove_dead_nodes(graph);
    graph::merge_pads(graph);
    if (!options_.quantizers && graph::has_quantizers(graph)) {
      stop(ErrorCode::kUnsupported,
           "the network is quantized already, expected a float one; 'bitstrata compile' packs it as it is");
    }
    try {
      graph::verify(graph);
    } catch (const Error& error) {
      fail(error.code(), "{}: {}", printable(file_), error.what());
    }
    return std::move(graph);
  }

 private:
  template <typename... Args>
  [[noreturn]] void stop(ErrorCode code, fmt::format_string<Args...> pattern, Args&&... args) const {
    fail(code, "{}: {}", printable(file_), fmt::format(pattern, std::forward<Args>(args)...));
  }

  void check_model() {
    for (const auto& entry : model_.opset_import()) {
      if (entry.domain().empty() || entry.domain() == "ai.onnx") opset_ = entry.version();
    }
    if (!model_.has_graph()) stop(ErrorCode::kCorruptFile, "is no ONNX model: it has no graph");
    if (opset_ < kMinOpset || opset_ > kMaxOpset) {
      stop(ErrorCode::kUnsupported, "opset {}, supported are {} to {}", opset_, kMinOpset, kMaxOpset);
    }
    if (model_.graph().sparse_initializer_size() > 0)
      stop(ErrorCode::kUnsupported, "sparse initialisers, supported are dense ones");
    if (model_.graph().node_size() > kMaxNodes) {
      stop(ErrorCode::kUnsupported, "{} nodes, supported are up to {}", model_.graph().node_size(),
           kMaxNodes);
    }
  }

  void read_initialisers() {
    for (const auto& tensor : model_.graph().initializer())
      builder_.define_initialiser(tensor.name(), tensor);
  }

  void read_input() {
    const pb::ValueInfoProto* input = nullptr;
    for (const auto& candidate : model_.graph().input()) {
      if (builder_.is_defined(candidate.name())) continue;
      if (input != nullptr) {
        stop(ErrorCode::kUnsupported, "inputs '{}' and '{}', supported is one", printable(input->name()),
             printable(candidate.name()));
      }
      input = &candidate;
    }
    if (input == nullptr || input->name().empty()) stop(ErrorCode::kBadInput, "has no input");
    const std::string where = fmt::format("input '{}'", printable(input->name()));
    if (!input->type().has_tensor_type()) stop(ErrorCode::kUnsupported, "{} is no tensor", where);
    const auto& type = input->type().tensor_type();
    if (!is_float_type(type.elem_type())) {
      stop(ErrorCode::kUnsupported, "{} has element type {}, supported are floating-point types", where,
           element_type_name(type.elem_type()));
    }
    Dims dims = input_dims(type, where);
    builder_.graph.values.push_back({input->name(), std::move(dims), {}});
    builder_.graph.input = 0;
    builder_.define(input->name(), Operand{nullptr, 0});
  }

  Dims input_dims(const pb::TypeProto::Tensor& type, const std::string& where) {
    const auto& shape = type.shape();
    const int rank = type.has_shape() ? shape.dim_size() : static_cast<int>(options_.input_dims.size()) + 1;
    if (rank < 2 || rank > 6)
      stop(ErrorCode::kUnsupported, "{} has {} dims, supported are 2 to 6 with the batch first", where, rank);
    if (!options_.input_dims.empty() && static_cast<int>(options_.input_dims.size()) != rank - 1) {
      stop(ErrorCode::kBadInput, "{} has {} dims behind the batch, but dims {} were asked for", where,
           rank - 1, graph::to_string(options_.input_dims));
    }
    const auto fixed = [&](int i) {
      return i < shape.dim_size() && shape.dim(i).has_dim_value() ? shape.dim(i).dim_value() : 0;
    };
    builder_.dynamic_batch = fixed(0) <= 0;
    builder_.batch = builder_.dynamic_batch ? 1 : fixed(0);
    if (builder_.batch > program::kMaxElements)
      stop(ErrorCode::kBadInput, "{} has a batch of {}", where, builder_.batch);
    Dims dims;
    for (int i = 1; i < rank; ++i) {
      int64_t dim = fixed(i);
      if (dim <= 0 && !options_.input_dims.empty()) dim = options_.input_dims[i - 1];
      if (dim <= 0) stop(ErrorCode::kBadInput, "{} leaves dim {} open; give the input's dims", where, i);
      dims.push_back(dim);
    }
    graph::checked_elements(dims, fmt::format("{}: {}", file_, where));
    return dims;
  }

  /// Nodes that some output depends on, in the file's order: what nobody reads may be of any kind.
  std::vector<const pb::NodeProto*> needed_nodes() const {
    std::set<std::string> wanted;
    for (const auto& output : model_.graph().output()) wanted.insert(output.name());
    std::vector<const pb::NodeProto*> needed;
    const auto& nodes = nodes_.nodes();
    for (auto it = nodes.rbegin(); it != nodes.rend(); ++it) {
      const pb::NodeProto* node = *it;
      const auto& outputs = node->output();
      if (std::none_of(outputs.begin(), outputs.end(),
                       [&](const auto& name) { return wanted.contains(name); }))
        continue;
      wanted.insert(node->input().begin(), node->input().end());
      needed.push_back(node);
    }
    std::reverse(needed.begin(), needed.end());
    return needed;
  }

  void import_node(const pb::NodeProto& proto) {
    const NodeView node(proto, static_cast<int>(opset_), file_);
    if (node.num_outputs() == 0 || node.output_name(0).empty()) node.bad("has no output");
    if (const auto several = between_quantizers(builder_, node, proto); !several.empty()) {
      for (const pb::NodeProto& each : several) import_node(each);
      return;
    }
    if (is_dynamic(node.op()))
      node.unsupported(
          "takes its scale from each input as it runs, supported are constant scales: quantize "
          "statically, with calibration");
    const bool known = is_known_domain(proto.domain(), node.op());
    const auto handler = handlers().find(node.op());
    if (!known || (handler == handlers().end() && !is_foldable(node.op())))
      node.unsupported("operator{} is not supported; supported are: {}",
                       known ? "" : fmt::format(" of domain '{}'", printable(proto.domain())), supported());
    const bool shape = node.op() == "Shape" || node.op() == "Size";
    if (shape || (all_constant(node) && is_foldable(node.op()))) {
      Tensor folded = fold_constants(builder_, node);
      node.check_attributes();
      builder_.bind(node, 0, std::move(folded));
      return;
    }
    if (handler == handlers().end()) node.unsupported("of activations, supported is constants only");
    handler->second(builder_, node);
    node.check_attributes();
  }

  bool all_constant(const NodeView& node) {
    for (size_t i = 0; i < node.num_inputs(); ++i) {
      if (builder_.has(node, i) && !builder_.operand(node, i).is_constant()) return false;
    }
    return true;
  }

  static std::string supported() {
    std::set<std::string_view> names;
    for (const auto& [name, handler] : handlers()) names.insert(name);
    names.erase(kTableOp);
    for (std::string_view name : integer_operators()) names.insert(name);
    return fmt::format("{}", fmt::join(names, ", "));
  }

  void read_outputs() {
    if (model_.graph().output_size() == 0) stop(ErrorCode::kBadInput, "has no output");
    for (const auto& output : model_.graph().output()) {
      const Operand* operand = builder_.find(output.name());
      if (operand == nullptr)
        stop(ErrorCode::kBadInput, "output '{}' is written by no node", printable(output.name()));
      if (operand->is_constant())
        stop(ErrorCode::kUnsupported, "output '{}' is a constant, supported are activations",
             printable(output.name()));
      if (operand->integers)
        stop(ErrorCode::kUnsupported,
             "output '{}' holds integers, supported are the outputs of DequantizeLinear",
             printable(output.name()));
      builder_.graph.outputs.push_back(operand->value);
    }
  }

  void read_metadata() {
    for (const auto& entry : model_.metadata_props()) {
      if (entry.key() == "bitstrata.mean") {
        read_json(entry.key(), entry.value(), builder_.graph.mean);
      } else if (entry.key() == "bitstrata.std") {
        read_json(entry.key(), entry.value(), builder_.graph.std);
      } else if (entry.key() == "bitstrata.classes") {
        read_json(entry.key(), entry.value(), builder_.graph.class_names);
      } else {
        builder_.graph.metadata[entry.key()] = entry.value();
      }
    }
  }

  template <typename Values>
  void read_json(const std::string& key, const std::string& text, Values& values) const {
    try {
      values = nlohmann::json::parse(text).get<Values>();
    } catch (const nlohmann::json::exception& error) {
      stop(ErrorCode::kBadInput, "metadata '{}' is '{}', expected a JSON array", key, printable(text));
    }
  }

  void name_values() {
    for (graph::Node& node : builder_.graph.nodes) {
      std::string& name = builder_.graph.values[node.output].name;
      if (name.empty()) name = node.name;
    }
  }

  const pb::ModelProto& model_;
  std::string file_;
  const Options& options_;
  Builder builder_;
  NodeList nodes_;
  int64_t opset_ = 0;
};

pb::ModelProto parse(std::span<const uint8_t> bytes, const std::string& name) {
  pb::ModelProto model;
  if (bytes.size() > kMaxFileBytes || !model.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    fail(ErrorCode::kCorruptFile,
         "{}: is no ONNX model: its {} bytes are no protobuf message; was it written completely?",
         printable(name), bytes.size());
  }
  return model;
}

}  // namespace

graph::Graph import_file(const fs::path& path, const Options& options) {
  // The bytes are gone before tensors are decoded: models reach gigabytes.
  const pb::ModelProto model = parse(read_file(path, kMaxFileBytes), path.string());
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const int64_t size_bytes =
      static_cast<int64_t>(model.ByteSizeLong()) + external_bytes(model.graph(), folder);
  return Importer(model, path.string(), folder, size_bytes, options)();
}

graph::Graph import_bytes(std::span<const uint8_t> bytes, const std::string& name, const Options& options) {
  return Importer(parse(bytes, name), name, std::nullopt, static_cast<int64_t>(bytes.size()), options)();
}

}  // namespace bitstrata::onnx
