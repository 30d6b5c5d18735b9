#include "trainer/run/progress.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "trainer/metrics/human.h"
#include "trainer/spec/flops.h"

namespace jevons {
namespace {

// With so many decimals, unless that grows long.
std::string Fixed(double value, int decimals) {
  return std::abs(value) < 1e4 ? absl::StrFormat("%.*f", decimals, value) : absl::StrFormat("%.2e", value);
}

}  // namespace

int64_t TokensLeft(const TrainConfig& train, const RunSchedule& schedule, int64_t done, const Meter& meter,
                   const Interval& interval, const CostLedger& ledger) {
  constexpr double kUnknown = std::numeric_limits<double>::infinity();
  const double planned = schedule.bounded() ? schedule.total_tokens() - schedule.At(done).tokens_before : kUnknown;
  const double per_second = meter.price_per_device_hour.value_or(0) * meter.devices / 3600;
  const double paid = train.dollars() > 0 && per_second > 0
                          ? (train.dollars() - ledger.dollars()) / per_second * TokensPerSecond(interval)
                          : kUnknown;
  const double left = std::min(planned, paid);
  return left < kUnknown ? std::llround(std::max(0.0, left)) : 0;
}

std::string DoneText(const TrainConfig& train, const RunSchedule& schedule, int64_t done, const CostLedger& ledger) {
  const std::string more = absl::StrFormat("the checkpoint has %d steps; set more to go on", done);
  if (done < schedule.steps())
    return absl::StrFormat("train.dollars = %g are spent, $%.4g in all: %s", train.dollars(), ledger.dollars(), more);
  if (train.steps() == schedule.steps()) return absl::StrFormat("train.steps = %d are done: %s", train.steps(), more);
  return absl::StrFormat("train.tokens = %.15g are done: %s", train.tokens(), more);
}

std::string StepOf(int64_t step, int64_t steps) { return steps > 0 ? absl::StrFormat("%d/%d", step, steps) : absl::StrCat(step); }

void CountFlopsOf(const RunConfig& stage, Meter& meter) {
  const FlopCount flops = CountFlops(stage.model(), stage.data().sequence_length(), CoreCount::kCausal);
  meter.flops_per_token = flops.training_without_mtp();
  meter.mtp_flops_per_token = flops.training() - flops.training_without_mtp();
}

void Interval::Add(const StepStats& stats, int64_t step_tokens, const Meter& meter, double step_seconds) {
  ++steps;
  tokens += step_tokens;
  flops += static_cast<double>(step_tokens) * meter.flops_per_token;
  exchanged += stats.exchanged;
  seconds += step_seconds;
  Add(stats.seconds);
}

void Interval::Add(const PhaseTimer::Seconds& between) {
  for (size_t i = 0; i < phases.size(); ++i) phases[i] += between[i];
}

std::string PhaseShares(const PhaseTimer::Seconds& phases, size_t columns) {
  const double all = std::accumulate(phases.begin(), phases.end(), 0.0);
  std::vector<std::pair<double, size_t>> shares;
  for (size_t i = 0; i < phases.size(); ++i)
    if (const double share = all > 0 ? 100 * phases[i] / all : 0; share >= 0.5) shares.emplace_back(share, i);
  const auto text = [&] {
    std::string text;
    for (const auto& [share, i] : shares)
      absl::StrAppendFormat(&text, "%s%s %.0f%%", text.empty() ? "" : " ", kPhaseNames[i], share);
    return text;
  };
  while (text().size() > columns) shares.erase(std::min_element(shares.begin(), shares.end()));
  return text();
}

double TokensPerSecond(const Interval& interval) {
  return interval.seconds > 0 ? static_cast<double>(interval.tokens) / interval.seconds : 0;
}

double Mfu(const Meter& meter, const Interval& interval) {
  return meter.peak_flops > 0 && interval.seconds > 0 ? interval.flops / interval.seconds / meter.peak_flops : 0;
}

RowsPerToken RowsPerToken::Of(const Traffic& traffic) {
  if (traffic.tokens == 0) return {};
  const auto rows = [&](int64_t count) { return static_cast<double>(count) / static_cast<double>(traffic.tokens); };
  return {.network = rows(traffic.dispatch.network_rows),
          .saved = rows(traffic.network_pairs - traffic.dispatch.network_rows),
          .local = rows(traffic.dispatch.local_rows),
          .network_back = rows(traffic.combine.network_rows),
          .local_back = rows(traffic.combine.local_rows)};
}

std::array<std::pair<const char*, double*>, 5> RowsPerToken::Named() {
  return {{{"rows/network", &network},
           {"rows/saved", &saved},
           {"rows/local", &local},
           {"rows/network_back", &network_back},
           {"rows/local_back", &local_back}}};
}

std::string RowsText(const RowsPerToken& rows) {
  return absl::StrFormat("%.2f rows a token over the network and %.2f saved, %.2f inside nodes; back %.2f and %.2f", rows.network,
                         rows.saved, rows.local, rows.network_back, rows.local_back);
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
  add("dispatch_bytes", static_cast<double>(stats.exchanged.dispatch.bytes()));
  add("combine_bytes", static_cast<double>(stats.exchanged.combine.bytes()));
  if (stats.exchanged.network_pairs > 0) {
    RowsPerToken rows = RowsPerToken::Of(stats.exchanged);
    for (const auto& [name, value] : rows.Named()) add(name, *value);
  }
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
  add("cost/seconds", ledger.seconds());
  add("cost/device_seconds", ledger.device_seconds());
  add("cost/lost_device_seconds", ledger.wasted_device_seconds());
  if (meter.price_per_device_hour) {
    add("cost/dollars", ledger.dollars());
    add("cost/dollars_per_million_tokens", DollarsPerMillionTokens(ledger));
  }
  for (size_t i = 0; i < step.phases.size(); ++i)
    if (static_cast<Phase>(i) != Phase::kValidation) add(absl::StrCat("seconds/", kPhaseNames[i]), step.phases[i]);
  return record;
}

MetricsRecord BadStepRecord(const StepPlan& plan, const JudgedStep& judged, const Meter& meter, const CostLedger& ledger,
                            double wall_time) {
  const StepStats& stats = judged.stats;
  MetricsRecord record{.step = plan.step + 1,
                       .wall_time = wall_time,
                       .values = {{"bad_step/loss", stats.loss},
                                  {"bad_step/mtp", stats.mtp_loss},
                                  {"bad_step/gradient_norm", stats.gradient_norm},
                                  {"bad_step/in_a_row", static_cast<double>(judged.bad->in_a_row)},
                                  {"bad_step/sequences", static_cast<double>(plan.sequences)},
                                  {"cost/device_seconds", ledger.device_seconds()}},
                       .texts = {{"bad_step/reason", judged.bad->reason},
                                 {"bad_step/gradient_hash", absl::StrFormat("%016x", judged.bad->gradient_hash)}}};
  if (meter.price_per_device_hour) record.values.emplace_back("cost/dollars", ledger.dollars());
  for (size_t i = 0; i < stats.seconds.size(); ++i)
    if (static_cast<Phase>(i) != Phase::kValidation)
      record.values.emplace_back(absl::StrCat("seconds/", kPhaseNames[i]), stats.seconds[i]);
  return record;
}

std::string ShadowLine(const StepPlan& plan, const StepStats& stats) {
  const ShadowReport& shadow = *stats.shadow;
  std::string line =
      absl::StrFormat("step %d | FP8 loss %.5f, without %.5f (%+.3f%%) | relative errors of products:", plan.step + 1, stats.loss,
                      shadow.loss, 100 * (stats.loss / shadow.loss - 1));
  for (size_t verb = 0; verb < kVerbNames.size(); ++verb) {
    size_t worst = 0;
    for (size_t layer = 1; layer < shadow.errors.size(); ++layer)
      if (shadow.errors[layer][verb] > shadow.errors[worst][verb]) worst = layer;
    absl::StrAppendFormat(&line, "%s %s %.2f%% (layer %d)", verb == 0 ? "" : ",", kVerbNames[verb],
                          100 * shadow.errors[worst][verb], worst);
  }
  return line;
}

std::string PeakWarning(const Meter& meter, const Interval& interval) {
  const double mfu = Mfu(meter, interval);
  if (mfu <= 1) return "";
  return absl::StrFormat(
      "MFU %.0f%%: the peak that it relates to, %.4g GFLOP/s, is less than was reached; %s", 100 * mfu, meter.peak_flops / 1e9,
      meter.peak_source.empty() ? "set cost.peak_tflops to what one device can do, or to 0 to have it measured"
                                : "it was measured while the machine was busy; set cost.peak_tflops to what one device can do");
}

std::string ProgressLine(const StepPlan& plan, int64_t steps, int64_t tokens_left, const StepStats& stats, const Meter& meter,
                         const Interval& interval, const CostLedger& ledger) {
  const double rate = TokensPerSecond(interval);
  const bool moe = !stats.loads.empty(), priced = meter.price_per_device_hour.has_value();
  std::string line = absl::StrFormat("step %s | loss %s", StepOf(plan.step + 1, steps), Fixed(stats.loss, 4));
  const auto add = [&](const std::string& part) {
    if (line.size() + part.size() <= kProgressColumns) line += part;
  };
  if (stats.mtp_loss > 0) add(" mtp " + Fixed(stats.mtp_loss, 4));
  if (moe) add(" bal " + Fixed(stats.balance_loss, 3));
  add(absl::StrFormat(" | grad %s lr %.1e", Fixed(stats.gradient_norm, 2), plan.learning_rate));
  add(absl::StrFormat(" | %s tok/s MFU %s%%", ShortNumber(rate), Fixed(100 * Mfu(meter, interval), 1)));
  add(priced ? absl::StrFormat(" $%.3g/M", DollarsPerMillionTokens(ledger)) : std::string(" price not set"));
  if (rate > 0 && tokens_left > 0) {
    const double seconds = static_cast<double>(tokens_left) / rate;
    add(" | ETA " + ShortDuration(seconds));
    if (priced) add(" $" + ShortNumber(ledger.dollars() + *meter.price_per_device_hour * meter.devices * seconds / 3600));
  }
  if (moe) add(absl::StrFormat(" | load %sx", Fixed(stats.max_over_mean, 2)));
  if (stats.dead_experts > 0) add(absl::StrFormat(" %d dead", stats.dead_experts));
  const size_t room = kProgressColumns - std::min(kProgressColumns, line.size() + 3);
  if (const std::string phases = PhaseShares(interval.phases, room); !phases.empty()) line += " | " + phases;
  return line;
}

}  // namespace jevons
