#include "trainer/plan/report.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace jevons {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kGiB = 1024.0 * 1024 * 1024;

struct Row {
  const char* key;
  const char* text;
  double value;
};

std::vector<Row> StepRows(const StepLines& lines) {
  return {
      {"forward", "forward alone (1F)", lines.forward},        {"backward", "backward alone (1B)", lines.backward},
      {"weight", "weight gradients alone (1W)", lines.weight}, {"overlapped", "forward beside backward (1F1B)", lines.overlapped},
      {"bubble", "bubble and waiting", lines.bubble},          {"optimizer", "optimizer", lines.optimizer}};
}

std::vector<Row> MemoryRows(const MemoryPlan& memory) {
  return {{"weights", "weights", memory.weights},
          {"gradients", "gradients", memory.gradients},
          {"optimizer", "optimizer state", memory.optimizer},
          {"activations", "cached activations", memory.activations},
          {"temporary", "temporary, exchange buffers", memory.temporary}};
}

// Large figures with so many decimals, small ones with three digits.
std::string Figure(double value, int decimals) {
  return value == 0 || std::abs(value) >= 1 ? absl::StrFormat("%.*f", decimals, value) : absl::StrFormat("%.3g", value);
}

std::string MemoryText(const Plan& plan) {
  const MemoryPlan& fullest = plan.memory[plan.fullest];
  std::string text = absl::StrFormat("\nmemory of rank %d, the fullest, %s GiB\n", plan.fullest,
                                     plan.memory_is_counted ? "counted     " : "by formulas ");
  for (const Row& row : MemoryRows(fullest)) absl::StrAppendFormat(&text, "  %-34s %9s\n", row.text, Figure(row.value / kGiB, 1));
  absl::StrAppendFormat(&text, "  %-34s %9s   of %.0f, less %.0f reserved; mean of the ranks %s\n", "total",
                        Figure(fullest.total() / kGiB, 1), plan.cluster.gpu().hbm_gib(), plan.cluster.gpu().reserved_gib(),
                        Figure(plan.mean_memory() / kGiB, 1));
  if (fullest.host > 0)
    absl::StrAppendFormat(&text, "  %-34s %9s   average of the weights\n", "and of the host's memory",
                          Figure(fullest.host / kGiB, 1));
  text += plan.memory_is_counted ? "  counted: the step of `jevons train`, executed on a device that only counts\n"
                                 : "  formulas: for layouts that `jevons train` does not execute; estimates\n";
  return text;
}

std::string KernelText(const Plan& plan) {
  std::string text = "\nkernels of a step, each alone on the GPU        s   share\n";
  for (size_t i = 0; i < kCosts; ++i) {
    if (plan.work.seconds[i] <= 0) continue;
    absl::StrAppendFormat(&text, "  %-34s %9.3f  %5.1f%%\n", kCostNames[i], plan.work.seconds[i],
                          100 * plan.work.seconds[i] / plan.step_seconds);
  }
  absl::StrAppendFormat(&text, "  %-34s %9.3f  %5.1f%%\n", "hidden by overlap, less gaps", -plan.hidden,
                        -100 * plan.hidden / plan.step_seconds);
  return text;
}

double DollarsOf(const Plan& plan, const RunPlan& run) { return run.gpu_hours * plan.cluster.hour().dollars_per_gpu(); }

