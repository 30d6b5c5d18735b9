// A measured step of a pipeline beside the simulation of the same lists with the durations that it had.
#ifndef JEVONS_TRAINER_PLAN_STEP_COMPARISON_H_
#define JEVONS_TRAINER_PLAN_STEP_COMPARISON_H_

#include <string>
#include <vector>

#include "parallel/pipeline/measured_step.h"
#include "parallel/pipeline/simulate.h"

namespace jevons {

// Durations without waiting, as means over micro-batches and over the ranks that run a stage. Of a reduction the shortest over its ranks: what it
// takes when all have come.
PipelineCosts CostsOf(const MeasuredStep& step);

struct StepComparison {
  struct Rank {
    double busy = 0, waiting = 0;      // seconds of the step's, until this rank's last action and reduction end
    double reduction = 0, hidden = 0;  // seconds in which it reduces, and those of them in which some rank's actions are not over
    double predicted = 0, measured = 0;  // when that is
    double error_percent() const { return measured > 0 ? 100 * (predicted / measured - 1) : 0; }
  };
  Timeline simulated;       // with CostsOf; messages take no time in it
  std::vector<Rank> ranks;  // of the world
  Rank slowest() const;     // of each figure the largest; of reductions the sum
};
StepComparison Compare(const MeasuredStep& step);

// A line per rank, and one for the step.
std::string ComparisonText(const StepComparison& comparison);
// For chrome://tracing and Perfetto: the measured step as one process, the simulated one as another.
std::string TraceJson(const MeasuredStep& step, const StepComparison& comparison);

}  // namespace jevons

#endif  // JEVONS_TRAINER_PLAN_STEP_COMPARISON_H_
