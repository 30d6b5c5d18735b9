// Bytes of one rank of a pipeline, by class: what the stages that it holds keep all the time, and what each micro-batch
// under way adds. Beside planned_memory, which runs the code that allocates, this one also knows what other
// trainers' models; at pp = 1 the two agree (pipeline_memory_test).
#ifndef JEVONS_TRAINER_PLAN_PIPELINE_MEMORY_H_
#define JEVONS_TRAINER_PLAN_PIPELINE_MEMORY_H_

#include "trainer/plan/layout.h"

namespace jevons {

// A contiguous part of the model.
struct StageContent {
  int64_t dense_blocks = 0, moe_blocks = 0;  // MTP modules' blocks not counted
  bool embedding = false;
  bool tail = false;  // final norm, head, loss and all MTP modules
  int64_t blocks() const { return dense_blocks + moe_blocks; }
};

struct StageParameters {
  double dense = 0;    // on each rank of the stage's dp group
  double experts = 0;  // on this rank, of its experts
  double coded = 0;    // of both, those that FP8 products read: kept as codes, and as values or not
};
StageParameters ParametersOf(const StageContent& stage, const ModelShape& model, const Layout& layout);

// Kept from forward for one micro-batch of one stage: until the input gradients are done, and until the weight gradients
// are; `stash` = gradients that wait for the weight part.
struct StageActivations {
  double until_b = 0, until_w = 0, stash = 0;
  double total() const { return until_b + until_w; }
};
StageActivations ActivationsOf(const StageContent& stage, const ModelShape& model, const Layout& layout, double imbalance);

struct MemoryPlan {
  double weights = 0, gradients = 0, optimizer = 0;
  double activations = 0;  // the most that micro-batches under way keep at once
  double temporary = 0;    // of one action at a time: expanded rows, exchange buffers, logits
  double host = 0;         // of the host's memory: the average of the weights. Not in the total
  double total() const { return weights + gradients + optimizer + activations + temporary; }
};

// The largest temporary of one stage's actions.
double TemporaryOf(const StageContent& stage, const ModelShape& model, const Layout& layout, double imbalance);

// `copies`: ranks that hold the same stage in one pipeline (2 in DualPipe).
MemoryPlan StateMemory(const StageParameters& parameters, const Layout& layout, int copies);

}  // namespace jevons

#endif  // JEVONS_TRAINER_PLAN_PIPELINE_MEMORY_H_
