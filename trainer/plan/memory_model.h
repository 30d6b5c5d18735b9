// What one rank will need, from the config alone (trainer/DESIGN.md, contract 11). Weights, gradients and optimizer state are
// exact: they ask the code that allocates. Activations follow the allocations of trainer/model line by line. The CPU's operators
// take little for themselves, which is left out; a device's take a workspace for products and more for attention, which is counted at
// its most.
#ifndef JEVONS_TRAINER_PLAN_MEMORY_MODEL_H_
#define JEVONS_TRAINER_PLAN_MEMORY_MODEL_H_

#include "configs/run.pb.h"
#include "parallel/mesh.h"
#include "trainer/memory_use.h"

namespace jevons {

// config: valid, vocab_size resolved. load: rows that come to this rank's experts, relative to an even load.
MemoryUse PlanMemory(const RunConfig& config, const MeshShape& mesh, int world_rank, double load = 1);

}  // namespace jevons

#endif  // JEVONS_TRAINER_PLAN_MEMORY_MODEL_H_
