// What `jevons replay` prints.
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "trainer/run/replay.h"

namespace jevons {
namespace {

using Json = nlohmann::ordered_json;

std::string PartText(const DocumentPart& part) {
  return absl::StrFormat("%d tokens of document %d%s from %d on", part.tokens, part.document,
                         part.fim ? " (fill-in-the-middle)" : "", part.offset);
}

}  // namespace

std::string ReplayText(const ReplayedStep& step) {
  const StepStats& stats = step.result.stats;
  std::string text = absl::StrFormat("step             %d, from %s\n", step.plan.step + 1,
                                     step.from > 0 ? absl::StrFormat("the checkpoint of step %d", step.from) : "the beginning");
  absl::StrAppendFormat(&text, "verdict          %s\n", step.reason.empty() ? "good" : "bad: " + step.reason);
  absl::StrAppendFormat(&text, "loss             %.17g, MTP %.17g, balance %.17g\n", stats.loss, stats.mtp_loss,
                        stats.balance_loss);
  absl::StrAppendFormat(&text, "gradient         norm %.17g, hash %016x\n", stats.gradient_norm, step.gradient_hash);
  absl::StrAppendFormat(&text, "the run's record %s\n",
                        !step.as_recorded   ? "metrics.jsonl has none"
                        : *step.as_recorded ? "the same bits"
                                            : "other bits: a field of the config, the program, the data or a machine is another");
  absl::StrAppendFormat(&text, "config           %s\n", step.config_source);
  for (const ReplayedPipeline& pipeline : step.pipelines)
    absl::StrAppendFormat(&text, "rank%s %s: micro-batches %d to %d, loss %.6g\n", pipeline.ranks.size() == 1 ? "" : "s",
                          absl::StrJoin(pipeline.ranks, ", "), pipeline.micro_batches.begin, pipeline.micro_batches.end - 1,
                          pipeline.loss);
  for (const ReplayedSample& sample : step.samples)
    absl::StrAppendFormat(&text, "micro-batch %d, loss %.6g: sample %d of %s: %s\n", sample.micro_batch,
                          step.result.losses[static_cast<size_t>(sample.micro_batch)], sample.index, sample.dataset,
                          absl::StrJoin(sample.parts, ", ", [](std::string* out, const DocumentPart& part) {
                            absl::StrAppend(out, PartText(part));
                          }));
  const bool refused = !step.parameters.empty() && step.parameters.front().refused;
  text += refused ? "parameters whose gradients cannot be used, the first that the backward pass makes first:\n"
                  : "parameters with the largest gradients:\n";
  for (const ParameterGradient& parameter : step.parameters)
    absl::StrAppendFormat(&text, "  %-60s norm %.6g\n", parameter.name, parameter.norm);
  return text;
}

std::string ReplayJson(const ReplayedStep& step) {
  const StepStats& stats = step.result.stats;
  Json json = {{"step", step.plan.step + 1},
               {"from", step.from},
               {"config", step.config_source},
               {"bad", !step.reason.empty()},
               {"reason", step.reason},
               {"loss", stats.loss},
               {"mtp_loss", stats.mtp_loss},
               {"balance_loss", stats.balance_loss},
               {"gradient_norm", stats.gradient_norm},
               {"gradient_hash", absl::StrFormat("%016x", step.gradient_hash)},
               {"as_recorded", step.as_recorded ? Json(*step.as_recorded) : Json()},
               {"losses", step.result.losses},
               {"pipelines", Json::array()},
               {"samples", Json::array()},
               {"parameters", Json::array()}};
  for (const ReplayedPipeline& pipeline : step.pipelines)
    json["pipelines"].push_back({{"ranks", pipeline.ranks},
                                 {"first_micro_batch", pipeline.micro_batches.begin},
                                 {"micro_batches", pipeline.micro_batches.size()},
                                 {"loss", pipeline.loss}});
  for (const ReplayedSample& sample : step.samples) {
    Json parts = Json::array();
    for (const DocumentPart& part : sample.parts)
      parts.push_back({{"document", part.document},
                       {"epoch", part.epoch},
                       {"offset", part.offset},
                       {"tokens", part.tokens},
                       {"fim", part.fim}});
    json["samples"].push_back(
        {{"sample", sample.index}, {"dataset", sample.dataset}, {"micro_batch", sample.micro_batch}, {"documents", parts}});
  }
  for (const ParameterGradient& parameter : step.parameters)
    json["parameters"].push_back({{"name", parameter.name}, {"norm", parameter.norm}, {"refused", parameter.refused}});
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace jevons
