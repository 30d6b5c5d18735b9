// The side of the ranks of checkpoints in memory (memory_parts.h): a copy of this rank's state in its host's memory and, where there are
// several hosts, one in that of another, a buddy's, for when the host goes.
//
// 1. A step's copy is whole on all ranks, buddies' copies included, before the slot of the one before it is written again. So a state that
//    is whole is there at every instant.
// 2. What a Save costs is one copy at memory speed, and two messages of some bytes; hashing and what goes to the buddy run beside the next
//    step.
// 3. Only the calling thread talks to other ranks.
#ifndef JEVONS_TRAINER_CHECKPOINT_MEMORY_WRITER_H_
#define JEVONS_TRAINER_CHECKPOINT_MEMORY_WRITER_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "kernels/base/status.h"
#include "parallel/comm/communicator.h"
#include "trainer/checkpoint/writer.h"

namespace jevons {

class CheckpointManifest;

// For each rank the one that keeps its copy, on another host; empty where all are on one. `hosts`: of each rank.
std::vector<int> BuddiesOf(std::span<const int> hosts);

class MemoryWriter {
 public:
  // Into `folder`, of that name on every host, made where it is missing. `epoch`: of this incarnation. Collective. `world` outlives this.
  MemoryWriter(std::string folder, Communicator& world, int64_t epoch);
  // What is under way stays as it is. Talks to no one: where transfers may be under way, call Finish before.
  ~MemoryWriter();

  bool has_buddies() const { return !buddies_.empty(); }

  // Collective. Ends the save before, then copies the slices; the data may change as soon as this returns. FailureError where a host's memory
  // is full; then the slot of the save before is still whole.
  absl::Status Save(const CheckpointInfo& info, const std::vector<TensorSlice>& slices, const Stream& stream);
  // Collective: at every step boundary. Ends the save under way where all copies have arrived; costs one integer reduction where there are buddies,
  // else nothing.
  absl::Status Poll();
  // Collective. Ends the save under way.
  absl::Status Finish();
  // Collective, with none under way: saves of `step` and later are whole no more, on any host.
  void Forget(int64_t step);

 private:
  // A file in memory, mapped, with an index beside it while it is whole.
  class Slot;
  // Of one rank: written in turn.
  struct Slots;

  void Hash(Slot& slot);
  absl::Status SendIndexes();

  const std::string folder_;
  const std::unique_ptr<Communicator> world_;  // of its own: messages pass no others
  const int64_t epoch_;
  std::vector<int> buddies_, wards_;  // by rank; those whose copies this rank keeps
  std::unique_ptr<Slots> own_;
  std::vector<std::unique_ptr<Slots>> of_wards_;
  size_t turn_ = 0;  // which slot is written next
  std::vector<CommRequest> requests_;
  std::unique_ptr<CheckpointManifest> index_;
  std::string sealed_;  // index_, with its hashes
  std::thread thread_;
  absl::Status hashed_;  // the thread's
  std::atomic<bool> done_ = false;
  bool in_flight_ = false;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_CHECKPOINT_MEMORY_WRITER_H_
