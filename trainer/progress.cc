#include "trainer/progress.h"

#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace jevons {

void Interval::Add(const StepStats& stats, int64_t step_tokens, double step_seconds) {
  ++steps;
  tokens += step_tokens;
  exchanged.dispatch += stats.exchanged.dispatch;
  exchanged.combine += stats.exchanged.combine;
  seconds += step_seconds;
  Add(stats.seconds);
}

void Interval::Add(const PhaseTimer::Seconds& between) {
  for (size_t i = 0; i < phases.size(); ++i) phases[i] += between[i];
}

std::string PhaseShares(const PhaseTimer::Seconds& phases) {
  const double all = std::accumulate(phases.begin(), phases.end(), 0.0);
  std::string text;
  for (size_t i = 0; i < phases.size(); ++i) {
    const double share = all > 0 ? 100 * phases[i] / all : 0;
    if (share >= 0.5) absl::StrAppendFormat(&text, "%s%s %.0f%%", text.empty() ? "" : " ", kPhaseNames[i], share);
  }
  return text;
}

double TokensPerSecond(const Interval& interval) {
  return interval.seconds > 0 ? static_cast<double>(interval.tokens) / interval.seconds : 0;
}

double Mfu(const Meter& meter, const Interval& interval) {
  return meter.peak_flops > 0 ? TokensPerSecond(interval) * meter.flops_per_token / meter.peak_flops : 0;
}

MetricsRecord StepRecord(const StepPlan& plan, const StepStats& stats, const Meter& meter, const Interval& step,
                         const CostLedger& ledger, double wall_time) {
  MetricsRecord record{.step = plan.step + 1, .wall_time = wall_time, .values = {}};
  auto add = [&](const std::string& name, double value) { record.values.emplace_back(name, value); };
  add("loss/main", stats.loss);
  add("loss/mtp", stats.mtp_loss);
  add("loss/balance", stats.balance_loss);
  add("gradient_norm", stats.gradient_norm);
  add("learning_rate", plan.learning_rate);
  add("sequences", static_cast<double>(plan.sequences));
  add("tokens", static_cast<double>(ledger.tokens()));
  add("tokens_per_second", TokensPerSecond(step));
  add("mfu", Mfu(meter, step));
  add("load/max_over_mean", stats.max_over_mean);
  add("load/dead_experts", static_cast<double>(stats.dead_experts));
  add("dispatch_bytes", static_cast<double>(stats.exchanged.dispatch));
  add("combine_bytes", static_cast<double>(stats.exchanged.combine));
  const auto add_fp8 = [&](const char* name, const QuantStats& lost) {
    if (lost.elements == 0) return;
    const auto elements = static_cast<double>(lost.elements);
    add(absl::StrCat("fp8/", name, "_saturated"), static_cast<double>(lost.saturated) / elements);
    add(absl::StrCat("fp8/", name, "_underflowed"), static_cast<double>(lost.underflowed) / elements);
  };
  add_fp8("activations", stats.fp8.activations);
  add_fp8("gradients", stats.fp8.gradients);
  add_fp8("weights", stats.fp8.weights);
  add_fp8("cached", stats.fp8.cached);
  if (stats.shadow) {
    add("shadow/loss", stats.shadow->loss);
    for (size_t layer = 0; layer < stats.shadow->errors.size(); ++layer)
      for (size_t verb = 0; verb < kVerbNames.size(); ++verb)
        add(absl::StrFormat("shadow/layer%d/%s", layer, kVerbNames[verb]), stats.shadow->errors[layer][verb]);
  }
  add("cost/device_seconds", ledger.device_seconds());
  add("cost/dollars", ledger.dollars());
  add("cost/dollars_per_million_tokens", DollarsPerMillionTokens(ledger));
  for (size_t i = 0; i < step.phases.size(); ++i)
    if (static_cast<Phase>(i) != Phase::kValidation) add(absl::StrCat("seconds/", kPhaseNames[i]), step.phases[i]);
  return record;
}

std::string ShadowLine(const StepPlan& plan, const StepStats& stats) {
  const ShadowReport& shadow = *stats.shadow;
  std::string line = absl::StrFormat("step %d | FP8 loss %.5f, without %.5f (%+.3f%%) | relative errors of products:", plan.step + 1,
                                     stats.loss, shadow.loss, 100 * (stats.loss / shadow.loss - 1));
  for (size_t verb = 0; verb < kVerbNames.size(); ++verb) {
    size_t worst = 0;
    for (size_t layer = 1; layer < shadow.errors.size(); ++layer)
      if (shadow.errors[layer][verb] > shadow.errors[worst][verb]) worst = layer;
    absl::StrAppendFormat(&line, "%s %s %.2f%% (layer %d)", verb == 0 ? "" : ",", kVerbNames[verb], 100 * shadow.errors[worst][verb], worst);
  }
  return line;
}

std::string ProgressLine(const StepPlan& plan, int64_t steps, const StepStats& stats, const Meter& meter,
                         const Interval& interval, const CostLedger& ledger) {
  std::string line = absl::StrFormat("step %d/%d | loss %.4f", plan.step + 1, steps, stats.loss);
  if (stats.mtp_loss > 0) absl::StrAppendFormat(&line, " mtp %.4f", stats.mtp_loss);
  if (!stats.loads.empty()) absl::StrAppendFormat(&line, " balance %.3f", stats.balance_loss);
  absl::StrAppendFormat(&line, " | grad %.3f lr %.2e", stats.gradient_norm, plan.learning_rate);
  absl::StrAppendFormat(&line, " | %.0f tok/s MFU %.1f%% $%.4f/M", TokensPerSecond(interval), 100 * Mfu(meter, interval),
                        DollarsPerMillionTokens(ledger));
  if (!stats.loads.empty())
    absl::StrAppendFormat(&line, " | load %.2fx %d dead", stats.max_over_mean, stats.dead_experts);
  return line + " | " + PhaseShares(interval.phases);
}

}  // namespace jevons
