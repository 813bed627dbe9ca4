#pragma once

#include <functional>
#include <string>

#include "train/trainer.h"

namespace bitstrata::cli {

/// What a command adds to the loop of run_training.
struct TrainingHooks {
  std::function<void()> save;  ///< writes a checkpoint
  std::function<void(const train::TrainStatus&)>
      on_epoch;                       ///< after the checkpoint of every finished epoch; may be empty
  std::function<bool()> out_of_time;  ///< ends training early; may be empty
  std::string resume_hint;            ///< how to go on after an interruption
};

/// Trains to the end with a progress bar, saving after every epoch, every `checkpoint_seconds` and when a
/// signal comes, which then ends it with kInterrupted. A kill between two saves costs the steps since the
/// last one only.
void run_training(train::Trainer& trainer, const train::TrainOptions& options, double checkpoint_seconds,
                  bool quiet, const TrainingHooks& hooks);

}  // namespace bitstrata::cli
