// Importer of ONNX files: any bytes are refused with an Error of the documented codes or become a Graph,
// which compiles when it has quantizers or is refused too.

#include <google/protobuf/stubs/logging.h>
#include <onnx/onnx_pb.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <string>

#include "compile/lower.h"
#include "core/error.h"
#include "core/random.h"
#include "onnx/import.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

using bitstrata::Random;

constexpr const char* kOperators[] = {"Abs",
                                      "Add",
                                      "ArgMax",
                                      "AveragePool",
                                      "BatchNormalization",
                                      "BipolarQuant",
                                      "Cast",
                                      "Ceil",
                                      "Clip",
                                      "Concat",
                                      "Constant",
                                      "ConstantOfShape",
                                      "Conv",
                                      "DequantizeLinear",
                                      "Div",
                                      "Dropout",
                                      "Elu",
                                      "Equal",
                                      "Erf",
                                      "Exp",
                                      "Expand",
                                      "Flatten",
                                      "Floor",
                                      "Gather",
                                      "Gelu",
                                      "Gemm",
                                      "GlobalAveragePool",
                                      "GlobalMaxPool",
                                      "Greater",
                                      "HardSigmoid",
                                      "HardSwish",
                                      "Identity",
                                      "LeakyRelu",
                                      "Less",
                                      "Log",
                                      "MatMul",
                                      "Max",
                                      "MaxPool",
                                      "Min",
                                      "Mod",
                                      "Mul",
                                      "Neg",
                                      "Not",
                                      "PRelu",
                                      "Pad",
                                      "Pow",
                                      "QGemm",
                                      "QLinearAdd",
                                      "QLinearConcat",
                                      "QLinearConv",
                                      "QLinearMatMul",
                                      "QLinearSigmoid",
                                      "Quant",
                                      "QuantizeLinear",
                                      "Range",
                                      "Reciprocal",
                                      "ReduceMean",
                                      "ReduceProd",
                                      "Relu",
                                      "Reshape",
                                      "Resize",
                                      "Round",
                                      "Shape",
                                      "Sigmoid",
                                      "Size",
                                      "Slice",
                                      "Softmax",
                                      "Softplus",
                                      "Split",
                                      "Sqrt",
                                      "Squeeze",
                                      "Sub",
                                      "Sum",
                                      "Tanh",
                                      "Tile",
                                      "Transpose",
                                      "Unsqueeze",
                                      "Where"};

constexpr int64_t kIntegers[] = {0,
                                 1,
                                 2,
                                 3,
                                 4,
                                 8,
                                 -1,
                                 -2,
                                 -4,
                                 255,
                                 65536,
                                 int64_t{1} << 31,
                                 int64_t{1} << 32,
                                 int64_t{1} << 40,
                                 INT64_MAX,
                                 INT64_MIN,
                                 INT32_MAX,
                                 INT32_MIN};

template <typename Array>
auto pick(const Array& values, Random& random) {
  return values[random.below(std::size(values))];
}

/// Index of one of `size` elements, or -1 when there are none.
int index_of(int size, Random& random) {
  return size > 0 ? static_cast<int>(random.below(static_cast<uint64_t>(size))) : -1;
}

void change(google::protobuf::RepeatedField<int64_t>& values, Random& random) {
  const int i = index_of(values.size(), random);
  if (i < 0 || random.below(6) == 0) {
    values.Add(pick(kIntegers, random));
  } else if (random.below(6) == 0) {
    values.RemoveLast();
  } else {
    values.Set(i, pick(kIntegers, random));
  }
}

void change(onnx::TensorProto& tensor, Random& random) {
  switch (random.below(4)) {
    case 0:
      change(*tensor.mutable_dims(), random);
      break;
    case 1:
      change(*tensor.mutable_int64_data(), random);
      break;
    case 2:
      tensor.set_data_type(static_cast<int>(random.below(28)));
      break;
    case 3:
      tensor.set_raw_data(std::string(random.below(40), static_cast<char>(random.below(256))));
      break;
  }
}

