#include "launch/memory.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <string>

#include "absl/strings/str_format.h"
#include "kernels/tensor/device.h"
#include "launch/cli.h"
#include "launch/gpu.h"
#include "launch/runtime.h"
#include "parallel/mesh.h"
#include "trainer/checkpoint/agreement.h"
#include "trainer/plan/memory_model.h"

namespace jevons {
namespace {

// Of this machine, or of the container that this process is in.
int64_t MachineBytes() {
  int64_t bytes = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE), limit = 0;
  std::ifstream group("/sys/fs/cgroup/memory.max");
  if (group >> limit) bytes = std::min(bytes, limit);  // "max" is no number
  return bytes;
}

struct Room {
  int64_t bytes = 0;
  int ranks = 1;  // that share it
  std::string owner;
};

Room RoomOf(const RunConfig& config) {
  if (config.parallel().backend() == CPU) return {MachineBytes(), MachineRanks().size(), "this machine"};
  const CudaReport cuda = ExamineCuda();
  return {cuda.devices.front().memory_bytes, RanksPerGpu(cuda, MachineRanks().size()), cuda.devices.front().name};
}

std::string Bytes(int64_t bytes) { return HumanBytes(static_cast<double>(bytes)); }

absl::Status Judge(const RunConfig& config, const Communicator& world) {
  const MeshShape shape{.world = world.size(), .pp = 1, .ep = static_cast<int>(config.parallel().ep())};
  const MemoryUse plan = PlanMemory(config, shape, world.rank());
  const Room room = RoomOf(config);
  if (plan.total() <= room.bytes / room.ranks) return absl::OkStatus();
  const std::string sharing = room.ranks > 1 ? absl::StrFormat(" for %d ranks", room.ranks) : "";
  return UsageError(absl::StrFormat(
      "a rank needs %s (weights %s, gradients %s, optimizer %s, activations %s), and %s has %s%s: lower "
      "train.micro_batch_sequences = %d, data.sequence_length = %d or the model's size, set train.recompute_up_projections, or "
      "spread the experts over more ranks (parallel.ep = %d) on more machines; `jevons plan` tells what fits",
      Bytes(plan.total()), Bytes(plan.weights), Bytes(plan.gradients), Bytes(plan.optimizer), Bytes(plan.activations), room.owner,
      Bytes(room.bytes), sharing, config.train().micro_batch_sequences(), config.data().sequence_length(),
      config.parallel().ep()));
}

}  // namespace

absl::Status CheckMemory(const RunConfig& config, Communicator& world) { return AgreeOnStatus(world, Judge(config, world)); }

}  // namespace jevons
