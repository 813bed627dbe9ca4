#include "train/architectures.h"

#include <algorithm>
#include <cmath>
#include <iterator>
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

  ValueId conv_bn(const std::string& name, ValueId x, int oc, int kernel, int stride, int groups = 1) {
    const program::Dims in = dims(x);
    const int pad = kernel / 2;
    const int64_t fan_in = in[0] / groups * kernel * kernel;
    graph::Conv conv;
    conv.window = {kernel, kernel, stride, stride, 1, 1, pad, pad, pad, pad};
    conv.groups = groups;
    conv.oc = oc;
    conv.weights = he_weights(static_cast<size_t>(oc * fan_in), static_cast<double>(fan_in));
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

  ValueId relu(const std::string& name, ValueId x, float upper = std::numeric_limits<float>::infinity()) {
    graph::Activation activation;
    activation.step.kind = program::StepKind::kClip;
    activation.step.a = 0;
    activation.step.b = upper;
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

  ValueId sum(const std::string& name, ValueId a, ValueId b) {
    return add(name, graph::Binary{graph::Binary::Kind::kAdd}, {a, b}, dims(a));
  }

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

ValueId digits_cnn(Builder& build, ValueId x, int classes) {
  x = build.relu("relu1", build.conv_bn("conv1", x, 16, 3, 1));
  x = build.relu("relu2", build.conv_bn("conv2", x, 32, 3, 2));
  x = build.relu("relu3", build.conv_bn("conv3", x, 32, 3, 1));
  return build.linear("fc", build.mean("mean", x), classes);
}

ValueId resnet(Builder& build, ValueId x, int classes, int blocks) {
  x = build.relu("stem/relu", build.conv_bn("stem", x, 16, 3, 1));
  int width = 16;
  for (int stage = 1; stage <= 3; ++stage) {
    for (int block = 1; block <= blocks; ++block) {
      const std::string name = fmt::format("stage{}/block{}", stage, block);
      const int oc = 8 << stage, stride = oc == width ? 1 : 2;
      ValueId y = build.relu(name + "/relu1", build.conv_bn(name + "/conv1", x, oc, 3, stride));
      y = build.conv_bn(name + "/conv2", y, oc, 3, 1);
      const ValueId skip = stride == 1 ? x : build.shortcut(name + "/shortcut", x, oc);
      x = build.relu(name + "/relu2", build.sum(name + "/add", y, skip));
      width = oc;
    }
  }
  return build.linear("fc", build.mean("mean", x), classes);
}

ValueId resnet20(Builder& build, ValueId x, int classes) { return resnet(build, x, classes, 3); }
ValueId resnet32(Builder& build, ValueId x, int classes) { return resnet(build, x, classes, 5); }
ValueId resnet56(Builder& build, ValueId x, int classes) { return resnet(build, x, classes, 9); }

ValueId vgg_small(Builder& build, ValueId x, int classes) {
  for (int stage = 1; stage <= 3; ++stage) {
    const int oc = 64 << stage;
    for (int layer = 1; layer <= 2; ++layer) {
      const std::string name = fmt::format("stage{}/conv{}", stage, layer);
      x = build.relu(name + "/relu", build.conv_bn(name, x, oc, 3, 1));
    }
    x = build.max_pool(fmt::format("stage{}/pool", stage), x, 2);
  }
  return build.linear("fc", build.flatten("flatten", x), classes);
}

ValueId inverted_residual(Builder& build, const std::string& name, ValueId x, int oc, int stride, int expansion) {
  const int ic = static_cast<int>(build.dims(x)[0]), wide = ic * expansion;
  ValueId y = x;
  if (expansion > 1) y = build.relu(name + "/expand/relu", build.conv_bn(name + "/expand", y, wide, 1, 1), 6);
  y = build.relu(name + "/depthwise/relu", build.conv_bn(name + "/depthwise", y, wide, 3, stride, wide), 6);
  y = build.conv_bn(name + "/project", y, oc, 1, 1);
  return stride == 1 && ic == oc ? build.sum(name + "/add", y, x) : y;
}

ValueId mobilenet_v2(Builder& build, ValueId x, int classes) {
  struct Stage {
    int expansion, oc, blocks, stride;
  };
  constexpr Stage kStages[] = {{1, 16, 1, 1}, {6, 24, 2, 1},  {6, 32, 3, 2}, {6, 64, 4, 2},
                               {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
  x = build.relu("stem/relu", build.conv_bn("stem", x, 32, 3, 1), 6);
  for (size_t stage = 0; stage < std::size(kStages); ++stage) {
    const Stage& s = kStages[stage];
    for (int block = 1; block <= s.blocks; ++block) {
      const std::string name = fmt::format("stage{}/block{}", stage + 1, block);
      x = inverted_residual(build, name, x, s.oc, block == 1 ? s.stride : 1, s.expansion);
    }
  }
  x = build.relu("head/relu", build.conv_bn("head", x, 1280, 1, 1), 6);
  return build.linear("fc", build.mean("mean", x), classes);
}

struct Architecture {
  const char* name;
  ValueId (*build)(Builder&, ValueId, int);
};
constexpr Architecture kArchitectures[] = {
    {"lenet", lenet},       {"digits-cnn", digits_cnn}, {"resnet20", resnet20},         {"resnet32", resnet32},
    {"resnet56", resnet56}, {"vgg-small", vgg_small},   {"mobilenet-v2", mobilenet_v2},
};

}  // namespace

std::vector<std::string> architecture_names() {
  std::vector<std::string> names;
  for (const Architecture& architecture : kArchitectures) names.emplace_back(architecture.name);
  return names;
}

Graph make_architecture(std::string_view name, int channels, int height, int width, int classes, uint64_t seed) {
  const auto* found = std::ranges::find(kArchitectures, name, &Architecture::name);
  if (found == std::end(kArchitectures)) {
    fail(ErrorCode::kInvalidArgument, "unknown network '{}': expected {}, or an .onnx file", printable(std::string(name)),
         fmt::join(architecture_names(), ", "));
  }
  if (height < 8 || width < 8 || channels < 1 || classes < 1) {
    fail(ErrorCode::kInvalidArgument, "network '{}': found images of {}x{}x{} and {} classes, expected at least 8x8 pixels and one class",
         found->name, channels, height, width, classes);
  }
  Graph graph;
  graph.name = name;
  graph.values.push_back({"input", {channels, height, width}, {}});
  graph.input = 0;
  Builder build(graph, seed);
  graph.outputs = {found->build(build, 0, classes)};
  graph::verify(graph);
  return graph;
}

}  // namespace bitstrata::train
