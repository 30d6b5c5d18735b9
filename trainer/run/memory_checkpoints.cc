#include "trainer/run/memory_checkpoints.h"

#include "absl/strings/str_format.h"
#include "kernels/base/log.h"
#include "trainer/run/state.h"

namespace jevons {

void MemoryCheckpoints::Open(Communicator& world, const std::string& folder, int64_t interval, int64_t epoch) {
  if (interval == 0) return;
  interval_ = interval;
  speaks_ = world.rank() == 0;
  int64_t missing = folder.empty() ? 1 : 0;
  world.AllReduceSum({&missing, 1});
  if (missing == 0) {
    writer_.emplace(folder, world, epoch);
    if (speaks_ && !writer_->has_buddies())
      LogInfo(absl::StrFormat("checkpoints in memory every %d steps, on this host alone: they outlive ranks, not the host",
                              interval));
  } else if (speaks_) {
    LogWarning(
        absl::StrFormat("checkpoint.memory_interval = %d: on %d of %d ranks there is no supervisor to keep checkpoints in "
                        "memory, so there will be none; start "
                        "this run by `jevons supervise`, of several hosts with --hosts",
                        interval, missing, world.size()));
  }
}

void MemoryCheckpoints::AfterStep(int64_t step, bool ends, TrainStep& state,
                                  const std::function<CheckpointInfo(int64_t step)>& info) {
  if (!writer_) return;
  PhaseScope phase(&state.timer(), Phase::kCheckpoint);
  const bool due = step % interval_ == 0;
  const absl::Status status = ends  ? writer_->Finish()
                              : due ? writer_->Save(info(step), SlicesOf(state.State()), state.stream())
                                    : writer_->Poll();
  if (status.ok()) return;
  if (speaks_) LogWarning(absl::StrFormat("training goes on without checkpoints in memory: %s", std::string(status.message())));
  writer_.reset();
}

}  // namespace jevons
