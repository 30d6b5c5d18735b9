// Whether a run has room.
#ifndef JEVONS_LAUNCH_MEMORY_H_
#define JEVONS_LAUNCH_MEMORY_H_

#include "configs/run.pb.h"
#include "kernels/base/status.h"
#include "parallel/comm/communicator.h"

namespace jevons {

// UsageError, the same on all ranks, where a rank's plan (trainer/step/planned_memory.h) is larger than its share of the machine's
// memory, or of what is free of its GPU's beside a reserve for libraries (kernels/cuda/report.h): better told now than by the kernel's
// killer, or by the driver, in the first step. OpenGpus has been called;
// the config has its vocabulary. Collective.
absl::Status CheckMemory(const RunConfig& config, Communicator& world);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_MEMORY_H_
