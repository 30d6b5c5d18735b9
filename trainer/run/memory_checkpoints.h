// Checkpoints in memory as a run makes them: every so many steps, where somebody keeps them (checkpoint/memory_writer.h).
#ifndef JEVONS_TRAINER_RUN_MEMORY_CHECKPOINTS_H_
#define JEVONS_TRAINER_RUN_MEMORY_CHECKPOINTS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "parallel/comm/communicator.h"
#include "trainer/checkpoint/memory_writer.h"
#include "trainer/step/train_step.h"

namespace jevons {

class MemoryCheckpoints {
 public:
  // Collective: all ranks have a `folder` for them, or none goes on with them, and the first says so. `interval` in steps; 0: none. `epoch`: of this
  // incarnation.
  void Open(Communicator& world, const std::string& folder, int64_t interval, int64_t epoch);
  // Collective, after every step: `step` are done, and none follows where the run `ends`. Where a host's memory does not take them the run goes on
  // without. `info` is asked where one is due.
  void AfterStep(int64_t step, bool ends, TrainStep& state, const std::function<CheckpointInfo(int64_t step)>& info);
  // Collective, after the last AfterStep: those of `step` steps and more are gone.
  void Forget(int64_t step) {
    if (writer_) writer_->Forget(step);
  }

 private:
  std::optional<MemoryWriter> writer_;
  bool speaks_ = false;  // the first rank
  int64_t interval_ = 0;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_RUN_MEMORY_CHECKPOINTS_H_
