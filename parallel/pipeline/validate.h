// Is this schedule a training step? Every micro-batch passes F, then B (or I and W), at every stage exactly
// once, on the rank that its route names, after what it reads, and all ranks come to the end of their lists. Or, where
// it says so, an evaluation: forwards alone, by the same rules.
#ifndef JEVONS_PARALLEL_PIPELINE_VALIDATE_H_
#define JEVONS_PARALLEL_PIPELINE_VALIDATE_H_

#include "kernels/base/status.h"
#include "parallel/pipeline/action.h"

namespace jevons {

// Holds for the rest of this folder: Simulate, the passes and an executor take validated schedules.
//   - counts and routes are in range; every cell is a known action of a stage that its rank holds;
//   - F, and either B or I and W, exactly once for each stage and micro-batch; R at most once, between F and
//     B or I; of a forward-only schedule F alone;
//   - with reductions: G of each stage of a rank exactly once, after every W or B of it there, higher stages first: in the
//     one order that all ranks have. A forward-only schedule has none;
//   - with communication: each result that another rank reads is sent once, after it is made, and received
//     once, before it is read; and nothing else is sent;
//   - no deadlock, even where a send waits for its receive and each rank does one thing at a time.
// UsageError otherwise: what is wrong, and the grid of ranks around the wrong cell, which is marked >>2B0<<:
//   rank 1 runs 1B0 before 1F0, whose result it needs
//     rank  0 | 0F0      0F1      0B0      0B1
//     rank  1 | >>1B0<<  1F0      1F1      1B1
absl::Status Validate(const Schedule& schedule);

}  // namespace jevons

#endif  // JEVONS_PARALLEL_PIPELINE_VALIDATE_H_
