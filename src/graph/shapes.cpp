#include <algorithm>
#include <string>

#include "core/error.h"
#include "graph/graph.h"
#include "graph/overloaded.h"
#include "graph/shapes.h"

namespace bitstrata::graph {

std::string to_string(const Dims& dims) {
  return fmt::format("[{}]", fmt::join(dims, ", "));
}

int64_t checked_elements(const Dims& dims, const std::string& where) {
  int64_t product = 1;
  for (int64_t d : dims) {
    if (d < 1 || d > program::kMaxElements || product > program::kMaxElements / d) {
      fail(ErrorCode::kBadInput, "{}: dims {} are not positive with a product of at most {} elements",
           printable(where), to_string(dims), program::kMaxElements);
    }
    product *= d;
  }
  return product;
}

namespace {

/// One call of infer_dims: the node and its inputs' dims, with errors that name the node.
class Inference {
 public:
  Inference(const Graph& graph, const Node& node) : graph_(graph), node_(node) {}

  Dims operator()(const Conv& k) const {
    const Dims& in = image();
    if (k.oc < 1 || k.groups < 1 || in[0] % k.groups != 0 || k.oc % k.groups != 0) {
      bad("{} groups do not divide {} input and {} output channels", k.groups, in[0], k.oc);
    }
    Dims out = windowed(in, k.window);
    out[0] = k.oc;
    const Dims shape = {k.oc, in[0] / k.groups, k.window.kernel_h, k.window.kernel_w};
    check_size("weights", k.weights.size(), checked_elements(shape, node_.name));
    if (!k.bias.empty()) check_size("bias", k.bias.size(), k.oc);
    return out;
  }

  Dims operator()(const Linear& k) const {
    Dims out = dims(0);
    if (k.out < 1) bad("{} output features, expected at least 1", k.out);
    check_size("weights", k.weights.size(), checked_elements({k.out, out.back()}, node_.name));
    if (!k.bias.empty()) check_size("bias", k.bias.size(), k.out);
    out.back() = k.out;
    return out;
  }

  Dims operator()(const BatchNorm& k) const {
    for (const auto* v : {&k.gamma, &k.beta, &k.mean, &k.variance})
      check_size("statistics", v->size(), dims(0)[0]);
    return dims(0);
  }

  Dims operator()(const Affine& k) const {
    check_per_channel("mul", k.mul.size());
    check_per_channel("add", k.add.size());
    return dims(0);
  }

  Dims operator()(const Activation& k) const {
    if (k.step.kind == program::StepKind::kPRelu) check_per_channel("slopes", k.step.mul.size());
    return dims(0);
  }

  Dims operator()(const Binary&) const { return broadcast(dims(0), dims(1)); }
  Dims operator()(const program::AveragePool& k) const { return windowed(image(), k.window); }
  Dims operator()(const program::MaxPool& k) const { return windowed(image(), k.window); }

  Dims operator()(const program::ReduceMean& k) const {
    Dims out;
    for (size_t i = 0; i < dims(0).size(); ++i) {
      const bool reduced = std::find(k.axes.begin(), k.axes.end(), static_cast<int>(i)) != k.axes.end();
      if (!reduced) out.push_back(dims(0)[i]);
      if (reduced && k.keep_dims) out.push_back(1);
    }
    if (k.axes.empty() || !std::is_sorted(k.axes.begin(), k.axes.end(), std::less_equal<>())) {
      bad("axes [{}], expected rising ones", fmt::join(k.axes, ", "));
    }
    check_axis(k.axes.front());
    check_axis(k.axes.back());
    if (out.empty()) bad("all of the {} dims vanish, expected at least one to stay", dims(0).size());
    return out;
  }

  Dims operator()(const program::Softmax& k) const {
    check_axis(k.axis);
    return dims(0);
  }

  Dims operator()(const program::MatMul&) const {
    const Dims &a = dims(0), &b = dims(1);
    if (a.size() < 2 || b.size() < 2 || a.back() != b[b.size() - 2]) {
      bad("operands {} and {} do not multiply", to_string(a), to_string(b));
    }
    Dims out(a.begin(), a.end() - 2);
    if (out != Dims(b.begin(), b.end() - 2))
      bad("operands {} and {} differ in leading dims", to_string(a), to_string(b));
    out.push_back(a[a.size() - 2]);
    out.push_back(b.back());
    return out;
  }

  Dims operator()(const program::Concat& k) const {
    check_axis(k.axis);
    Dims out = dims(0);
    for (size_t i = 1; i < node_.inputs.size(); ++i) {
      Dims same = dims(i);
      if (same.size() != out.size()) bad("inputs of {} and {} dims", out.size(), same.size());
      const int64_t extent = same[k.axis];
      same[k.axis] = out[k.axis];
      if (same != out)
        bad("inputs {} and {} differ beyond axis {}", to_string(out), to_string(dims(i)), k.axis);
      if (extent > program::kMaxElements) bad("input dims {} are too large", to_string(dims(i)));
      out[k.axis] += extent;
      if (out[k.axis] > program::kMaxElements) bad("output dims {} are too large", to_string(out));
    }
    return out;
  }

  Dims operator()(const program::Slice& k) const {
    check_axis(k.axis);
    const Dims& stored = graph_.values[node_.output].dims;
    if (stored.size() != dims(0).size())
      bad("output dims {} for input {}", to_string(stored), to_string(dims(0)));
    Dims out = dims(0);
    const int64_t in = out[k.axis], extent = stored[k.axis];
    const bool inside = extent >= 1 && extent <= in && k.start >= 0 && k.start < in && std::abs(k.step) <= in;
    const int64_t last = inside ? k.start + (extent - 1) * k.step : -1;
    if (last < 0 || last >= in || k.step == 0) {
      bad("{} elements from {} by {} leave the axis of {} elements", extent, k.start, k.step, in);
    }
    out[k.axis] = extent;
    return out;
  }

