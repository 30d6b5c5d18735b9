// What one rank will need, from the config alone (trainer/DESIGN.md, contract 11): the run's own step, executed on a device that only
// counts (Device::kNone), for any rank of any mesh. It takes what a run takes, to the byte.
#ifndef JEVONS_TRAINER_STEP_PLANNED_MEMORY_H_
#define JEVONS_TRAINER_STEP_PLANNED_MEMORY_H_

#include <span>
#include <vector>

#include "configs/run.pb.h"
#include "kernels/base/status.h"
#include "parallel/mesh.h"
#include "trainer/step/memory_use.h"

namespace jevons {

struct PlannedMemory {
  MemoryUse use;
  MemoryLedger ledger;
};

// config: valid, vocab_size resolved. load: rows that come to this rank's experts with every micro-batch, relative to an even share; they
// are spread evenly over these experts. The steps are those with the most micro-batches, plain and shadowed where there are such, and an
// evaluation follows; so in each stage of the run, one after the other. With document masks, a sequence is one document of half its length
// and then documents of one token.
PlannedMemory PlanMemory(const RunConfig& config, const MeshShape& mesh, int world_rank, double load = 1);

// Of the first rank of each stage, [mesh.pp]; the other ranks of a stage differ from it by a chunk of optimizer state at most. UsageError
// where this program does not execute the layout.
absl::StatusOr<std::vector<PlannedMemory>> PlanPipelineMemory(const RunConfig& config, const MeshShape& mesh, double load);

// Of these ranks of a pipeline, counted in their order, the first that needs more than `limit` bytes, or else the fullest. UsageError as above.
struct CountedRank {
  int pp_rank = 0;
  int64_t bytes = 0;
};
absl::StatusOr<CountedRank> CountUntilOver(int64_t limit, const RunConfig& config, const MeshShape& mesh,
                                           std::span<const int> pp_ranks, double load);

}  // namespace jevons

#endif  // JEVONS_TRAINER_STEP_PLANNED_MEMORY_H_
