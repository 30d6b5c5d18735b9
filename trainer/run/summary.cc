// The summary that a run ends with.
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_format.h"
#include "trainer/metrics/human.h"
#include "trainer/run/train_loop.h"

namespace jevons {
namespace {

double Mebibytes(int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

double PlanError(const RunSummary& s) {
  const auto planned = static_cast<double>(s.planned.total());
  return planned > 0 ? static_cast<double>(s.memory.total()) / planned - 1 : 0;
}

// Money is spoken of where a price is known, or was when some of it was spent.
bool Priced(const RunSummary& s) { return s.meter.price_per_device_hour.has_value() || s.ledger.dollars() > 0; }

double MtpShare(const Meter& meter) { return meter.mtp_flops_per_token / (meter.flops_per_token + meter.mtp_flops_per_token); }

// What a token cost, beside the published figure; and what it would at the reference speed, where the config states one.
std::string TokenCost(const RunSummary& s) {
  const auto tokens = static_cast<double>(s.ledger.tokens());
  const auto a_million = [&](double dollars) { return Priced(s) ? absl::StrFormat(", $%.4g a million", dollars) : ""; };
  std::string text = absl::StrFormat(
      "per 1e12 tokens      %s %s hours%s, at this process's MFU of %.1f%% (causal, without MTP); DeepSeek-V3: %s H800 hours%s\n",
      ShortNumber(HoursPerTrillionTokens(s.ledger.device_seconds(), tokens)), s.meter.device,
      a_million(DollarsPerMillionTokens(s.ledger)), 100 * s.mfu, ShortNumber(kDeepSeekV3HoursPerTrillion),
      a_million(kDeepSeekV3HoursPerTrillion * kDeepSeekV3PricePerHour / 1e6));
  const ReferenceSpeed reference = s.meter.reference();
  if (reference.mfu == 0) return text;
  const double hours = reference.device_seconds(s.training_flops) / 3600;
  absl::StrAppendFormat(&text, "at an MFU of %-7s %.4g %s hours", absl::StrFormat("%.3g%%", 100 * reference.mfu), hours,
                        s.meter.device);
  if (s.meter.price_per_device_hour) absl::StrAppendFormat(&text, ", $%.4g", hours * *s.meter.price_per_device_hour);
  return text + (s.meter.mtp_flops_per_token > 0 ? ", MTP's work included\n" : "\n");
}

std::string Named(const std::vector<std::pair<std::string, int64_t>>& slices) {
  int64_t total = 0;
  for (const auto& [name, bytes] : slices) total += bytes;
  std::string text = absl::StrFormat("%.1f", Mebibytes(total));
  const char* separator = ": ";
  for (const auto& [name, bytes] : slices) {
    if (50 * bytes < total) break;  // the rest are crumbs
    absl::StrAppendFormat(&text, "%s%s %.2f", std::exchange(separator, ", "), name, Mebibytes(bytes));
  }
  return text;
}

nlohmann::ordered_json NamedJson(const std::vector<std::pair<std::string, int64_t>>& slices) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [name, bytes] : slices) json[name] = bytes;
  return json;
}

}  // namespace

std::string SummaryText(const RunSummary& s, const TrainOptions& options) {
  const Meter& meter = s.meter;
  std::string text = absl::StrFormat("steps                %d\n", s.steps);
  absl::StrAppendFormat(&text, "cost                 %s\n", CostSummary(s.ledger, meter.device, Priced(s)));
  text += TokenCost(s);
  absl::StrAppendFormat(&text, "this process         %.1f s, %.0f tokens/s, MFU %.1f%% (%.3g GFLOP/token, peak %.4g GFLOP/s)",
                        s.seconds, s.tokens_per_second, 100 * s.mfu, meter.flops_per_token / 1e9, meter.peak_flops / 1e9);
  if (meter.mtp_flops_per_token > 0)
    absl::StrAppendFormat(&text, "; MTP's %.1f%% of the FLOPs are not in it", 100 * MtpShare(meter));
  text += "\n";
  absl::StrAppendFormat(&text, "its time             %s\n", PhaseShares(s.phases));
  if (s.first_validation != 0) {
    absl::StrAppendFormat(&text, "validation loss      first %.4f, last %.4f nats per token", s.first_validation,
                          s.last_validation);
    if (s.bits_per_byte != 0) absl::StrAppendFormat(&text, ", %.3f bits per byte", s.bits_per_byte);
    text += "\n";
  }
  absl::StrAppendFormat(&text, "expert load          max/mean %.2f in the worst layer, %d dead experts\n", s.max_over_mean,
                        s.dead_experts);
  if (s.dispatch_bytes_per_token > 0)
    absl::StrAppendFormat(&text, "between ranks        dispatch %.0f, combine %.0f bytes per token\n", s.dispatch_bytes_per_token,
                          s.combine_bytes_per_token);
  if (s.exchanged.network_pairs > 0)
    absl::StrAppendFormat(&text, "between nodes        %s; if choices were even, %.2f over the network\n",
                          RowsText(RowsPerToken::Of(s.exchanged)), s.even_network_rows);
  absl::StrAppendFormat(&text,
                        "memory, rank 0       %.1f MiB: weights %.1f, gradients %.1f, optimizer %.1f, activations %.1f "
                        "(planned for %.2fx the even expert load: %.1f MiB, %+.1f%%); process %.1f MiB\n",
                        Mebibytes(s.memory.total()), Mebibytes(s.memory.weights), Mebibytes(s.memory.gradients),
                        Mebibytes(s.memory.optimizer), Mebibytes(s.memory.activations), s.peak_load, Mebibytes(s.planned.total()),
                        100 * PlanError(s), Mebibytes(s.resident_bytes));
  if (s.memory.host > 0)
    absl::StrAppendFormat(&text, "  on the host        average of the weights %.1f\n", Mebibytes(s.memory.host));
  absl::StrAppendFormat(&text, "  optimizer          masters %.1f, moments %.1f\n", Mebibytes(s.memory_ledger.masters),
                        Mebibytes(s.memory_ledger.moments));
  absl::StrAppendFormat(&text,
                        "  saved for backward %s\n  for weight grads   %s\n  between these      %.1f\n  temporary          %s\n",
                        Named(s.memory_ledger.saved), Named(s.memory_ledger.stash), Mebibytes(s.memory_ledger.holes),
                        Named(s.memory_ledger.temporary));
  absl::StrAppendFormat(&text,
                        "files                %s: checkpoints/, tokenizer.json, config.textproto, metrics.jsonl, starts.jsonl, "
                        "experts.jsonl, tensorboard/, summary.json\n",
                        options.output);
  return text;
}

