#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "train/network.h"
#include "train/torch.h"

namespace bitstrata::train {

/// Draws a network towards a teacher: by its logits (Hinton et al. 2015), and by the values that its
/// quantizers round, layer by layer (after FitNets, Romero et al. 2015). Not thread-safe.
class Distillation {
 public:
  /// The teacher: a float network over a graph whose values have the student's names, on the student's
  /// device. The student must outlive this. with_layers: layers() will be asked for.
  Distillation(Network& student, std::shared_ptr<Network> teacher, bool with_layers);

  /// The student's logits of x [n, C, H, W]. Runs the teacher too, without gradients.
  torch::Tensor forward(const torch::Tensor& x);
  /// Of the last forward(): -sum p log softmax(logits / T), batch mean, times T^2 so that gradients keep
  /// their size; p: the teacher's probabilities at temperature T.
  torch::Tensor logits_loss(const torch::Tensor& logits, double temperature) const;
  /// Of the last forward(): the squared distance between the student's values before rounding and the
  /// teacher's, over the sum of the teacher's squares; mean over all values that are read through a
  /// quantizer, the network's input aside. 0 where there is none.
  torch::Tensor layers_loss() const;

 private:
  Network& student_;
  std::shared_ptr<Network> teacher_;
  std::vector<std::pair<graph::ValueId, graph::ValueId>> values_;  ///< student's, teacher's
  torch::Tensor teacher_logits_;
  std::vector<torch::Tensor> student_values_, teacher_values_;
};

}  // namespace bitstrata::train
