#include "usual_networks.h"

#include <fmt/format.h>

#include <limits>
#include <string>

#include "core/random.h"

namespace bitstrata::cli {
namespace {

using graph::ValueId;

/// Appends nodes to a graph; every value is named after its node.
class Maker {
 public:
  explicit Maker(graph::Dims input) {
    graph_.values.push_back({"input", std::move(input), {}});
    graph_.input = 0;
  }

  ValueId add(const std::string& name, graph::Kind kind, std::vector<ValueId> inputs,
              graph::Dims stored = {}) {
    const auto output = static_cast<ValueId>(graph_.values.size());
    graph_.values.push_back({name, std::move(stored), {}});
    graph_.nodes.push_back({name, std::move(kind), std::move(inputs), output});
    graph_.values.back().dims = graph::infer_dims(graph_, graph_.nodes.back());
    return output;
  }
  const graph::Dims& dims(ValueId value) const { return graph_.values[static_cast<size_t>(value)].dims; }

  ValueId conv(const std::string& name, ValueId x, int channels, int kernel, int stride) {
    graph::Conv conv;
    conv.oc = channels;
    const int pad = kernel / 2;
    conv.window = {kernel, kernel, stride, stride, 1, 1, pad, pad, pad, pad};
    conv.weights = reals(channels * dims(x)[0] * kernel * kernel);
    conv.bias = reals(channels);
    return add(name, std::move(conv), {x});
  }
  ValueId relu(const std::string& name, ValueId x) {
    graph::Activation clip;
    clip.step.b = std::numeric_limits<float>::infinity();
    return add(name, std::move(clip), {x});
  }
  /// Stride 2 and twice the channels by leaving out rows and columns and adding zeros.
  ValueId option_a(const std::string& name, ValueId x) {
    const graph::Dims from = dims(x);
    const int64_t channels = from[0], height = (from[1] + 1) / 2, width = (from[2] + 1) / 2;
    x = add(name + "/rows", program::Slice{1, 0, 2}, {x}, {channels, height, from[2]});
    x = add(name + "/columns", program::Slice{2, 0, 2}, {x}, {channels, height, width});
    return add(name + "/pad", program::Pad{{channels / 2, 0, 0}, {channels / 2, 0, 0}, 0}, {x});
  }
  ValueId block(const std::string& name, ValueId x, int channels, int stride, bool is_option_a) {
    const ValueId first = relu(name + "/relu1", conv(name + "/conv1", x, channels, 3, stride));
    const ValueId second = conv(name + "/conv2", first, channels, 3, 1);
    ValueId skip = x;
    if (stride != 1) skip = is_option_a ? option_a(name, x) : conv(name + "/down", x, channels, 1, stride);
    return relu(name + "/relu2", add(name + "/add", graph::Binary{}, {second, skip}));
  }
  graph::Graph head(ValueId x, int classes) {
    x = add("mean", program::ReduceMean{{1, 2}, false}, {x});
    graph::Linear linear;
    linear.out = classes;
    linear.weights = reals(classes * dims(x)[0]);
    linear.bias = reals(classes);
    graph_.outputs = {add("fc", std::move(linear), {x})};
    return std::move(graph_);
  }

 private:
  std::vector<float> reals(int64_t count) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = static_cast<float>(random_.uniform() - 0.5);
    return values;
  }

  graph::Graph graph_;
  Random random_{0, 0};
};

graph::Graph resnet20() {
  Maker maker({3, 32, 32});
  ValueId x = maker.relu("relu", maker.conv("conv", 0, 16, 3, 1));
  for (int stage = 0; stage < 3; ++stage) {
    for (int block = 0; block < 3; ++block) {
      x = maker.block(fmt::format("stage{}/block{}", stage, block), x, 16 << stage,
                      stage > 0 && block == 0 ? 2 : 1, true);
    }
  }
  return maker.head(x, 10);
}

graph::Graph resnet18() {
  Maker maker({3, 224, 224});
  ValueId x = maker.relu("relu", maker.conv("conv", 0, 64, 7, 2));
  program::MaxPool pool;
  pool.window = {3, 3, 2, 2, 1, 1, 1, 1, 1, 1};
  x = maker.add("pool", pool, {x});
  for (int stage = 0; stage < 4; ++stage) {
    for (int block = 0; block < 2; ++block) {
      x = maker.block(fmt::format("stage{}/block{}", stage, block), x, 64 << stage,
                      stage > 0 && block == 0 ? 2 : 1, false);
    }
  }
  return maker.head(x, 1000);
}

}  // namespace

std::vector<graph::Graph> usual_networks() {
  return {resnet20(), resnet18()};
}

}  // namespace bitstrata::cli
