#include "trainer/run/replay.h"

#include <algorithm>
#include <bit>
#include <fstream>
#include <numeric>

#include "absl/strings/str_format.h"
#include "data/loader.h"
#include "trainer/checkpoint/agreement.h"
#include "trainer/metrics/jsonl.h"
#include "trainer/run/state.h"
#include "trainer/run/step_judge.h"

namespace jevons {
namespace {

absl::Status LoadRun(CheckpointReader& checkpoint, StreamConfig& config, TrainStep& step, StepJudge& judge) {
  if (checkpoint.step() > 0) {  // an imported one has seen no sample
    JEVONS_ASSIGN_OR_RETURN(const SamplerState saved, SamplerState::Parse(checkpoint.sampler_state()));
    config.shuffle_samples = saved.shuffle_samples;  // an older config does not say it
    JEVONS_ASSIGN_OR_RETURN(const SampleStream stream, SampleStream::Open(config));
    JEVONS_RETURN_IF_ERROR(stream.CheckState(saved));
  }
  if (!judge.Parse(checkpoint.step_history())) return IntegrityError(checkpoint.path() + ": the history of steps cannot be read");
  return LoadState(checkpoint, step);
}

// Whether the newest record that the run's metrics have of the step is of the same bits: of a bad step the hash of its gradient, of others the loss.
std::optional<bool> AsRecorded(const std::string& run, const ReplayedStep& replayed) {
  std::ifstream file(run + "/metrics.jsonl");
  std::optional<bool> same;
  for (std::string line; std::getline(file, line);) {
    const auto record = FromJsonLine(line + "\n");
    if (!record || record->step != replayed.plan.step + 1) continue;
    for (const auto& [name, value] : record->values)
      if (name == "loss/main") same = std::bit_cast<uint64_t>(value) == std::bit_cast<uint64_t>(replayed.result.stats.loss);
    for (const auto& [name, text] : record->texts)
      if (name == "bad_step/gradient_hash") same = text == absl::StrFormat("%016x", replayed.gradient_hash);
  }
  return same;
}

std::vector<ReplayedPipeline> PipelinesOf(const MeshShape& shape, const std::vector<double>& losses) {
  std::vector<ReplayedPipeline> pipelines(static_cast<size_t>(shape.dp()));
  for (int rank = 0; rank < shape.world; ++rank) pipelines[static_cast<size_t>(RankOf(shape, rank).dp)].ranks.push_back(rank);
  for (int dp = 0; dp < shape.dp(); ++dp) {
    ReplayedPipeline& pipeline = pipelines[static_cast<size_t>(dp)];
    pipeline.micro_batches = BlockOf(static_cast<int64_t>(losses.size()), shape.dp(), dp);
    const auto begin = losses.begin() + pipeline.micro_batches.begin, end = losses.begin() + pipeline.micro_batches.end;
    if (begin != end) pipeline.loss = std::accumulate(begin, end, 0.0) / static_cast<double>(end - begin);
  }
  return pipelines;
}

// The parameter table is in the order of execution.
std::vector<ParameterGradient> Notable(std::vector<ParameterGradient> parameters) {
  std::reverse(parameters.begin(), parameters.end());
  const auto refused = std::stable_partition(parameters.begin(), parameters.end(),
                                             [](const ParameterGradient& parameter) { return parameter.refused; });
  if (refused != parameters.begin()) {
    parameters.erase(refused, parameters.end());
    return parameters;
  }
  std::stable_sort(parameters.begin(), parameters.end(),
                   [](const ParameterGradient& a, const ParameterGradient& b) { return a.norm > b.norm; });
  parameters.resize(std::min(parameters.size(), ReplayedStep::kLargest));
  return parameters;
}

}  // namespace

absl::StatusOr<ReplayedStep> Replay(const ReplayOptions& options, CheckpointReader* checkpoint, Mesh& mesh) {
  const RunConfig& config = options.inputs.config;
  TrainStep step(config, mesh);
  StepJudge judge(config.train(), step, mesh.world());
  const RunSchedule schedule(config);
  StreamConfig stream_config = options.inputs.stream;
  stream_config.shuffle_samples = config.data().shuffle_samples();
  if (checkpoint != nullptr) {
    JEVONS_RETURN_IF_ERROR(AgreeOnStatus(mesh.world(), LoadRun(*checkpoint, stream_config, step, judge)));
    step.RestoreWeights();
  } else {
    step.Initialize();
  }
  ReplayedStep replayed;
  replayed.plan = schedule.At(options.step - 1);
  replayed.from = checkpoint == nullptr ? 0 : checkpoint->step();
  replayed.config_source = options.config_source;
  JEVONS_ASSIGN_OR_RETURN(SampleStream stream, SampleStream::Open(stream_config));
  for (int64_t i = 0; i < replayed.plan.sequences; ++i) {
    const int64_t index = replayed.plan.first_sample + i;
    replayed.samples.push_back({.index = index,
                                .dataset = stream_config.datasets[static_cast<size_t>(stream.PlaceOf(index).dataset)].prefix,
                                .parts = stream.PartsOf(index),
                                .micro_batch = i / schedule.stage(replayed.plan.stage).train().micro_batch_sequences()});
  }
  Loader loader(std::move(stream));
  int stage = 0;
  const auto batch_of = [&](const StepPlan& plan) {
    if (plan.stage != stage) step.BeginStage(schedule.stage(stage = plan.stage));
    const Range samples = step.SamplesOf(plan.sequences);
    loader.Request(plan.first_sample + samples.begin, samples.size());
    return loader.Next();
  };
  for (int64_t done = replayed.from; done + 1 < options.step; ++done) {
    const StepPlan plan = schedule.At(done);
    JEVONS_ASSIGN_OR_RETURN(const SampleBatch* batch, batch_of(plan));
    JEVONS_RETURN_IF_ERROR(judge.Run(plan, *batch).status);
  }
  JEVONS_ASSIGN_OR_RETURN(const SampleBatch* batch, batch_of(replayed.plan));
  replayed.result = step.Compute(replayed.plan, *batch);
  replayed.reason = judge.Reason(replayed.result);
  replayed.gradient_hash = step.GradientHash();
  replayed.pipelines = PipelinesOf(mesh.shape(), replayed.result.losses);
  replayed.parameters = Notable(step.ParameterGradients(replayed.result));
  replayed.as_recorded = AsRecorded(options.run, replayed);
  return replayed;
}

}  // namespace jevons
