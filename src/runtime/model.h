#pragma once

#include <new>
#include <vector>

#include "runtime/executor.h"
#include "runtime/session.h"

namespace bitstrata::runtime {

/// Uninitialised 64-byte aligned memory. kUnsupported when there is not enough.
class AlignedBuffer {
 public:
  explicit AlignedBuffer(size_t bytes);
  std::byte* data() const noexcept { return bytes_.get(); }

 private:
  struct Free {
    void operator()(std::byte* bytes) const noexcept {
      ::operator delete[](bytes, std::align_val_t{kAlignmentBytes});
    }
  };
  std::unique_ptr<std::byte[], Free> bytes_;
};

class PreparedModel final : public Model {
 public:
  PreparedModel(program::Program program, const Options& options);

  const program::Program& program() const noexcept override { return program_; }
  const Options& options() const noexcept override { return options_; }
  const std::string& kernel_name(size_t op_index) const noexcept override { return kernel_names_[op_index]; }
  const std::vector<KernelTime>& kernel_times(size_t op_index) const noexcept override {
    return kernel_times_[op_index];
  }
  size_t arena_bytes() const noexcept override { return arena_bytes_; }

  /// Runs op `index`, whose context has everything but its scratch.
  void run_op(size_t index, Context context) const noexcept;
  std::span<const Location> locations() const noexcept { return locations_; }
  std::byte* constants() const noexcept { return constants_.data(); }
  const RowOps& ops() const noexcept { return ops_; }
  /// Memory blocks of all tensors and scratches, as planned.
  const std::vector<Block>& blocks() const noexcept { return blocks_; }

 private:
  void prepare_ops();
  size_t place_constants();
  void fill_constants();
  void plan();

  program::Program program_;
  Options options_;
  const RowOps& ops_;
  std::vector<std::unique_ptr<Executor>> executors_;  ///< null: nothing to do, the output is an alias
  std::vector<std::string> kernel_names_;
  std::vector<std::vector<KernelTime>> kernel_times_;
  std::vector<Location> locations_;
  std::vector<Block> blocks_;
  std::vector<size_t> scratch_offsets_;
  size_t arena_bytes_ = 0, constant_bytes_ = 0;
  AlignedBuffer constants_;
};

}  // namespace bitstrata::runtime
