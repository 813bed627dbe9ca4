#include "training_loop.h"

#include <chrono>
#include <memory>

#include "common/interrupt.h"
#include "common/progress.h"
#include "core/error.h"

namespace bitstrata::cli {

void run_training(train::Trainer& trainer, const train::TrainOptions& options, double checkpoint_seconds,
                  bool quiet, const TrainingHooks& hooks) {
  using Clock = std::chrono::steady_clock;
  auto last_save = Clock::now();
  const auto save = [&] {
    hooks.save();
    last_save = Clock::now();
  };
  std::unique_ptr<Progress> progress;
  while (!trainer.finished()) {
    const train::TrainStatus before = trainer.status();
    if (!progress) {
      progress = std::make_unique<Progress>(fmt::format("epoch {}/{}", before.epoch + 1, options.epochs),
                                            static_cast<uint64_t>(before.steps_per_epoch * options.batch),
                                            "images", quiet);
    }
    trainer.step();
    const train::TrainStatus now = trainer.status();
    progress->update(static_cast<uint64_t>((before.step + 1) * options.batch),
                     fmt::format("loss {:.3f}, accuracy {:.1f} %", now.loss, 100 * now.accuracy));
    if (trainer.at_epoch_start()) {
      progress.reset();
      save();
      if (hooks.on_epoch) hooks.on_epoch(now);
    } else if (interrupted() ||
               std::chrono::duration<double>(Clock::now() - last_save).count() > checkpoint_seconds) {
      save();
    }
    if (interrupted()) {
      progress.reset();
      fail(ErrorCode::kInterrupted, "interrupted; {}", hooks.resume_hint);
    }
    if (hooks.out_of_time && hooks.out_of_time()) {
      progress.reset();
      save();
      return;
    }
  }
}

}  // namespace bitstrata::cli
