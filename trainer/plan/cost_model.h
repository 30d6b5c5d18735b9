// One training step: the model cut into pipeline stages, each stage's durations and bytes, and the optimizer at the end.
// parallel/pipeline simulates the very schedule that a run would execute, with these costs.
#ifndef JEVONS_TRAINER_PLAN_COST_MODEL_H_
#define JEVONS_TRAINER_PLAN_COST_MODEL_H_

#include <vector>

#include "absl/status/statusor.h"
#include "parallel/pipeline/simulate.h"
#include "trainer/plan/layer_model.h"
#include "trainer/plan/pipeline_memory.h"
#include "trainer/spec/stage_cut.h"

namespace jevons {

struct PlannedStage {
  StageContent content;
  std::vector<BlockTimes> parts;  // in order: embedding, blocks, head, MTP modules
  Work forward, input, weight;    // one micro-batch alone
};

// The cut whose slowest stage is as fast as can be, none of them empty; `overlap`: beside another micro-batch.
std::vector<StagePart> FastestCut(const ModelShape& model, const LayerModel& layers, int stages, bool overlap);
std::vector<PlannedStage> PlanStages(const ModelShape& model, const LayerModel& layers, const std::vector<StagePart>& cut);

struct OptimizerTimes {
  double reduce = 0;  // gradients to their owners
  double update = 0;  // norm, AdamW
  double gather = 0;  // new weights to everybody
  double sum() const { return reduce + update + gather; }
};

struct StepModel {
  std::vector<StagePart> cut;  // the layout's, or the fastest
  std::vector<PlannedStage> stages;
  PipelineCosts costs;  // seconds
  OptimizerTimes optimizer;
  std::vector<MemoryPlan> state;  // per rank of the pipeline, without activations
  std::vector<double> temporary;  // per rank
};
// layout: legal (ValidateLayout). schedule: of layout.schedule_shape().
StepModel ModelStep(const ModelShape& model, const Layout& layout, const KernelModel& kernels, const Schedule& schedule);

}  // namespace jevons

#endif  // JEVONS_TRAINER_PLAN_COST_MODEL_H_
