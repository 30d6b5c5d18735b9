#include "trainer/step/planned_memory.h"

#include <algorithm>
#include <set>

#include "configs/stages.h"
#include "kernels/base/check.h"
#include "trainer/step/train_step.h"

namespace jevons {
namespace {

SampleBatch BatchToCount(const RunConfig& config, int64_t sequences) {
  const int64_t S = config.data().sequence_length();
  SampleBatch batch{.first = 0, .count = sequences, .tokens = {}, .document_start = {}};
  batch.tokens.assign(static_cast<size_t>(sequences * (S + 1)), 0);
  if (config.data().document_mask())
    for (int64_t i = 0; i < sequences * S; ++i) batch.document_start.push_back(static_cast<int32_t>(i % S < S / 2 ? 0 : i % S));
  return batch;
}

absl::Status CheckExecuted(const RunConfig& config, const MeshShape& mesh) {
  JEVONS_RETURN_IF_ERROR(mesh.Validate());
  JEVONS_ASSIGN_OR_RETURN(const Partition partition, Partition::Of(config));
  return partition.Shape(Rounds(mesh, MicroBatchCounts(config).back())).Validate();
}

// The largest steps of a stage and an evaluation in it.
void CountSteps(const RunConfig& config, TrainStep& step) {
  StepPlan plan;
  plan.sequences = MicroBatchCounts(config).back() * config.train().micro_batch_sequences();
  const SampleBatch batch = BatchToCount(config, step.SamplesOf(plan.sequences).size());
  const int64_t shadowed = config.precision().shadow_interval() - 1;  // a shadowed step keeps more, and has less on scratch
  for (const int64_t index : std::set<int64_t>{0, std::max<int64_t>(0, shadowed)}) {
    plan.step = index;
    const auto stats = step.Run(plan, batch);
    JEVONS_CHECK(stats.ok(), "%s", std::string(stats.status().message()).c_str());
  }
  step.CountEvaluation(config.train().eval_sequences());
}

}  // namespace

PlannedMemory PlanMemory(const RunConfig& config, const MeshShape& shape, int world_rank, double load) {
  Mesh mesh(shape, world_rank);
  TrainStep step(config, mesh, TrainStep::Counting{.load = load});
  step.Initialize();
  const std::vector<RunConfig> stages = StageConfigs(config);
  CountSteps(stages.front(), step);
  for (const RunConfig& stage : std::span(stages).subspan(1)) {
    step.BeginStage(stage);
    CountSteps(stage, step);
  }
  return {.use = step.memory(), .ledger = step.memory_ledger()};
}

absl::StatusOr<std::vector<PlannedMemory>> PlanPipelineMemory(const RunConfig& config, const MeshShape& mesh, double load) {
  JEVONS_RETURN_IF_ERROR(CheckExecuted(config, mesh));
  std::vector<PlannedMemory> ranks;
  for (int pp_rank = 0; pp_rank < mesh.pp; ++pp_rank) ranks.push_back(PlanMemory(config, mesh, pp_rank * mesh.dp(), load));
  return ranks;
}

absl::StatusOr<CountedRank> CountUntilOver(int64_t limit, const RunConfig& config, const MeshShape& mesh,
                                           std::span<const int> pp_ranks, double load) {
  JEVONS_RETURN_IF_ERROR(CheckExecuted(config, mesh));
  CountedRank fullest;
  for (const int pp_rank : pp_ranks) {
    const int64_t bytes = PlanMemory(config, mesh, pp_rank * mesh.dp(), load).use.total();
    if (bytes > fullest.bytes) fullest = {.pp_rank = pp_rank, .bytes = bytes};
    if (bytes > limit) break;
  }
  return fullest;
}

}  // namespace jevons