std::string SummaryJson(const RunSummary& s) {
  nlohmann::ordered_json phases = nlohmann::ordered_json::object();
  for (size_t i = 0; i < s.phases.size(); ++i) phases[kPhaseNames[i]] = s.phases[i];
  const auto money = [&](double dollars) { return Priced(s) ? nlohmann::ordered_json(dollars) : nlohmann::ordered_json(); };
  nlohmann::ordered_json json = {{"steps", s.steps},
                                 {"tokens", s.ledger.tokens()},
                                 {"seconds", s.seconds},
                                 {"phase_seconds", phases},
                                 {"tokens_per_second", s.tokens_per_second},
                                 {"mfu", s.mfu},
                                 {"flops_per_token", s.meter.flops_per_token},
                                 {"mtp_flops_per_token", s.meter.mtp_flops_per_token},
                                 {"training_flops", s.training_flops},
                                 {"peak_flops", s.meter.peak_flops},
                                 {"device", s.meter.device},
                                 {"devices", s.meter.devices},
                                 {"device_hours", s.ledger.device_seconds() / 3600},
                                 {"wasted_device_hours", s.ledger.wasted_device_seconds() / 3600},
                                 {"dollars", money(s.ledger.dollars())},
                                 {"dollars_per_million_tokens", money(DollarsPerMillionTokens(s.ledger))},
                                 {"wasted_dollars", money(s.ledger.wasted_dollars())},
                                 {"device_hours_per_trillion_tokens",
                                  HoursPerTrillionTokens(s.ledger.device_seconds(), static_cast<double>(s.ledger.tokens()))},
                                 {"reference_mfu", s.meter.reference_mfu},
                                 {"reference_device_hours", s.meter.reference().device_seconds(s.training_flops) / 3600},
                                 {"restarts", s.ledger.restarts()},
                                 {"skipped_steps", s.ledger.skipped_steps()},
                                 {"skipped_tokens", s.ledger.skipped_tokens()},
                                 {"first_validation_loss", s.first_validation},
                                 {"last_validation_loss", s.last_validation},
                                 {"bits_per_byte", s.bits_per_byte},
                                 {"load_max_over_mean", s.max_over_mean},
                                 {"dead_experts", s.dead_experts},
                                 {"dispatch_bytes_per_token", s.dispatch_bytes_per_token},
                                 {"combine_bytes_per_token", s.combine_bytes_per_token},
                                 {"memory_bytes", s.memory.total()},
                                 {"memory_class_bytes",
                                  {{"weights", s.memory.weights},
                                   {"gradients", s.memory.gradients},
                                   {"optimizer", s.memory.optimizer},
                                   {"activations", s.memory.activations}}},
                                 {"memory_saved_bytes", NamedJson(s.memory_ledger.saved)},
                                 {"memory_stash_bytes", NamedJson(s.memory_ledger.stash)},
                                 {"memory_hole_bytes", s.memory_ledger.holes},
                                 {"memory_temporary_bytes", NamedJson(s.memory_ledger.temporary)},
                                 {"planned_memory_bytes", s.planned.total()},
                                 {"host_memory_bytes", s.memory.host},
                                 {"peak_expert_load", s.peak_load},
                                 {"resident_bytes", s.resident_bytes}};
  if (s.exchanged.network_pairs > 0) {
    RowsPerToken rows = RowsPerToken::Of(s.exchanged);
    for (const auto& [name, value] : rows.Named()) json[name] = *value;
    json["rows/network_even"] = s.even_network_rows;
  }
  return json.dump(2) + "\n";
}

}  // namespace jevons
