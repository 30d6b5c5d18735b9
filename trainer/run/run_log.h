// What a run costs and what it writes down: the ledger, a record of each step in metrics.jsonl, files of other views, lines
// for people.
#ifndef JEVONS_TRAINER_RUN_RUN_LOG_H_
#define JEVONS_TRAINER_RUN_RUN_LOG_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "kernels/base/status.h"
#include "parallel/comm/communicator.h"
#include "trainer/metrics/jsonl.h"
#include "trainer/metrics/patient_log.h"
#include "trainer/metrics/prometheus.h"
#include "trainer/metrics/run_files.h"
#include "trainer/metrics/tensorboard.h"
#include "trainer/run/progress.h"
#include "trainer/run/train_loop.h"

namespace jevons {

class RunLog {
 public:
  // All of them outlive this. The ledger is kept on every rank; the first one alone writes.
  RunLog(const TrainOptions& options, const RunConfig& config, const RunSchedule& schedule, const Communicator& world)
      : options_(options), config_(config), schedule_(schedule), ranks_(world.size()), root_(world.rank() == 0) {}

  // The ledger as a checkpoint keeps it. `false`: damaged.
  std::string Serialize();
  bool Parse(const std::string& cost_state);
  // The files of a run that goes on after `first_step` steps. On the first rank.
  absl::Status Open(int64_t first_step);

  void BeginStage(const RunConfig& stage) { CountFlopsOf(stage, meter_); }
  void Step(const StepPlan& plan, const StepStats& stats, double seconds);
  void BadStep(const StepPlan& plan, const JudgedStep& judged);
  // bits: per byte; 0 where it is not known.
  void Validation(int64_t step, const TrainStep::Evaluation& evaluation, double bits, double seconds);
  void NonFiniteValidation(int64_t step);
  // What is between steps.
  void Add(const PhaseTimer::Seconds& between);

  // Every second since the last call is paid for, whatever it was spent on.
  void ChargeNow();
  const CostLedger& ledger() const { return ledger_; }

  // What is known here of the summary.
  void Summarize(RunSummary& summary) const;

 private:
  void Record(const MetricsRecord& record);
  int64_t CountedSteps() const { return schedule_.bounded() ? schedule_.steps() : 0; }
  void ReadValidations(RunSummary& summary) const;

  using Clock = std::chrono::steady_clock;
  const TrainOptions& options_;
  const RunConfig& config_;
  const RunSchedule& schedule_;
  const int ranks_;
  const bool root_;
  Meter meter_ = options_.meter;  // of the stage
  CostLedger ledger_;
  Clock::time_point charged_until_ = Clock::now();
  Interval interval_, session_;
  double max_over_mean_ = 0;  // of the last step, as is the next
  int64_t dead_experts_ = 0;
  std::optional<PatientLog<MetricsLog>> metrics_;
  std::optional<PatientLog<EventFile>> events_;
  std::optional<PrometheusFile> prometheus_;
  std::optional<ExpertLog> experts_;
  bool metrics_fail_ = false, events_fail_ = false, prometheus_fails_ = false, peak_warned_ = false;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_RUN_RUN_LOG_H_
