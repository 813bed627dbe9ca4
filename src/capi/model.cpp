#include "capi/handles.h"
#include "core/isa.h"
#include "format/bst.h"
#include "kernels/conv.h"
#include "program/layer.h"

namespace bitstrata::capi {
namespace {

kernels::Family parse_family(const std::string& name) {
  std::string names;
  for (const kernels::KernelEntry& entry : kernels::conv_kernels()) {
    const std::string family = kernels::to_string(entry.family);
    if (family == name) return entry.family;
    if (names.find(family) == std::string::npos) names += (names.empty() ? "" : ", ") + family;
  }
  fail(ErrorCode::kInvalidArgument, "found kernels '{}', expected one of {}", printable(name), names);
}

/// The options of a caller whose header may be older or newer.
runtime::Options to_options(const bitstrata_options* given) {
  bitstrata_options all = BITSTRATA_OPTIONS_INIT;
  if (given != nullptr) {
    check_struct_size(given->struct_size, "options");
    const auto* bytes = reinterpret_cast<const char*>(given);
    if (std::any_of(bytes + std::min(sizeof all, given->struct_size), bytes + given->struct_size,
                    [](char byte) { return byte != 0; })) {
      fail(ErrorCode::kUnsupported,
           "the options have fields that version {} of the library does not know; leave them 0",
           BITSTRATA_VERSION);
    }
    std::memcpy(&all, given, std::min(sizeof all, given->struct_size));
  }
  runtime::Options options;
  options.threads = all.threads;
  options.max_batch = all.max_batch;
  options.isa = resolve_isa(all.isa != nullptr ? all.isa : "");
  if (all.kernels != nullptr) options.family = parse_family(all.kernels);
  if (all.kernel_times != nullptr) options.kernel_times = all.kernel_times;
  return options;
}

bitstrata_tensor_info describe(const runtime::Model& model, program::TensorId id) {
  static_assert(BITSTRATA_MAX_RANK >= 5, "program::Tensor promises a rank of at most 5");
  const program::Tensor& tensor = model.program().tensors[static_cast<size_t>(id)];
  bitstrata_tensor_info info = BITSTRATA_TENSOR_INFO_INIT;
  info.name = tensor.name.c_str();
  info.rank = tensor.dims.size();
  std::copy(tensor.dims.begin(), tensor.dims.end(), info.dims);
  info.element_count = static_cast<size_t>(program::elements(tensor.dims));
  return info;
}

bitstrata_layer_info describe_layer(const runtime::Model& model, size_t index) {
  const program::Program& network = model.program();
  const program::Op& op = network.ops[index];
  const program::OpBits bits = program::op_bits(network, op);
  bitstrata_layer_info info = BITSTRATA_LAYER_INFO_INIT;
  info.name = op.name.c_str();
  info.op = program::to_string(op.kind);
  info.kernel = model.kernel_name(index).c_str();
  info.weight_bits = bits.w_bits;
  info.activation_bits = bits.a_bits;
  info.macs = static_cast<uint64_t>(program::macs(network, op));
  info.weight_count = program::weight_elems(network, op);
  info.weight_bytes = program::weight_bytes(op);
  return info;
}

bitstrata_model_info describe(const runtime::Model& model) {
  const program::Program& network = model.program();
  bitstrata_model_info info = BITSTRATA_MODEL_INFO_INIT;
  info.input_count = 1;
  info.output_count = network.outputs.size();
  info.layer_count = network.ops.size();
  info.class_count = network.class_names.size();
  info.channel_count = network.mean.size();
  for (const program::Op& op : network.ops) {
    info.macs += static_cast<uint64_t>(program::macs(network, op));
    info.weight_bytes += program::weight_bytes(op);
  }
  info.arena_bytes = model.arena_bytes();
  info.threads = model.options().threads;
  info.max_batch = model.options().max_batch;
  info.isa = to_string(model.options().isa);
  return info;
}

/// Prepares what `read` yields, after the options have been understood.
template <typename Read>
bitstrata_model* load(const bitstrata_options* options, Read&& read) {
  const runtime::Options understood = to_options(options);
  return new bitstrata_model{runtime::Model::prepare(read(), understood)};
}

const runtime::Model& inside(const bitstrata_model* model) {
  check_pointer(model, "model");
  return *model->model;
}

}  // namespace
}  // namespace bitstrata::capi

using namespace bitstrata;
using capi::guarded;

bitstrata_status bitstrata_model_load(const char* path, const bitstrata_options* options,
                                      bitstrata_model** model) {
  return guarded([&] {
    capi::check_pointer(model, "place for the model");
    *model = nullptr;
    capi::check_pointer(path, "path");
    *model = capi::load(options, [&] { return format::read(path); });
  });
}

bitstrata_status bitstrata_model_load_memory(const void* bytes, size_t size_bytes,
                                             const bitstrata_options* options, bitstrata_model** model) {
  return guarded([&] {
    capi::check_pointer(model, "place for the model");
    *model = nullptr;
    capi::check_pointer(bytes, "bytes");
    *model = capi::load(options, [&] {
      return format::decode({static_cast<const uint8_t*>(bytes), size_bytes}, "model in memory");
    });
  });
}

void bitstrata_model_free(bitstrata_model* model) {
  delete model;
}

bitstrata_status bitstrata_model_get_info(const bitstrata_model* model, bitstrata_model_info* info) {
  return guarded([&] { capi::give(capi::describe(capi::inside(model)), info, "model info"); });
}

bitstrata_status bitstrata_model_get_input(const bitstrata_model* model, size_t index,
                                           bitstrata_tensor_info* info) {
  return guarded([&] {
    const runtime::Model& inside = capi::inside(model);
    capi::check_index(index, 1, "input");
    capi::give(capi::describe(inside, inside.program().input), info, "tensor info");
  });
}

bitstrata_status bitstrata_model_get_output(const bitstrata_model* model, size_t index,
                                            bitstrata_tensor_info* info) {
  return guarded([&] {
    const runtime::Model& inside = capi::inside(model);
    capi::check_index(index, inside.program().outputs.size(), "output");
    capi::give(capi::describe(inside, inside.program().outputs[index]), info, "tensor info");
  });
}

bitstrata_status bitstrata_model_get_layer(const bitstrata_model* model, size_t index,
                                           bitstrata_layer_info* info) {
  return guarded([&] {
    const runtime::Model& inside = capi::inside(model);
    capi::check_index(index, inside.program().ops.size(), "layer");
    capi::give(capi::describe_layer(inside, index), info, "layer info");
  });
}

bitstrata_status bitstrata_model_class_name(const bitstrata_model* model, size_t index, const char** name) {
  return guarded([&] {
    const auto& names = capi::inside(model).program().class_names;
    capi::check_pointer(name, "place for the name");
    capi::check_index(index, names.size(), "class");
    *name = names[index].c_str();
  });
}

bitstrata_status bitstrata_model_normalization(const bitstrata_model* model, float* mean, float* std,
                                               size_t capacity) {
  return guarded([&] {
    const program::Program& network = capi::inside(model).program();
    if (network.mean.empty()) return;
    capi::check_pointer(mean, "place for the means");
    capi::check_pointer(std, "place for the standard deviations");
    if (capacity < network.mean.size()) {
      fail(ErrorCode::kBadInput, "found room for the normalization of {} channels, expected {}", capacity,
           network.mean.size());
    }
    std::copy(network.mean.begin(), network.mean.end(), mean);
    std::copy(network.std.begin(), network.std.end(), std);
  });
}
