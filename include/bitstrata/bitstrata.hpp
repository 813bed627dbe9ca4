// C++20 over the C interface of libbitstrata, header only: RAII, spans, exceptions with codes. bitstrata.h
// says what holds for all calls; this header adds nothing to it but ownership and containers.
#ifndef BITSTRATA_BITSTRATA_HPP
#define BITSTRATA_BITSTRATA_HPP

#if __cplusplus < 202002L
#error "bitstrata.hpp needs C++20 (-std=c++20)"
#endif

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "bitstrata/bitstrata.h"

namespace bitstrata {

/// A call that failed. what() is the library's message.
class Error : public std::runtime_error {
 public:
  Error(bitstrata_status code, const char* message) : std::runtime_error(message), code_(code) {}
  bitstrata_status code() const noexcept { return code_; }
  /// As "corrupt-file".
  const char* code_name() const noexcept { return bitstrata_status_name(code_); }

 private:
  bitstrata_status code_;
};

/// Throws Error unless `status` is BITSTRATA_OK. Call it in the thread that made the call.
inline void check(bitstrata_status status) {
  if (status != BITSTRATA_OK) throw Error(status, bitstrata_last_error());
}

/// As bitstrata_options; an empty isa or kernels is the default.
struct Options {
  int threads = 1;
  int max_batch = 1;
  std::string isa = {};
  std::string kernels = {};
  std::optional<std::string> kernel_times = {};  ///< not set: choose kernels by estimate
};

/// As bitstrata_tensor_info.
struct Tensor {
  std::string name;
  std::vector<int64_t> dims;
  size_t element_count = 0;
};

/// As bitstrata_layer_info.
struct Layer {
  std::string name, op, kernel;
  int weight_bits = 0, activation_bits = 0;
  uint64_t macs = 0;
  size_t weight_count = 0, weight_bytes = 0;
};

/// A packed network, ready to run. Copies share it. Any number of threads may use it at once.
class Model {
 public:
  /// Reads a .bst file.
  static Model load(const std::string& path, const Options& options = {}) {
    return make(options, [&](const bitstrata_options* given, bitstrata_model** model) {
      return bitstrata_model_load(path.c_str(), given, model);
    });
  }
  /// Reads the bytes of a .bst file, which are not needed afterwards.
  static Model load(std::span<const std::byte> bytes, const Options& options = {}) {
    return make(options, [&](const bitstrata_options* given, bitstrata_model** model) {
      return bitstrata_model_load_memory(bytes.data(), bytes.size(), given, model);
    });
  }

  bitstrata_model_info info() const {
    bitstrata_model_info info = BITSTRATA_MODEL_INFO_INIT;
    check(bitstrata_model_get_info(get(), &info));
    return info;
  }
  Tensor input(size_t index = 0) const { return tensor(bitstrata_model_get_input, index); }
  Tensor output(size_t index = 0) const { return tensor(bitstrata_model_get_output, index); }
  Layer layer(size_t index) const {
    bitstrata_layer_info info = BITSTRATA_LAYER_INFO_INIT;
    check(bitstrata_model_get_layer(get(), index, &info));
    return {info.name, info.op,           info.kernel,      info.weight_bits, info.activation_bits,
            info.macs, info.weight_count, info.weight_bytes};
  }
  std::string class_name(size_t index) const {
    const char* name = "";
    check(bitstrata_model_class_name(get(), index, &name));
    return name;
  }
  /// Pixels become (pixel / 255 - mean[c]) / std[c] for channel c; both empty: unknown.
  struct Normalization {
    std::vector<float> mean, std;
  };
  Normalization normalization() const {
    const size_t channels = info().channel_count;
    Normalization values{std::vector<float>(channels), std::vector<float>(channels)};
    check(bitstrata_model_normalization(get(), values.mean.data(), values.std.data(), channels));
    return values;
  }

  /// The handle, owned by this object.
  const bitstrata_model* get() const noexcept { return handle_.get(); }

 private:
  explicit Model(bitstrata_model* handle) : handle_(handle, bitstrata_model_free) {}

  template <typename Load>
  static Model make(const Options& options, Load&& load) {
    bitstrata_options given = BITSTRATA_OPTIONS_INIT;
    given.threads = options.threads;
    given.max_batch = options.max_batch;
    if (!options.isa.empty()) given.isa = options.isa.c_str();
    if (!options.kernels.empty()) given.kernels = options.kernels.c_str();
    if (options.kernel_times) given.kernel_times = options.kernel_times->c_str();
    bitstrata_model* handle = nullptr;
    check(load(&given, &handle));
    return Model(handle);
  }

  template <typename Get>
  Tensor tensor(Get&& get_info, size_t index) const {
    bitstrata_tensor_info info = BITSTRATA_TENSOR_INFO_INIT;
    check(get_info(get(), index, &info));
    return {info.name, {info.dims, info.dims + info.rank}, info.element_count};
  }

  std::shared_ptr<bitstrata_model> handle_;
};

/// One thread of execution over a model, whose memory it owns. Use one per thread.
class Session {
 public:
  explicit Session(const Model& model) : output_count_(model.info().output_count) {
    bitstrata_session* handle = nullptr;
    check(bitstrata_session_create(model.get(), &handle));
    handle_.reset(handle);
    for (size_t i = 0; i < output_count_; ++i) element_counts_.push_back(model.output(i).element_count);
  }

  /// Runs n images: input [n, dims of the input], outputs[i] [n, dims of output i], float32, row-major.
  void run(size_t n, std::span<const float> input, std::span<const std::span<float>> outputs) {
    std::vector<float*> addresses;
    std::vector<size_t> sizes;
    for (std::span<float> output : outputs) {
      addresses.push_back(output.data());
      sizes.push_back(output.size());
    }
    check(bitstrata_session_run(handle_.get(), n, input.data(), input.size(), addresses.data(), sizes.data(),
                                outputs.size()));
  }

  /// As above, into new memory: one vector per output.
  std::vector<std::vector<float>> run(size_t n, std::span<const float> input) {
    std::vector<std::vector<float>> values;
    for (size_t count : element_counts_) values.emplace_back(n * count);
    run(n, input, std::vector<std::span<float>>(values.begin(), values.end()));
    return values;
  }

 private:
  struct Free {
    void operator()(bitstrata_session* session) const noexcept { bitstrata_session_free(session); }
  };
  std::unique_ptr<bitstrata_session, Free> handle_;
  size_t output_count_;
  std::vector<size_t> element_counts_;
};

}  // namespace bitstrata

#endif