std::string RunText(const Plan& plan, const RunPlan& run) {
  const Goodput goodput = EstimateGoodput(plan);
  const double tokens = run.priced_tokens, hours = run.gpu_hours, dollars = DollarsOf(plan, run), useful = goodput.useful();
  const double days = hours / static_cast<double>(plan.layout.gpus) / 24;
  const double megawatt_hours = hours / useful * plan.cluster.hour().watts_per_gpu() / 1e6;
  std::string text = absl::StrFormat("\nrun of %.4gT tokens%s at $%.4g per GPU hour\n", run.tokens / 1e12,
                                     run.spent ? ", which train.dollars end," : "", plan.cluster.hour().dollars_per_gpu());
  for (const RunPart& part : run.parts) {
    if (run.parts.size() == 1) break;
    absl::StrAppendFormat(&text, "  from step %-12d %.4gT tokens, %d sequences of %d a step: ", part.first_step + 1,
                          part.tokens / 1e12, part.batch, part.sequence);
    absl::StrAppend(&text, part.unpriced.empty()
                               ? absl::StrFormat("%.3f s, %sK GPU hours\n", part.step_seconds, Figure(part.gpu_hours / 1e3, 1))
                               : "not priced: " + part.unpriced + "\n");
  }
  if (run.priced_tokens < run.tokens)
    absl::StrAppendFormat(&text, "  what follows is of the %.4gT tokens that are priced\n", run.priced_tokens / 1e12);
  absl::StrAppendFormat(&text, "  training alone                     %sK GPU hours, %s days, $%sM\n", Figure(hours / 1e3, 0),
                        Figure(days, 1), Figure(dollars / 1e6, 3));
  absl::StrAppendFormat(&text, "  per trillion and million tokens    %.1fK GPU hours, $%.1fK; $%.4f\n",
                        hours / tokens * 1e12 / 1e3, dollars / tokens * 1e12 / 1e3, dollars / tokens * 1e6);
  absl::StrAppendFormat(&text,
                        "  goodput                            %.1f%%: checkpoint stalls %.1f%%, restarts %.1f%%, work lost "
                        "%.1f%% (%.1f failures a day)\n",
                        100 * useful, 100 * goodput.checkpoint, 100 * goodput.restart, 100 * goodput.lost,
                        goodput.failures_per_day);
  absl::StrAppendFormat(&text, "  paid, with what is lost            %sK GPU hours, $%sM, %s MWh\n",
                        Figure(hours / useful / 1e3, 0), Figure(dollars / useful / 1e6, 3), Figure(megawatt_hours, 0));
  absl::StrAppendFormat(&text,
                        "  not in the headline                experiments and failed runs, 3.3 to 10 times by one estimate: $%sM "
                        "to $%sM; buying %d GPUs at $30K: $%sM\n",
                        Figure(3.3 * dollars / 1e6, 1), Figure(dollars / 1e5, 1), plan.layout.gpus,
                        Figure(0.03 * static_cast<double>(plan.layout.gpus), 0));
  return text;
}

}  // namespace

std::string StagesText(const Plan& plan) {
  std::string text = "stage  rank  content                              F      I      W ms\n";
  for (size_t s = 0; s < plan.step.stages.size(); ++s) {
    const PlannedStage& stage = plan.step.stages[s];
    std::string content = stage.content.embedding ? "embedding " : "";
    if (stage.content.dense_blocks > 0) absl::StrAppendFormat(&content, "%d dense ", stage.content.dense_blocks);
    if (stage.content.moe_blocks > 0) absl::StrAppendFormat(&content, "%d MoE ", stage.content.moe_blocks);
    if (stage.content.tail) content += plan.model.mtp_modules > 0 ? "head MTP" : "head";
    const StageCosts& costs = plan.step.costs.stages[s];
    absl::StrAppendFormat(&text, "%5d  %4d  %-30s %7.1f %6.1f %6.1f\n", s, plan.schedule.routes[0][s], content,
                          1e3 * costs.forward, 1e3 * costs.input, 1e3 * costs.weight);
  }
  return text;
}

std::string ConstantsText(const Constants& constants) {
  std::string text = "constant               value  source\n";
  for (const ConstantNote& note : ConstantNotes())
    absl::StrAppendFormat(&text, "%-22s %5.4g  %s\n", note.name, constants.*note.value, note.source);
  return text;
}

