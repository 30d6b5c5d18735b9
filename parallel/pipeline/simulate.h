// The time line of a schedule: when each action runs, how long each rank idles, how much it holds. Pure
// arithmetic on the lists that an executor runs; linear in their length (64 ranks x 1024 micro-batches: 40 ms
// on one core).
#ifndef JEVONS_PARALLEL_PIPELINE_SIMULATE_H_
#define JEVONS_PARALLEL_PIPELINE_SIMULATE_H_

#include <cstdint>
#include <vector>

#include "kernels/base/status.h"
#include "parallel/pipeline/action.h"

namespace jevons {

// Of one stage. Durations in any one unit of time, none negative. B takes input + weight.
struct StageCosts {
  double forward = 1;    // F
  double input = 1;      // I
  double weight = 1;     // W
  double recompute = 0;  // R
  double reduce = 0;     // G, from when all ranks that hold the stage have come to it
  // Bytes of one micro-batch, after the last reader of each: F leaves until_b + until_w; I adds the stash,
  // what W needs of the gradients; the end of I frees until_b, that of W frees until_w and stash; the end of
  // B frees all. Where the schedule recomputes, F leaves `kept` alone, and R replaces it by until_b +
  // until_w. Where nothing but forwards is run, the end of F frees all.
  int64_t until_b = 0, until_w = 0, stash = 0, kept = 0;
  int64_t weights = 0;  // bytes of the stage itself: parameters and what goes with them
};

struct PipelineCosts {
  std::vector<StageCosts> stages;  // [stages]
  // [stages x stages], forward stage major: the duration of F(f) overlapped with the full backward B(b), at
  // most F + B where the overlap pays. Empty: F + B. Overlapped with I alone, a pair takes W(b) less.
  std::vector<double> overlapped;
  double transfer = 0;  // from the end of a task until its result has reached the next rank; occupies neither
  // The same for every stage; pairs take `overlapped`, or F + B without it.
  static PipelineCosts Uniform(int stages, const StageCosts& stage);
  static PipelineCosts Uniform(int stages, const StageCosts& stage, double overlapped);
};

struct TimeSpan {
  double begin = 0, end = 0;
};

struct RankTimeline {
  std::vector<TimeSpan> actions;  // beside Schedule::actions; of a send or receive: its message under way; of G: the reduction
  double busy = 0;                // sum of the computing actions
  double idle = 0;                // makespan - busy: the bubble, and reductions that end later
  // busy by kind: B alone counts as its input and its weight part, pairs count apart.
  double forward = 0, input = 0, weight = 0, recompute = 0, overlapped = 0;
  int64_t weight_bytes = 0;  // of the stages that the rank holds
  int64_t peak_activation_bytes = 0;
  // Most forwards begun whose B or I has not ended, and whose B or W has not ended; each stage of a rank
  // counts one.
  int peak_in_flight = 0, peak_held = 0;
};

struct Timeline {
  std::vector<RankTimeline> ranks;
  double makespan = 0;
};

// Runs `schedule`, with communication inserted or not: a task begins when its rank is free and its input has
// arrived; a message leaves when its rank comes to the send (without one: when its result is made) and
// travels beside the computation. Reductions run beside it too, one after the other on each rank. UsageError if the
// schedule is not valid, or a cost is missing, negative or not finite.
absl::StatusOr<Timeline> Simulate(const Schedule& schedule, const PipelineCosts& costs);

}  // namespace jevons

#endif  // JEVONS_PARALLEL_PIPELINE_SIMULATE_H_
