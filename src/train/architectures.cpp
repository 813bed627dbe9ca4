#include "train/architectures.h"

#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/random.h"

namespace bitstrata::train {
namespace {

using graph::Graph;
using graph::ValueId;

/// Appends nodes to a graph; every layer draws its weights from a stream of its own.
class Builder {
 public:
  Builder(Graph& graph, uint64_t seed) : graph_(graph), seed_(seed) {}

  ValueId add(const std::string& name, graph::Kind kind, std::vector<ValueId> inputs, program::Dims dims) {
    graph_.values.push_back({name, std::move(dims), {}});
    const auto output = static_cast<ValueId>(graph_.values.size() - 1);
    graph_.nodes.push_back({name, std::move(kind), std::move(inputs), output});
    return output;
  }

  const program::Dims& dims(ValueId value) const { return graph_.values[static_cast<size_t>(value)].dims; }

  ValueId conv_bn(const std::string& name, ValueId x, int oc, int kernel, int stride) {
    const program::Dims in = dims(x);
    const int pad = kernel / 2;
    graph::Conv conv;
    conv.window = {kernel, kernel, stride, stride, 1, 1, pad, pad, pad, pad};
    conv.oc = oc;
    conv.weights = he_weights(static_cast<size_t>(oc) * static_cast<size_t>(in[0]) * kernel * kernel, static_cast<double>(in[0]) * kernel * kernel);
    const program::Dims out{oc, (in[1] + 2 * pad - kernel) / stride + 1, (in[2] + 2 * pad - kernel) / stride + 1};
    const ValueId y = add(name, std::move(conv), {x}, out);
    graph::BatchNorm norm;
    const auto channels = static_cast<size_t>(oc);
    norm.gamma.assign(channels, 1);
    norm.beta.assign(channels, 0);
    norm.mean.assign(channels, 0);
    norm.variance.assign(channels, 1);
    return add(name + "/bn", std::move(norm), {y}, out);
  }

  ValueId relu(const std::string& name, ValueId x) {
    graph::Activation activation;
    activation.step.kind = program::StepKind::kClip;
    activation.step.a = 0;
    activation.step.b = std::numeric_limits<float>::infinity();
    return add(name, std::move(activation), {x}, dims(x));
  }

  ValueId linear(const std::string& name, ValueId x, int out) {
    graph::Linear linear;
    linear.out = out;
    linear.weights = he_weights(static_cast<size_t>(out) * static_cast<size_t>(dims(x)[0]), static_cast<double>(dims(x)[0]));
    linear.bias.assign(static_cast<size_t>(out), 0);
    return add(name, std::move(linear), {x}, {out});
  }

  ValueId max_pool(const std::string& name, ValueId x, int size) {
    const program::Dims in = dims(x);
    program::MaxPool pool;
    pool.window = {size, size, size, size};
    return add(name, pool, {x}, {in[0], (in[1] - size) / size + 1, (in[2] - size) / size + 1});
  }

  ValueId flatten(const std::string& name, ValueId x) { return add(name, program::Reshape{}, {x}, {program::elements(dims(x))}); }

  ValueId mean(const std::string& name, ValueId x) { return add(name, program::ReduceMean{{1, 2}, false}, {x}, {dims(x)[0]}); }

  /// Option A of the ResNet paper: every second pixel, zeros for the new channels.
  ValueId shortcut(const std::string& name, ValueId x, int oc) {
    const program::Dims in = dims(x);
    const program::Dims half{in[0], (in[1] + 1) / 2, in[2]}, quarter{in[0], half[1], (in[2] + 1) / 2};
    ValueId y = add(name + "/rows", program::Slice{1, 0, 2}, {x}, half);
    y = add(name + "/columns", program::Slice{2, 0, 2}, {y}, quarter);
    const int64_t before = (oc - in[0]) / 2, after = oc - in[0] - before;
    return add(name + "/pad", program::Pad{{before, 0, 0}, {after, 0, 0}, 0}, {y}, {oc, quarter[1], quarter[2]});
  }

 private:
  std::vector<float> he_weights(size_t count, double fan_in) {
    Random random(seed_, ++streams_);
    const double deviation = std::sqrt(2.0 / fan_in);
    std::vector<float> weights(count);
    for (float& w : weights) {
      // Box-Muller; 1 - uniform() is in (0, 1].
      const double radius = std::sqrt(-2 * std::log(1 - random.uniform()));
      w = static_cast<float>(deviation * radius * std::cos(2 * M_PI * random.uniform()));
    }
    return weights;
  }

  Graph& graph_;
  uint64_t seed_, streams_ = 0;
};

ValueId lenet(Builder& build, ValueId x, int classes) {
  x = build.relu("relu1", build.conv_bn("conv1", x, 16, 3, 1));
  x = build.max_pool("pool1", x, 2);
  x = build.relu("relu2", build.conv_bn("conv2", x, 32, 3, 1));
  while (build.dims(x)[1] > 4 || build.dims(x)[2] > 4) x = build.max_pool(fmt::format("pool{}", build.dims(x)[1]), x, 2);
  x = build.relu("relu3", build.linear("fc1", build.flatten("flatten", x), 64));
  return build.linear("fc2", x, classes);
}

ValueId resnet20(Builder& build, ValueId x, int classes) {
  x = build.relu("stem/relu", build.conv_bn("stem", x, 16, 3, 1));
  int width = 16;
  for (int stage = 1; stage <= 3; ++stage) {
    for (int block = 1; block <= 3; ++block) {
      const std::string name = fmt::format("stage{}/block{}", stage, block);
      const int oc = 8 << stage, stride = oc == width ? 1 : 2;
      ValueId y = build.relu(name + "/relu1", build.conv_bn(name + "/conv1", x, oc, 3, stride));
      y = build.conv_bn(name + "/conv2", y, oc, 3, 1);
      const ValueId skip = stride == 1 ? x : build.shortcut(name + "/shortcut", x, oc);
      const program::Dims dims = build.dims(y);
      x = build.relu(name + "/relu2", build.add(name + "/add", graph::Binary{graph::Binary::Kind::kAdd}, {y, skip}, dims));
      width = oc;
    }
  }
  return build.linear("fc", build.mean("mean", x), classes);
}

}  // namespace

std::vector<std::string> architecture_names() { return {"lenet", "resnet20"}; }

Graph make_architecture(std::string_view name, int channels, int height, int width, int classes, uint64_t seed) {
  if (height < 8 || width < 8 || channels < 1 || classes < 1) {
    fail(ErrorCode::kInvalidArgument, "network '{}': found images of {}x{}x{} and {} classes, expected at least 8x8 pixels and one class",
         printable(std::string(name)), channels, height, width, classes);
  }
  Graph graph;
  graph.name = name;
  graph.values.push_back({"input", {channels, height, width}, {}});
  graph.input = 0;
  Builder build(graph, seed);
  if (name == "lenet") graph.outputs = {lenet(build, 0, classes)};
  else if (name == "resnet20") graph.outputs = {resnet20(build, 0, classes)};
  else fail(ErrorCode::kInvalidArgument, "unknown network '{}': expected lenet, resnet20, or an .onnx file", printable(std::string(name)));
  graph::verify(graph);
  return graph;
}

}  // namespace bitstrata::train