std::string PlanText(const Plan& plan, const RunPlan& run) {
  std::string text = absl::StrFormat(
      "%d %s, %s\n%sB parameters, %sB active; %d sequences of %d tokens a step, %d micro-batches a pipeline\n\n",
      plan.layout.gpus, plan.cluster.name(), plan.layout.ToString(), Figure(plan.model.total_parameters() / 1e9, 1),
      Figure(plan.model.active_parameters() / 1e9, 2), plan.layout.batch, plan.layout.sequence, plan.layout.micro_batches());
  const double room = (plan.memory_limit() - plan.memory[plan.fullest].total()) / kGiB;
  absl::StrAppendFormat(&text, "fits            %s, %.1f GiB %s%s\n", plan.fits() ? "yes" : "NO", std::abs(room),
                        plan.fits() ? "to spare" : "too much", run.parts.size() > 1 ? ", the run's largest stage included" : "");
  absl::StrAppendFormat(&text, "step            %.3f s\n", plan.step_seconds);
  if (const AheadOfTrain ahead = WhatTrainLacks(plan); !ahead.of.empty())
    absl::StrAppendFormat(&text, "  of train today  %.3f s, which does not do yet: %s\n", ahead.step_seconds,
                          absl::StrJoin(ahead.of, "; "));
  if (const double flat = FlatStepSeconds(plan); flat > 0 && flat < WhatTrainLacks(plan).step_seconds)
    absl::StrAppendFormat(&text, "  without forwarding  %.3f s: it does not pay here, say parallel.dispatch=FLAT\n", flat);
  if (const double flat = NetworkRowsOf(plan, Dispatch::kFlat); flat > 0)
    absl::StrAppendFormat(&text, "dispatch        %s: %.2f rows of a token over the network; %.2f forwarded, %.2f flat\n",
                          Name(plan.layout.dispatch), NetworkRowsOf(plan, plan.layout.dispatch),
                          NetworkRowsOf(plan, Dispatch::kForwarding), flat);
  absl::StrAppendFormat(&text, "tokens/s/GPU    %.1f   (%sB tokens a day)\n", plan.tokens_per_second_per_gpu(),
                        Figure(plan.tokens_per_second() * 86400 / 1e9, 1));
  absl::StrAppendFormat(&text, "MFU             %.2f%% causal, %.2f%% full: %s and %s TFLOPS of %s (BF16, MTP not counted)\n",
                        100 * plan.mfu(true), 100 * plan.mfu(false), Figure(plan.tflops(true), 0), Figure(plan.tflops(false), 0),
                        Figure(plan.cluster.gpu().peak_bf16_tflops(), 0));
  text += "\nstep, mean of the ranks                         s   share\n";
  for (const Row& row : StepRows(plan.lines))
    absl::StrAppendFormat(&text, "  %-34s %9.3f  %5.1f%%\n", row.text, row.value, 100 * row.value / plan.step_seconds);
  text += KernelText(plan) + MemoryText(plan);
  if (run.priced_tokens > 0) text += RunText(plan, run);
  return text;
}

Json PlanJson(const Plan& plan, const RunPlan& run) {
  Json json = {{"layout", plan.layout.ToString()},  {"gpus", plan.layout.gpus},
               {"gpu", plan.cluster.name()},        {"fits", plan.fits()},
               {"step_seconds", plan.step_seconds}, {"tokens_per_second_per_gpu", plan.tokens_per_second_per_gpu()},
               {"mfu_causal", plan.mfu(true)},      {"mfu_full", plan.mfu(false)}};
  json["dispatch"] = {{"kind", Name(plan.layout.dispatch)},
                      {"network_rows_per_token", NetworkRowsOf(plan, plan.layout.dispatch)},
                      {"network_rows_per_token_flat", NetworkRowsOf(plan, Dispatch::kFlat)}};
  const AheadOfTrain ahead = WhatTrainLacks(plan);
  json["not_in_train"] = ahead.of;
  json["step_seconds_of_train"] = ahead.step_seconds;
  json["step_seconds_flat"] = FlatStepSeconds(plan);
  for (const Row& row : StepRows(plan.lines)) json["step"][row.key] = row.value;
  for (size_t i = 0; i < kCosts; ++i) json["kernels"][kCostNames[i]] = plan.work.seconds[i];
  json["kernels"]["hidden"] = plan.hidden;
  json["memory"] = {{"limit_bytes", plan.memory_limit()}, {"fullest_rank", plan.fullest}, {"counted", plan.memory_is_counted}};
  for (const MemoryPlan& memory : plan.memory) {
    Json rank = {{"total", memory.total()}};
    for (const Row& row : MemoryRows(memory)) rank[row.key] = row.value;
    rank["host"] = memory.host;
    json["memory"]["ranks"].push_back(rank);
  }
  if (run.priced_tokens <= 0) return json;
  const Goodput goodput = EstimateGoodput(plan);
  const double dollars = DollarsOf(plan, run);
  json["run"] = {{"tokens", run.tokens},
                 {"priced_tokens", run.priced_tokens},
                 {"spent", run.spent},
                 {"gpu_hours", run.gpu_hours},
                 {"dollars", dollars},
                 {"dollars_per_million_tokens", dollars / run.priced_tokens * 1e6},
                 {"goodput", goodput.useful()},
                 {"dollars_paid", dollars / goodput.useful()},
                 {"megawatt_hours", run.gpu_hours / goodput.useful() * plan.cluster.hour().watts_per_gpu() / 1e6}};
  for (const RunPart& part : run.parts) {
    Json stage = {
        {"first_step", part.first_step + 1}, {"sequence", part.sequence}, {"batch", part.batch}, {"tokens", part.tokens}};
    if (part.unpriced.empty()) {
      stage["step_seconds"] = part.step_seconds;
      stage["gpu_hours"] = part.gpu_hours;
    } else {
      stage["unpriced"] = part.unpriced;
    }
    json["run"]["stages"].push_back(stage);
  }
  return json;
}

}  // namespace jevons