void change_attribute(onnx::NodeProto& node, Random& random) {
  const int i = index_of(node.attribute_size(), random);
  if (i < 0) return;
  auto& attribute = *node.mutable_attribute(i);
  if (attribute.has_t()) {
    change(*attribute.mutable_t(), random);
  } else if (attribute.ints_size() > 0) {
    change(*attribute.mutable_ints(), random);
  } else if (attribute.has_f()) {
    attribute.set_f(static_cast<float>(pick(kIntegers, random)) / 3);
  } else {
    attribute.set_i(pick(kIntegers, random));
  }
}

void change_edge(onnx::GraphProto& graph, onnx::NodeProto& node, Random& random) {
  const int from = index_of(graph.node_size(), random), input = index_of(node.input_size(), random);
  const int initializer = index_of(graph.initializer_size(), random);
  std::string name;
  if (random.below(2) == 0 && initializer >= 0) {
    name = graph.initializer(initializer).name();
  } else if (graph.node(from).output_size() > 0) {
    name = graph.node(from).output(0);
  }
  if (input < 0 || random.below(6) == 0) {
    node.add_input(name);
  } else {
    node.set_input(input, name);
  }
}

/// One change that keeps the file a protobuf message.
void change(onnx::ModelProto& model, Random& random) {
  auto& graph = *model.mutable_graph();
  const int n = index_of(graph.node_size(), random), t = index_of(graph.initializer_size(), random);
  switch (random.below(9)) {
    case 0:
      if (n >= 0) graph.mutable_node(n)->set_op_type(pick(kOperators, random));
      break;
    case 1:
    case 2:
      if (n >= 0) change_attribute(*graph.mutable_node(n), random);
      break;
    case 3:
      if (n >= 0) change_edge(graph, *graph.mutable_node(n), random);
      break;
    case 4:
    case 5:
      if (t >= 0) change(*graph.mutable_initializer(t), random);
      break;
    case 6:
      if (n >= 0) graph.mutable_node()->SwapElements(n, index_of(graph.node_size(), random));
      break;
    case 7:
      if (n >= 0) graph.mutable_node()->DeleteSubrange(n, 1);
      break;
    case 8:
      if (graph.input_size() > 0) {
        auto& shape = *graph.mutable_input(0)->mutable_type()->mutable_tensor_type()->mutable_shape();
        const int d = index_of(shape.dim_size(), random);
        (d < 0 ? shape.add_dim() : shape.mutable_dim(d))->set_dim_value(pick(kIntegers, random));
      }
      break;
  }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  google::protobuf::SetLogHandler(nullptr);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    bitstrata::onnx::Options options;
    options.quantizers = true;
    const auto graph = bitstrata::onnx::import_bytes({data, size}, "fuzz.onnx", options);
    if (bitstrata::graph::has_quantizers(graph)) bitstrata::compile::lower_quantized(graph);
  } catch (const bitstrata::Error& error) {
    using bitstrata::ErrorCode;
    const auto code = error.code();
    const bool documented =
        code == ErrorCode::kUnsupported || code == ErrorCode::kCorruptFile || code == ErrorCode::kBadInput;
    if (!documented || std::string(error.what()).find('\n') != std::string::npos) {
      std::fprintf(stderr, "violated: one line with a documented code, found %s: %s\n", to_string(code),
                   error.what());
      std::abort();
    }
  }
  return 0;
}

/// Changes the message's fields, or, one time in four, its bytes.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  onnx::ModelProto model;
  if (seed % 4 == 0 || !model.ParseFromArray(data, static_cast<int>(size)))
    return LLVMFuzzerMutate(data, size, max_size);
  Random random(seed, 0);
  for (uint64_t i = 0; i <= seed / 4 % 3; ++i) change(model, random);
  const std::string bytes = model.SerializeAsString();
  if (bytes.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  std::copy(bytes.begin(), bytes.end(), data);
  return bytes.size();
}
