// The known pipeline schedules, as pure functions of their sizes. PP = ranks, M = micro-batches of one step
// that go through one pipeline. Bubbles (idle time per rank) and held micro-batches (most per rank whose
// activations are needed, in units of a rank's share of the model) for uniform durations F, I, W per rank,
// B = I + W, and F&B for an overlapped pair; parallel/README.md says for which durations a formula is exact.
//
//   kind        | stages | bubble                      | held           | source
//   gpipe       | PP     | (PP-1)(F+B)                 | M              | arXiv 1811.06965
//   1f1b        | PP     | (PP-1)(F+B)                 | PP             | arXiv 2006.09503 (flush)
//   interleaved | v PP   | (PP-1)(F+B)/v               | PP + (PP-1)/v  | arXiv 2104.04473 section 2.2
//   zb-h1       | PP     | (PP-1)(F+B-2W)              | PP             | arXiv 2401.10241 section 2.2
//   dualpipe    | PP     | (PP/2-1)(F&B+B-3W)          | PP+1           | DeepSeek-V3 report section 3.2.1
//   dualpipev   | 2 PP   | (PP-1)(F&B+B-3W)/2          | PP + 1/2       | the same, cut in half and folded
// In the last line F, B, W are a rank's, so those of its two stages together.
#ifndef JEVONS_PARALLEL_PIPELINE_SCHEDULES_H_
#define JEVONS_PARALLEL_PIPELINE_SCHEDULES_H_

#include <array>

#include "absl/strings/string_view.h"
#include "kernels/base/status.h"
#include "parallel/pipeline/action.h"

namespace jevons {

enum class ScheduleKind { kGPipe, k1F1B, kInterleaved, kZBH1, kDualPipe, kDualPipeV };
inline constexpr std::array kAllScheduleKinds = {ScheduleKind::kGPipe, ScheduleKind::k1F1B,     ScheduleKind::kInterleaved,
                                                 ScheduleKind::kZBH1,  ScheduleKind::kDualPipe, ScheduleKind::kDualPipeV};

absl::string_view Name(ScheduleKind kind);  // as in the table above
absl::StatusOr<ScheduleKind> ParseScheduleKind(absl::string_view name);

struct ScheduleShape {
  ScheduleKind kind = ScheduleKind::k1F1B;
  int pp = 1;              // ranks
  int micro_batches = 1;   // per step, through this pipeline
  int virtual_stages = 1;  // stages per rank: >= 2 for interleaved, which alone is free to choose

  int stages() const;  // of the whole pipeline
  // UsageError naming the field, its value, what is legal and the nearest legal value. At most 4096 stages
  // and 2^22 forwards (stages x micro-batches).
  absl::Status Validate() const;
};

// The computing actions of every rank, without communication (passes.h inserts it).
absl::StatusOr<Schedule> MakeSchedule(const ScheduleShape& shape);

}  // namespace jevons

#endif  // JEVONS_PARALLEL_PIPELINE_SCHEDULES_H_
