// Stage: a contiguous part of the network on one rank, as the executor sees it. No rank, no schedule and no neighbour
// is known here; whoever implements it knows the model.
//
// Spans are memory of the stream's device; what is asked of a stage is ordered on that one stream, and so is the moment
// from which released memory may be used again. The calls for one micro-batch come in this order, those in brackets
// where the schedule has them:
//
//   [Input] Forward [Output .. ReleaseOutput] [Recompute] [OutputGradient] Backward [InputGradient .. Release..]
//                                                         or BackwardInput [InputGradient ..] BackwardWeight
//
// with these liberties: the Releases may come any time later, also when the micro-batch has been freed; InputGradient
// may first be asked for after BackwardWeight, OutputGradient any time after Forward. Several micro-batches are open at
// once and each goes its own way. W comes in the order of the stage's I only if the schedule says so.
//
// Memory: a stage has room for the outputs and input gradients that are being sent, Executor::kSends to each neighbour,
// beside the one in the making. Inputs and output gradients may arrive ahead of the task that reads them, so a stage
// does well to take no more for Input than the input, and the rest in Forward. Any span may be empty: a micro-batch may
// have no rows.
//
// Forward and the backwards come in phases (phases.h), so that the executor may zip a forward and a backward, be they of this
// stage or of two: the one's next phase runs while the other's messages travel. No more than two are under way at once on a
// rank. Their number depends on the stage alone, not on the micro-batch: what the ranks that meet in it exchange has one order.
#ifndef JEVONS_PARALLEL_PIPELINE_STAGE_H_
#define JEVONS_PARALLEL_PIPELINE_STAGE_H_

#include <cstddef>
#include <span>

#include "parallel/pipeline/phases.h"

namespace jevons {

class Stage {
 public:
  virtual ~Stage() = default;

  // Where the activations of a micro-batch arrive. Opens the micro-batch at this stage; at the first one, which is asked
  // for no input, Forward does. Asked once; valid until B or W ends.
  virtual std::span<std::byte> Input(int micro_batch) = 0;
  // Input -> Output. A stage of a forward-only schedule keeps nothing beyond it but the output.
  virtual Phases Forward(int micro_batch) = 0;
  // Not asked of the last stage. Valid until released: it has been sent, or copied to the next stage.
  virtual std::span<const std::byte> Output(int micro_batch) = 0;
  virtual void ReleaseOutput(int micro_batch) = 0;

  virtual Phases Recompute(int micro_batch) = 0;  // what Forward did not keep

  // Where the gradient of Output arrives; not asked of the last stage. Asked once; valid until B or W ends.
  virtual std::span<std::byte> OutputGradient(int micro_batch) = 0;
  virtual Phases BackwardInput(int micro_batch) = 0;  // OutputGradient -> InputGradient; weight gradients wait
  virtual void BackwardWeight(int micro_batch) = 0;   // those; frees the micro-batch
  virtual Phases Backward(int micro_batch) = 0;       // both in one, which needs less memory
  // Not asked of the first stage. Valid until released.
  virtual std::span<const std::byte> InputGradient(int micro_batch) = 0;
  virtual void ReleaseInputGradient(int micro_batch) = 0;

  // All weight gradients of the step are made: begins to reduce them over the ranks that hold the stage, and returns. Whoever takes the
  // step's results ends it. Other tasks of this rank go on meanwhile, and none of them waits for it.
  virtual void ReduceGradients() = 0;
};

}  // namespace jevons

#endif  // JEVONS_PARALLEL_PIPELINE_STAGE_H_
