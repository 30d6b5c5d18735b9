// What a run says about itself: one line per interval for people, one record per step for programs, one summary at the end.
#ifndef JEVONS_TRAINER_PROGRESS_H_
#define JEVONS_TRAINER_PROGRESS_H_

#include <string>

#include "trainer/metrics/cost.h"
#include "trainer/metrics/record.h"
#include "trainer/train_step.h"

namespace jevons {

// Constants of a run that its figures need.
struct Meter {
  double flops_per_token = 0;  // training, causal, without MTP modules: what published MFUs count
  double peak_flops = 0;       // of all devices together, FLOP/s
  double devices = 1;
  double price_per_device_hour = 0;
  std::string device;          // "CPU core"
};

// Steps since the last progress line, summed. `seconds` is of the steps alone, what speed is measured by; `phases` has the time
// between them too.
struct Interval {
  int64_t steps = 0, tokens = 0;
  Dispatcher::Bytes exchanged;
  double seconds = 0;
  PhaseTimer::Seconds phases{};
  void Add(const StepStats& stats, int64_t step_tokens, double step_seconds);
  void Add(const PhaseTimer::Seconds& between);  // what no step's stats have
};

// "forward 27% backward 32% validation 5%": shares of the sum; what is below half a percent is left out.
std::string PhaseShares(const PhaseTimer::Seconds& phases);

double TokensPerSecond(const Interval& interval);
double Mfu(const Meter& meter, const Interval& interval);

// The record of one step: losses, norm, rate, load, speed, cost so far, seconds of each phase since the step before; those of a
// validation are in its own record.
MetricsRecord StepRecord(const StepPlan& plan, const StepStats& stats, const Meter& meter, const Interval& step,
                         const CostLedger& ledger, double wall_time);

// "step 120/300 | loss 4.31 mtp 4.87 balance 1.02 | grad 0.82 lr 2.1e-03 | 12.3k tok/s MFU 31.2% $0.021/M | load 1.42x 0 dead | ..."
std::string ProgressLine(const StepPlan& plan, int64_t steps, const StepStats& stats, const Meter& meter,
                         const Interval& interval, const CostLedger& ledger);
// A shadow step's: the loss gap, and the worst layer of each product.
std::string ShadowLine(const StepPlan& plan, const StepStats& stats);

}  // namespace jevons

#endif  // JEVONS_TRAINER_PROGRESS_H_
