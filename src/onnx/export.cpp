#include "onnx/export.h"

#include <string>
#include <vector>

#include "core/error.h"
#include "graph/overloaded.h"
#include "graph/shapes.h"
#include "onnx/writer.h"

namespace bitstrata::onnx {

namespace {

using graph::ValueId;

constexpr int kOpset = 17;

/// Writes one graph.
class Exporter {
 public:
  explicit Exporter(const graph::Graph& graph)
      : graph_(graph), writer_(kOpset), names_(graph.values.size()) {}

  const ModelWriter& operator()() {
    graph::verify(graph_);
    if (!graph_.name.empty()) writer_.name_graph(graph_.name);
    writer_.describe_network(graph_.metadata, graph_.mean, graph_.std, graph_.class_names);
    name_values();
    writer_.add_input(names_[graph_.input], dims(graph_.input));
    for (ValueId v : graph_.outputs) writer_.add_output(names_[v], dims(v));
    for (const graph::Node& node : graph_.nodes) write_node(node);
    return writer_;
  }

 private:
  const Dims& dims(ValueId v) const { return graph_.values[v].dims; }

  /// The input is "input", outputs keep their names, the others too unless that would clash.
  void name_values() {
    names_[graph_.input] = writer_.unique("input");
    for (ValueId v : graph_.outputs) {
      if (names_[v].empty())
        names_[v] = writer_.unique(graph_.values[v].name.empty() ? "output" : graph_.values[v].name);
    }
    for (size_t v = 0; v < names_.size(); ++v) {
      const std::string& name = graph_.values[v].name;
      if (names_[v].empty()) names_[v] = writer_.unique(name.empty() ? fmt::format("value{}", v) : name);
    }
  }

  /// The names of a constant operand's initialiser or of an activation.
  std::string operand(const graph::Node& node, size_t i) {
    const graph::Value& value = graph_.values[node.inputs[i]];
    if (!value.is_constant()) return names_[node.inputs[i]];
    return writer_.floats(node.name + ".constant", value.data, value.dims);
  }

  void write_node(const graph::Node& node) {
    const Site site{node.name, names_[node.inputs[0]], names_[node.output], dims(node.inputs[0]),
                    dims(node.output)};
    std::visit(graph::Overloaded{
                   [&](const graph::Conv& k) { write(site, k); },
                   [&](const graph::Linear& k) { write(site, k); },
                   [&](const graph::BatchNorm& k) {
                     writer_
                         .add("BatchNormalization",
                              {site.x, writer_.vector(node.name + ".weight", k.gamma),
                               writer_.vector(node.name + ".bias", k.beta),
                               writer_.vector(node.name + ".running_mean", k.mean),
                               writer_.vector(node.name + ".running_var", k.variance)},
                              site.y, node.name)
                         .set("epsilon", k.epsilon);
                   },
                   [&](const graph::Affine& k) { writer_.write_affine(site, k.mul, k.add); },
                   [&](const graph::Activation& k) { writer_.write_step(site, k.step); },
                   [&](const graph::Binary& k) {
                     static const char* const kOps[] = {"Add", "Sub", "Mul", "Div"};
                     writer_.add(kOps[static_cast<int>(k.kind)], {operand(node, 0), operand(node, 1)}, site.y,
                                 node.name);
                   },
                   [&](const program::MatMul&) {
                     writer_.add("MatMul", {site.x, names_[node.inputs[1]]}, site.y, node.name);
                   },
                   [&](const program::Concat& k) { write(site, node, k); },
                   [&](const graph::Quantize&) { refuse_quantizer(node); },
                   [&](const program::Lookup&) { refuse_quantizer(node); },
                   [&](const auto& k) { writer_.write(site, k); },
               },
               node.kind);
  }

  [[noreturn]] static void refuse_quantizer(const graph::Node& node) {
    fail(ErrorCode::kUnsupported, "ONNX export: node '{}' is a quantizer, supported are float networks",
         printable(node.name));
  }

  void write(const Site& site, const graph::Conv& k) {
    const Dims weight_dims = {k.oc, site.in[0] / k.groups, k.window.kernel_h, k.window.kernel_w};
    std::vector<std::string> inputs = {site.x, writer_.floats(site.name + ".weight", k.weights, weight_dims)};
    if (!k.bias.empty()) inputs.push_back(writer_.vector(site.name + ".bias", k.bias));
    writer_.add("Conv", inputs, site.y, site.name)
        .window(k.window)
        .set("dilations", std::vector<int64_t>{k.window.dilation_h, k.window.dilation_w})
        .set("group", int64_t{k.groups});
  }

  void write(const Site& site, const graph::Linear& k) {
    const int64_t in = site.in.back();
    if (site.in.size() == 1) {
      std::vector<std::string> inputs = {site.x,
                                         writer_.floats(site.name + ".weight", k.weights, {k.out, in})};
      if (!k.bias.empty()) inputs.push_back(writer_.vector(site.name + ".bias", k.bias));
      writer_.add("Gemm", inputs, site.y, site.name).set("transB", int64_t{1});
      return;
    }
    std::vector<float> columns(k.weights.size());
    for (int64_t o = 0; o < k.out; ++o) {
      for (int64_t i = 0; i < in; ++i) columns[i * k.out + o] = k.weights[o * in + i];
    }
    const std::string product = k.bias.empty() ? site.y : writer_.unique(site.y + ".product");
    writer_.add("MatMul", {site.x, writer_.floats(site.name + ".weight", columns, {in, k.out})}, product,
                site.name);
    if (!k.bias.empty())
      writer_.add("Add", {product, writer_.vector(site.name + ".bias", k.bias)}, site.y, site.name + ".add");
  }

  void write(const Site& site, const graph::Node& node, const program::Concat& k) {
    std::vector<std::string> inputs;
    for (ValueId v : node.inputs) {
      if (graph_.values[v].is_constant()) {
        fail(ErrorCode::kUnsupported, "ONNX export: node '{}' (concat): joining a constant is not supported",
             printable(node.name));
      }
      inputs.push_back(names_[v]);
    }
    writer_.write_concat(inputs, k.axis, site);
  }

  const graph::Graph& graph_;
  ModelWriter writer_;
  std::vector<std::string> names_;
};

}  // namespace

void export_float(const graph::Graph& graph, const std::filesystem::path& path) {
  Exporter exporter(graph);
  exporter().save(path);
}

}  // namespace bitstrata::onnx