  Dims operator()(const program::Pad& k) const {
    Dims out = dims(0);
    if (k.before.size() != out.size() || k.after.size() != out.size()) {
      bad("pads for {} and {} axes of {}", k.before.size(), k.after.size(), out.size());
    }
    for (size_t i = 0; i < out.size(); ++i) {
      for (int64_t pad : {k.before[i], k.after[i]}) {
        if (pad < 0 || pad > program::kMaxElements) bad("pad of {} on axis {}", pad, i);
        out[i] += pad;
      }
    }
    return out;
  }

  Dims operator()(const program::Transpose& k) const {
    std::vector<int> seen = k.perm;
    std::sort(seen.begin(), seen.end());
    Dims out;
    for (size_t i = 0; i < seen.size(); ++i) {
      if (seen.size() != dims(0).size() || seen[i] != static_cast<int>(i)) {
        bad("[{}] is no permutation of {} axes", fmt::join(k.perm, ", "), dims(0).size());
      }
      out.push_back(dims(0)[k.perm[i]]);
    }
    if (out.size() != dims(0).size()) bad("empty permutation of {} axes", dims(0).size());
    return out;
  }

  Dims operator()(const program::Reshape&) const {
    const Dims& out = graph_.values[node_.output].dims;
    if (checked_elements(out, node_.name) != checked_elements(dims(0), node_.name)) {
      bad("input {} and output {} differ in elements", to_string(dims(0)), to_string(out));
    }
    return out;
  }

  Dims operator()(const program::Gather& k) const {
    check_axis(k.axis);
    Dims out = dims(0);
    for (int64_t i : k.indices) {
      if (i < 0 || i >= out[k.axis]) bad("index {} outside the axis of {} elements", i, out[k.axis]);
    }
    out[k.axis] = static_cast<int64_t>(k.indices.size());
    return out;
  }

  Dims operator()(const Quantize&) const { return dims(0); }
  Dims operator()(const program::Lookup&) const { return dims(0); }

  template <typename... Args>
  [[noreturn]] void bad(fmt::format_string<Args...> pattern, Args&&... args) const {
    fail(ErrorCode::kBadInput, "node '{}' ({}): {}", printable(node_.name), kind_name(node_.kind),
         fmt::format(pattern, std::forward<Args>(args)...));
  }

 private:
  const Dims& dims(size_t input) const { return graph_.values[node_.inputs[input]].dims; }

  const Dims& image() const {
    if (dims(0).size() != 3) bad("input {}, expected [channels, height, width]", to_string(dims(0)));
    return dims(0);
  }

  void check_axis(int axis) const {
    if (axis < 0 || axis >= static_cast<int>(dims(0).size()))
      bad("axis {} of input {}", axis, to_string(dims(0)));
  }

  void check_size(const char* what, size_t found, int64_t expected) const {
    if (static_cast<int64_t>(found) != expected) bad("{} {}, expected {}", found, what, expected);
  }

  void check_per_channel(const char* what, size_t found) const {
    if (found != 1) check_size(what, found, dims(0)[0]);
  }

  Dims windowed(const Dims& in, const program::Window& w) const {
    return {in[0], extent(in[1], w.kernel_h, w.stride_h, w.dilation_h, w.pad_top, w.pad_bottom),
            extent(in[2], w.kernel_w, w.stride_w, w.dilation_w, w.pad_left, w.pad_right)};
  }

  int64_t extent(int64_t in, int64_t kernel, int64_t stride, int64_t dilation, int64_t before,
                 int64_t after) const {
    if (kernel < 1 || stride < 1 || dilation < 1 || before < 0 || after < 0) {
      bad("kernel {}, stride {}, dilation {}, pads {} and {}", kernel, stride, dilation, before, after);
    }
    const int64_t room = in + before + after - dilation * (kernel - 1) - 1;
    if (room < 0)
      bad("kernel {} with dilation {} exceeds {} padded elements", kernel, dilation, in + before + after);
    return room / stride + 1;
  }

  Dims broadcast(const Dims& a, const Dims& b) const {
    Dims out(std::max(a.size(), b.size()), 1);
    for (size_t i = 0; i < out.size(); ++i) {
      const int64_t da = i < a.size() ? a[a.size() - 1 - i] : 1;
      const int64_t db = i < b.size() ? b[b.size() - 1 - i] : 1;
      if (da != db && da != 1 && db != 1)
        bad("operands {} and {} do not broadcast", to_string(a), to_string(b));
      out[out.size() - 1 - i] = std::max(da, db);
    }
    return out;
  }

  const Graph& graph_;
  const Node& node_;
};

size_t expected_inputs(const Kind& kind) {
  if (std::holds_alternative<Binary>(kind) || std::holds_alternative<program::MatMul>(kind)) return 2;
  return 1;
}

}  // namespace

Dims infer_dims(const Graph& graph, const Node& node) {
  const Inference inference(graph, node);
  const bool variadic = std::holds_alternative<program::Concat>(node.kind);
  const size_t expected = expected_inputs(node.kind);
  if (variadic ? node.inputs.empty() : node.inputs.size() != expected) {
    inference.bad("{} inputs, expected {}", node.inputs.size(), expected);
  }
  Dims dims = std::visit(inference, node.kind);
  checked_elements(dims, node.name);
  return dims;
}

}  // namespace bitstrata::graph
