// A run with something in every part of its page, for tests of how it looks.
#ifndef JEVONS_TESTS_TRAINER_REPORT_SHOWN_RUN_H_
#define JEVONS_TESTS_TRAINER_REPORT_SHOWN_RUN_H_

#include <cmath>
#include <string>
#include <vector>

#include "tests/trainer/report/written_run.h"
#include "trainer/report/page.h"

namespace jevons {

// layers and experts as the config says.
inline WrittenRun ShownRun(const TempFolder& folder, const std::string& name, int steps,
                           const std::vector<std::string>& overrides = {}) {
  WrittenRun run(folder, name, overrides);
  const RunConfig config = LoadRunConfig(run.path() + "/config.textproto", {}).value();
  const int64_t layers = config.model().layers() - config.model().dense_layers() + config.model().mtp().depth(),
                experts = config.model().moe().routed_experts();
  run.AddLine("starts.jsonl", ToStartLine({.time = 1.8e9,
                                           .step = 0,
                                           .ranks = 4,
                                           .devices = kDevices,
                                           .device = "CPU core",
                                           .price_per_device_hour = 1800,
                                           .peak_flops = 3e11,
                                           .host = "machine",
                                           .peak_source = "4 x some processor",
                                           .labels = {{"version", "jevons"}}}));
  run.AddLine("starts.jsonl", ToStartLine({.time = 1.8e9 + 900,
                                           .step = 1,
                                           .ranks = 4,
                                           .devices = kDevices,
                                           .device = "CPU core",
                                           .price_per_device_hour = 1800,
                                           .peak_flops = 3e11,
                                           .host = "machine",
                                           .peak_source = "4 x some processor",
                                           .labels = {{"version", "jevons"}},
                                           .lost_steps = 3,
                                           .lost = {.seconds = 6, .device_seconds = 24, .dollars = 12}}));
  std::string metrics, loads;
  for (int step = 1; step <= steps; ++step) {
    MetricsRecord record = StepOfRun(step, 2 + 6 / std::sqrt(step) + 0.2 * std::sin(step), 6);
    record.values.insert(record.values.end(), {{"fp8/activations_underflowed", 1e-3 / step},
                                               {"fp8/activations_saturated", 0},
                                               {"shadow/loss", 2 + 6 / std::sqrt(step)}});
    metrics += ToJsonLine(record);
    if (step % 10 == 0) metrics += ToJsonLine(ValidationOfRun(step, 2.1 + 6 / std::sqrt(step)));
    if (!ExpertLoadsDue(step)) continue;
    ExpertLoads rows{.step = step, .layers = {}};
    for (int64_t layer = 0; layer < layers; ++layer) {
      auto& of_layer = rows.layers.emplace_back();
      for (int64_t expert = 0; expert < experts; ++expert)
        of_layer.push_back((expert * 7919 + layer * 104729 + step * 31) % 997 * (expert % 5 == 0 ? 0 : 1));
    }
    loads += ToExpertsLine(rows);
  }
  run.AddLine("metrics.jsonl", metrics);
  run.AddLine("experts.jsonl", loads);
  return run;
}

inline RunFacts ShownFacts(const RunHistory& run) {
  RunFacts facts{
      .model = "a model",
      .summary =
          R"({"memory_class_bytes": {"weights": 4000000, "gradients": 8000000, "optimizer": 8000000, "activations": 12000000},
                                "memory_saved_bytes": {"mla.q": 5000000}})",
      .trace = R"({"traceEvents": [{"name": "thread_name", "ph": "M", "pid": 0, "tid": 0, "args": {"name": "rank 0, pp 0"}},
                             {"name": "0F0", "ph": "X", "ts": 0, "dur": 500, "pid": 0, "tid": 0}, {"name": "0B0", "ph": "X", "ts": 500, "dur": 900, "pid": 0, "tid": 0}]})",
      .samples = "In the beginning <b>",
      .hashes = {{"hash of step 9", "0123456789abcdef0123456789abcdef"}},
      .events = {"2026-11-30 18:00:00  died rank 2"}};
  facts.biases_step = 9;
  for (const auto& rows : run.experts.back().layers) {
    auto& [name, values] = facts.biases.emplace_back("gate", std::vector<double>());
    for (size_t i = 0; i < rows.size(); ++i) values.push_back(std::sin(static_cast<double>(i)));
  }
  facts.preset = "quickstart_cpu";
  facts.from_preset = {{"model.vocab_size", {"0", "512"}}};
  return facts;
}

}  // namespace jevons

#endif  // JEVONS_TESTS_TRAINER_REPORT_SHOWN_RUN_H_
