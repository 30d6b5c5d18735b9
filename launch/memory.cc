#include "launch/memory.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <string>

#include "absl/strings/str_format.h"
#include "kernels/cuda/report.h"
#include "kernels/tensor/device.h"
#include "launch/cli.h"
#include "launch/gpu.h"
#include "launch/runtime.h"
#include "parallel/mesh.h"
#include "trainer/checkpoint/agreement.h"
#include "trainer/step/planned_memory.h"
#include "trainer/step/train_step.h"

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
  int64_t bytes = 0;  // for a rank
  std::string owner;  // "this machine has 24.0 GiB for 4 ranks"
};

std::string Bytes(int64_t bytes) { return HumanBytes(static_cast<double>(bytes)); }
std::string Sharing(int ranks) { return ranks > 1 ? absl::StrFormat(" for %d ranks", ranks) : ""; }

Room RoomOf(const RunConfig& config) {
  const int here = MachineRanks().size();
  if (config.parallel().backend() == CPU)
    return {MachineBytes() / here, absl::StrFormat("this machine has %s%s", Bytes(MachineBytes()), Sharing(here))};
  const CudaReport cuda = ExamineCuda();
  const auto gpus = static_cast<int>(cuda.devices.size());
  const int ranks = (here + gpus - 1) / gpus;
  const int64_t free = cuda::FreeDeviceBytes();
  return {cuda::RoomOfRank(free, ranks),
          absl::StrFormat("%s has %s free%s, of which libraries take up to %s for each", cuda.devices.front().name, Bytes(free),
                          Sharing(ranks), Bytes(cuda::kLibraryBytes))};
}

// The average of the weights, beside all else where the host computes.
absl::Status JudgeHost(const RunConfig& config, const MemoryUse& plan) {
  const int ranks = MachineRanks().size();
  const int64_t needed = plan.host + (config.parallel().backend() == CPU ? plan.total() : 0), host = MachineBytes();
  if (plan.host == 0 || needed <= host / ranks) return absl::OkStatus();
  return UsageError(
      absl::StrFormat("optimizer.ema_decay = %g: the average of the weights takes %s of the host's memory, a rank then needs %s "
                      "of it, and this machine "
                      "has %s%s: set it to 0, or use more ranks on more machines",
                      config.optimizer().ema_decay(), Bytes(plan.host), Bytes(needed), Bytes(host), Sharing(ranks)));
}

absl::Status Judge(const RunConfig& config, const Communicator& world) {
  JEVONS_ASSIGN_OR_RETURN(const MeshShape shape, MeshShapeOn(config, world));
  const MemoryUse plan = PlanMemory(config, shape, world.rank()).use;
  const Room room = RoomOf(config);
  if (plan.total() <= room.bytes) return JudgeHost(config, plan);
  return UsageError(absl::StrFormat(
      "a rank needs %s (weights %s, gradients %s, optimizer %s, activations %s), and %s: lower "
      "train.micro_batch_sequences = %d, data.sequence_length = %d%s or the model's size, set train.recompute_up_projections or "
      "recompute_stages, or "
      "spread the experts over more ranks (parallel.ep = %d) on more machines; `jevons plan` tells what fits",
      Bytes(plan.total()), Bytes(plan.weights), Bytes(plan.gradients), Bytes(plan.optimizer), Bytes(plan.activations), room.owner,
      config.train().micro_batch_sequences(), config.data().sequence_length(),
      config.train().stage().empty() ? "" : ", those of the largest train.stage", config.parallel().ep()));
}

}  // namespace

absl::Status CheckMemory(const RunConfig& config, Communicator& world) { return AgreeOnStatus(world, Judge(config, world)); }

}  // namespace jevons
