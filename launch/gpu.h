// The GPUs of a run with parallel.backend = CUDA.
#ifndef JEVONS_LAUNCH_GPU_H_
#define JEVONS_LAUNCH_GPU_H_

#include <memory>

#include "configs/run.pb.h"
#include "kernels/base/status.h"
#include "kernels/tensor/device.h"
#include "parallel/comm/communicator.h"

namespace jevons {

// Gives each rank a GPU of its machine, the k-th rank there the k-th, or the one that its launcher bound it to where it sees no other
// (Slurm's --gpus-per-task), and returns the communicator over them; null where `host`
// serves: on the CPU, and where one rank is alone. The same error on all ranks: FailureError where one has no GPU that this
// program can use, UsageError where a machine has more ranks than GPUs (but see JEVONS_SHARED_GPU in parallel/comm/nccl.h).
// Collective.
absl::StatusOr<std::unique_ptr<Communicator>> OpenGpus(const RunConfig& config, Communicator& host);

// Ranks that share a GPU of this machine, where `ranks` run.
int RanksPerGpu(const CudaReport& cuda, int ranks);

// FLOP/s of this rank's GPU in one large BF16 product: the limit that a step's speed is told against.
double MeasureGpuPeak();

}  // namespace jevons

#endif  // JEVONS_LAUNCH_GPU_H_
