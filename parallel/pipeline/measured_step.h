// A step of a pipeline as its ranks ran it.
#ifndef JEVONS_PARALLEL_PIPELINE_MEASURED_STEP_H_
#define JEVONS_PARALLEL_PIPELINE_MEASURED_STEP_H_

#include <vector>

#include "parallel/pipeline/action.h"

namespace jevons {

// Seconds. What it waits for messages comes first in an action. Of G: the reduction that it began, beside the actions that follow.
struct RanAction {
  double begin = 0, end = 0, waited = 0;
  double computed() const { return end - begin - waited; }
};

struct MeasuredRank {
  int pp_rank = 0;
  std::vector<RanAction> actions;  // beside the schedule's of pp_rank
};

struct MeasuredStep {
  Schedule schedule;                // of every pipeline
  std::vector<MeasuredRank> ranks;  // of the world, on one clock
};

}  // namespace jevons

#endif  // JEVONS_PARALLEL_PIPELINE_MEASURED_STEP_H_
