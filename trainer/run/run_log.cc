#include "trainer/run/run_log.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <limits>
#include <utility>

#include "absl/strings/str_format.h"
#include "configs/load.h"
#include "kernels/base/log.h"
#include "kernels/base/machine.h"
#include "trainer/spec/run_flops.h"

namespace jevons {
namespace {

template <typename Duration>
double Seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

double WallTime() { return Seconds(std::chrono::system_clock::now().time_since_epoch()); }

}  // namespace

std::string RunLog::Serialize() {
  ChargeNow();
  ledger_.set_peak_source(meter_.peak_source);
  ledger_.set_peak_flops(meter_.peak_flops);
  return ledger_.SerializeAsString();
}

bool RunLog::Parse(const std::string& cost_state) {
  if (!ledger_.ParseFromString(cost_state)) return false;
  if (!meter_.peak_source.empty() && ledger_.peak_source() == meter_.peak_source) meter_.peak_flops = ledger_.peak_flops();
  return true;
}

absl::Status RunLog::Open(int64_t first_step) {
  // A new run begins with the validation at step 0; what an earlier process left before any checkpoint goes.
  const int64_t kept = first_step > 0 ? first_step : -1;
  JEVONS_ASSIGN_OR_RETURN(MetricsLog metrics, MetricsLog::Open(options_.output + "/metrics.jsonl", kept));
  const std::optional<MetricsRecord>& lost = metrics_.emplace(std::move(metrics)).log().lost();
  if (lost)
    LogWarning(
        absl::StrFormat("a process before this one got to step %d; its work after step %d was in no checkpoint and is done again",
                        lost->step, first_step));
  // What was done after the checkpoint is paid for and gone: what the last process says that left a record, what those before it had lost
  // included, or what they had lost, where none got as far as that.
  const std::vector<RunStart> starts = ReadStarts(options_.output);
  const LostWork earlier = LostAfter(first_step, starts);
  LostWork gone = earlier;
  if (first_step > 0 || lost || !starts.empty()) {
    const auto beyond = [&](const char* name, double kept_until, double known) {
      return std::max(known, lost ? lost->Value(name).value_or(0) - kept_until : 0.0);
    };
    gone = {.seconds = beyond("cost/seconds", ledger_.seconds(), earlier.seconds),
            .device_seconds = beyond("cost/device_seconds", ledger_.device_seconds(), earlier.device_seconds),
            .dollars = beyond("cost/dollars", ledger_.dollars(), earlier.dollars)};
    AddRestart(ledger_, gone);
    ledger_.set_restarts(std::max(ledger_.restarts(), static_cast<int64_t>(starts.size())));
  }
  const absl::Status recorded = RecordStart(options_.output, ResolvedText(config_),
                                            {.time = WallTime(),
                                             .step = first_step,
                                             .ranks = ranks_,
                                             .devices = meter_.devices,
                                             .device = meter_.device,
                                             .price_per_device_hour = meter_.price_per_device_hour,
                                             .peak_flops = meter_.peak_flops,
                                             .host = HostName(),
                                             .peak_source = meter_.peak_source,
                                             .labels = options_.labels,
                                             .lost_steps = lost ? lost->step - first_step : 0,
                                             .lost = {.seconds = gone.seconds - earlier.seconds,
                                                      .device_seconds = gone.device_seconds - earlier.device_seconds,
                                                      .dollars = gone.dollars - earlier.dollars}});
  if (!recorded.ok())
    LogWarning(absl::StrFormat("training goes on without a record of this start: %s", std::string(recorded.message())));
  JEVONS_ASSIGN_OR_RETURN(ExpertLog experts, ExpertLog::Open(options_.output));
  experts_.emplace(std::move(experts));
  if (config_.log().tensorboard()) {
    JEVONS_ASSIGN_OR_RETURN(EventFile events, EventFile::Create(options_.output + "/tensorboard", WallTime(), kept + 1));
    events_.emplace(std::move(events));
  }
  if (const std::string& path = config_.log().prometheus(); !path.empty()) {
    auto file = PrometheusFile::Create(path, RunName(config_, options_.output));
    if (!file.ok()) return FailureError(absl::StrFormat("log.prometheus: %s", std::string(file.status().message())));
    prometheus_.emplace(*std::move(file));
  }
  return absl::OkStatus();
}

void RunLog::ChargeNow() {
  const auto now = Clock::now();
  Charge(ledger_, {.seconds = Seconds(now - charged_until_),
                   .devices = meter_.devices,
                   .price_per_device_hour = meter_.price_per_device_hour.value_or(0)});
  charged_until_ = now;
}

// A record that cannot be written is no reason to lose the training.
void RunLog::Record(const MetricsRecord& record) {
  const auto told = [](const char* what, const absl::Status& status, bool& fails) {
    if (status.ok() != fails) return;
    fails = !status.ok();
    if (fails)
      LogWarning(
          absl::StrFormat("training goes on without %s, until it can be written: %s", what, std::string(status.message())));
    else
      LogInfo(absl::StrFormat("%s is written again", what));
  };
  if (metrics_) told("metrics.jsonl, whose records wait", metrics_->Append(record), metrics_fail_);
  if (events_) told("TensorBoard's file, whose records wait", events_->Append(record), events_fail_);
  if (prometheus_) told("log.prometheus", prometheus_->Append(record), prometheus_fails_);
}

void RunLog::Step(const StepPlan& plan, const StepStats& stats, double seconds) {
  ChargeNow();
  ledger_.set_tokens(ledger_.tokens() + plan.tokens);
  max_over_mean_ = stats.max_over_mean;
  dead_experts_ = stats.dead_experts;
  Interval one;
  for (Interval* interval : {&one, &interval_, &session_}) interval->Add(stats, plan.tokens, meter_, seconds);
  if (!root_) return;
  const MetricsRecord record = StepRecord(plan, stats, meter_, one, ledger_, WallTime());
  Record(record);
  if (const absl::Status status = experts_->Append(plan.step + 1, stats.loads, config_.model().moe().routed_experts());
      !status.ok())
    LogWarning(absl::StrFormat("training goes on without a record of this step's experts: %s", std::string(status.message())));
  if (stats.shadow) LogInfo(ShadowLine(plan, stats));
  if ((plan.step + 1) % config_.log().interval() == 0 || plan.step + 1 == schedule_.steps()) {
    LogInfo(ProgressLine(plan, CountedSteps(), TokensLeft(config_.train(), schedule_, plan.step + 1, meter_, interval_, ledger_),
                         stats, meter_, interval_, ledger_));
    if (const std::string warning = PeakWarning(meter_, interval_); !warning.empty() && !std::exchange(peak_warned_, true))
      LogWarning(warning);
    interval_ = {};
  }
}

void RunLog::BadStep(const StepPlan& plan, const JudgedStep& judged) {
  const CostLedger before = ledger_;
  ChargeNow();
  AddSkipped(ledger_, plan.tokens, ledger_.device_seconds() - before.device_seconds(), ledger_.dollars() - before.dollars());
  Add(judged.stats.seconds);
  if (!root_) return;
  Record(BadStepRecord(plan, judged, meter_, ledger_, WallTime()));
  if (judged.status.ok())
    LogWarning(absl::StrFormat("step %s was skipped: %s; see `jevons replay %s --step %d`", StepOf(plan.step + 1, CountedSteps()),
                               judged.bad->reason, options_.output, plan.step + 1));
}

void RunLog::Validation(int64_t step, const TrainStep::Evaluation& evaluation, double bits, double seconds) {
  ChargeNow();
  if (!root_) return;
  MetricsRecord record{.step = step, .wall_time = WallTime(), .values = {{"validation/loss", evaluation.loss}}};
  if (bits > 0) record.values.emplace_back("validation/bits_per_byte", bits);
  record.values.emplace_back("tokens", static_cast<double>(ledger_.tokens()));
  record.values.emplace_back("cost/seconds", ledger_.seconds());
  record.values.emplace_back("cost/device_seconds", ledger_.device_seconds());
  if (meter_.price_per_device_hour) record.values.emplace_back("cost/dollars", ledger_.dollars());
  record.values.emplace_back("seconds/validation", seconds);
  Record(record);
  LogInfo(absl::StrFormat("step %s | validation loss %.4f, %.3f bits per byte, %d tokens", StepOf(step, CountedSteps()),
                          evaluation.loss, bits, evaluation.tokens));
}

void RunLog::NonFiniteValidation(int64_t step) {
  if (root_)
    Record({.step = step, .wall_time = WallTime(), .values = {{"validation/loss", std::numeric_limits<double>::quiet_NaN()}}});
}

void RunLog::Add(const PhaseTimer::Seconds& between) {
  interval_.Add(between);
  session_.Add(between);
}

// The first and the last validation loss of the run, from the record that outlives restarts.
void RunLog::ReadValidations(RunSummary& summary) const {
  std::ifstream file(options_.output + "/metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    const auto record = FromJsonLine(line + "\n");
    if (!record) continue;
    for (const auto& [name, value] : record->values) {
      if (name == "validation/bits_per_byte") summary.bits_per_byte = value;
      if (name != "validation/loss") continue;
      if (summary.first_validation == 0) summary.first_validation = value;
      summary.last_validation = value;
    }
  }
}

void RunLog::Summarize(RunSummary& summary) const {
  summary.meter = meter_;
  summary.ledger = ledger_;
  summary.training_flops = RunFlops(schedule_).Training(static_cast<double>(ledger_.tokens()));
  summary.seconds = session_.seconds;
  summary.tokens_per_second = TokensPerSecond(session_);
  summary.mfu = Mfu(meter_, session_);
  summary.phases = session_.phases;
  summary.exchanged = session_.exchanged;
  if (session_.tokens > 0) {
    const auto tokens = static_cast<double>(session_.tokens);
    summary.dispatch_bytes_per_token = static_cast<double>(session_.exchanged.dispatch.bytes()) / tokens;
    summary.combine_bytes_per_token = static_cast<double>(session_.exchanged.combine.bytes()) / tokens;
  }
  summary.max_over_mean = max_over_mean_;
  summary.dead_experts = dead_experts_;
  ReadValidations(summary);
}

}  // namespace jevons
