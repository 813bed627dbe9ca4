#pragma once

#include <memory>

#include "kernels/conv.h"

namespace bitstrata::kernels {

/// oneDNN's own quantized convolution, which kernels are compared with: u8 in, u8 out, scales per output
/// channel and ReLU inside, memory formats of its choice. It computes 8-bit layers its own way; its results
/// are not ours.
class OnednnPeer {
 public:
  /// Shape, batch and threads of `problem`; bits and grid are of no matter to it. Holds oneDNN to `cap` in
  /// this process, as all kernels do. kUnsupported when oneDNN cannot, or was held to another cap before.
  OnednnPeer(const ConvProblem& problem, Isa cap);
  ~OnednnPeer();
  /// One batch of constant images.
  void run() const;
  /// As it names itself, e.g. "jit:avx512_core_vnni".
  std::string implementation() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace bitstrata::kernels
