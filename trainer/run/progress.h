// What a run says about itself: one line per interval for people, one record per step for programs, one summary at the end.
#ifndef JEVONS_TRAINER_RUN_PROGRESS_H_
#define JEVONS_TRAINER_RUN_PROGRESS_H_

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>

#include "trainer/metrics/cost.h"
#include "trainer/metrics/record.h"
#include "trainer/run/step_judge.h"
#include "trainer/step/train_step.h"

namespace jevons {

// Constants of a run that its figures need.
struct Meter {
  double flops_per_token = 0;      // training, causal, without MTP modules: what published MFUs count
  double mtp_flops_per_token = 0;  // of the MTP modules, on top
  double peak_flops = 0;           // of all devices together, FLOP/s
  std::string peak_source = {};    // of what it was measured; empty where it was given
  double devices = 1;
  std::optional<double> price_per_device_hour = {};  // dollars; none: no money is spoken of
  std::string device = {};                           // "CPU core"
  double reference_mfu = 0;                          // cost.reference_mfu
  ReferenceSpeed reference() const { return {.mfu = reference_mfu, .peak_flops = peak_flops / devices}; }
};

void CountFlopsOf(const RunConfig& stage, Meter& meter);  // those per token

// Steps since the last progress line, summed. `seconds` is of the steps alone, what speed is measured by; `phases` has the time
// between them too.
struct Interval {
  int64_t steps = 0, tokens = 0;
  double flops = 0;  // of the tokens, by Meter::flops_per_token
  Traffic exchanged;
  double seconds = 0;
  PhaseTimer::Seconds phases{};
  void Add(const StepStats& stats, int64_t step_tokens, const Meter& meter, double step_seconds);
  void Add(const PhaseTimer::Seconds& between);  // what no step's stats have
};

// Rows that a token sends, of one dispatch and its combine; 0 where it never leaves its node.
struct RowsPerToken {
  double network = 0, saved = 0, local = 0;  // over the network, left out since another of the token goes there, inside nodes
  double network_back = 0, local_back = 0;
  static RowsPerToken Of(const Traffic& traffic);
  // Each with the name that it has in metrics.
  std::array<std::pair<const char*, double*>, 5> Named();
};
// "1.93 rows a token over the network and 2.07 saved, 3.10 inside nodes; back 1.52 and 2.80".
std::string RowsText(const RowsPerToken& rows);

// "forward 27% backward 32% validation 5%": shares of the sum, in the order of the phases. What is below half a percent is left out,
// and of the rest the smallest, until `columns` suffice.
std::string PhaseShares(const PhaseTimer::Seconds& phases, size_t columns = std::string::npos);

double TokensPerSecond(const Interval& interval);
double Mfu(const Meter& meter, const Interval& interval);

// The record of one step: losses, norm, rate, load, speed, cost so far, seconds of each phase since the step before; those of a
// validation are in its own record.
MetricsRecord StepRecord(const StepPlan& plan, const StepStats& stats, const Meter& meter, const Interval& step,
                         const CostLedger& ledger, double wall_time);

// The record of one that was not applied.
MetricsRecord BadStepRecord(const StepPlan& plan, const JudgedStep& judged, const Meter& meter, const CostLedger& ledger,
                            double wall_time);

// Of a run after `done` steps, as far as it is known; 0 where it is not. What train.dollars leave is reckoned at the interval's speed.
int64_t TokensLeft(const TrainConfig& train, const RunSchedule& schedule, int64_t done, const Meter& meter,
                   const Interval& interval, const CostLedger& ledger);
// Why a run that has made `done` steps makes no more: "train.steps = 12 are done: ...".
std::string DoneText(const TrainConfig& train, const RunSchedule& schedule, int64_t done, const CostLedger& ledger);

// "120/300", and "120" where steps is 0: a run that dollars end.
std::string StepOf(int64_t step, int64_t steps);

// "step 120/300 | loss 4.3100 mtp 4.8700 bal 1.020 | grad 0.82 lr 2.1e-03 | 12.3K tok/s MFU 31.2% $0.021/M | ETA 2h14m $3.2 | load
// 1.42x 2 dead | forward 40% ...": ETA is the time that is left, and the dollars of the whole run; "price not set" where there are none.
// At most kProgressColumns long: the smallest phases, and then whole figures from the end on, are left out. tokens_left: of the run.
inline constexpr size_t kProgressColumns = 160 - 11;  // beside the log's time and level
// Empty, or why an MFU above 100% is no speed: the peak that it relates to is too low.
std::string PeakWarning(const Meter& meter, const Interval& interval);

std::string ProgressLine(const StepPlan& plan, int64_t steps, int64_t tokens_left, const StepStats& stats, const Meter& meter,
                         const Interval& interval, const CostLedger& ledger);
// A shadow step's: the loss gap, and the worst layer of each product.
std::string ShadowLine(const StepPlan& plan, const StepStats& stats);

}  // namespace jevons

#endif  // JEVONS_TRAINER_RUN_PROGRESS_H_
