#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/isa.h"
#include "kernels/conv.h"
#include "program/program.h"
#include "runtime/kernel_times.h"

namespace bitstrata::runtime {

struct Options {
  int threads = 1;                            ///< OpenMP threads of one run(), >= 1
  Isa isa = best_isa();                       ///< cap on the instruction sets used
  int max_batch = 1;                          ///< images per run(), >= 1; memory is planned for it
  std::optional<kernels::Family> family;      ///< use only this family for quantized layers (tests, comparisons)
  /// Chooses each quantized layer's kernel by measuring them here, once per layer, CPU and setting; the times are kept in this file (an empty
  /// path: nowhere). nullopt: chosen by estimate, which takes no time. The results are the same, bit for bit.
  std::optional<std::filesystem::path> kernel_times;
  bool keep_all_tensors = false;              ///< do not reuse memory, so that every tensor can be read after run()
};

/// A program with its weights packed for this machine. Immutable: share one among any number of sessions and threads.
class Model {
 public:
  /// Validates the program and prepares every layer. Errors: kCorruptFile, kUnsupported.
  static std::shared_ptr<const Model> prepare(program::Program program, const Options& options);
  virtual ~Model() = default;
  virtual const program::Program& program() const noexcept = 0;
  virtual const Options& options() const noexcept = 0;
  /// Name of the kernel that op `index` runs on, e.g. "conv_bitplane__avx2"; "-" for ops without a choice of kernel.
  virtual const std::string& kernel_name(size_t op_index) const noexcept = 0;
  /// Measured times of the kernels for op `index`, fastest first; empty where nothing was measured.
  virtual const std::vector<KernelTime>& kernel_times(size_t op_index) const noexcept = 0;
  /// Bytes of the arena that one session allocates.
  virtual size_t arena_bytes() const noexcept = 0;
};

/// Time of one op in the last profiled run.
struct OpTime {
  size_t op_index = 0;
  double milliseconds = 0;
};

/// One thread of execution over a Model: owns the arena. Not thread-safe; use one per thread.
class Session {
 public:
  explicit Session(std::shared_ptr<const Model> model);
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  /// Runs n images. input: [n, dims of the program input] float32, row-major logical order (NCHW), already normalised.
  /// outputs[i]: [n, dims of output i] float32, row-major. No allocation. kBadInput when sizes do not fit or n is not in 1..max_batch.
  void run(std::span<const float> input, int n, std::span<const std::span<float>> outputs);
  /// The common case of one output.
  void run(std::span<const float> input, int n, std::span<float> output);

  /// As run(), also measuring every op.
  std::vector<OpTime> profile(std::span<const float> input, int n, std::span<const std::span<float>> outputs);

  /// Codes of tensor `id` of image `image` of the last run, in logical row-major order. Needs keep_all_tensors. kNotFound when the tensor
  /// is float32.
  std::vector<uint8_t> codes(program::TensorId id, int image) const;
  /// Values of a tensor of the last run (dequantized when codes), logical row-major order. Needs keep_all_tensors.
  std::vector<float> values(program::TensorId id, int image) const;

  const Model& model() const noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace bitstrata::runtime
