// The state of a run as a checkpoint has it: what is saved, and how it comes back on any layout.
#ifndef JEVONS_TRAINER_RUN_STATE_H_
#define JEVONS_TRAINER_RUN_STATE_H_

#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "trainer/checkpoint/reader.h"
#include "trainer/checkpoint/writer.h"
#include "trainer/step/train_step.h"

namespace jevons {

std::vector<TensorSlice> SlicesOf(const std::vector<StateSlice>& state);

// The config of the run that wrote a checkpoint, and of it the stage that its last step was trained by (configs/stages.h): what its network
// is to be used with.
absl::StatusOr<RunConfig> RunConfigOf(const CheckpointReader& reader);
absl::StatusOr<RunConfig> StageConfigOf(const CheckpointReader& reader);
std::string NameOfConfig(const CheckpointReader& reader);  // in messages, the former's

// Whether a checkpoint holds the moving average of its run's weights (optimizer.ema_decay).
bool HasAverage(const CheckpointReader& reader);
// From here on the weights that are read are their averages; gate biases, which have none, stay. UsageError where there is no average.
absl::Status UseAverage(CheckpointReader& reader);

// A checkpoint of step 0 was imported: it holds weights and biases only, and its moments are zero. Where a checkpoint has no average of the
// weights, the average begins with its weights.
//
// Masters, moments, averages and biases from `reader` into `train_step`, whatever layout wrote them. Each rank reads its own; once all
// have, train_step.RestoreWeights() gives everybody the weights.
absl::Status LoadState(CheckpointReader& reader, TrainStep& train_step);

// Weights alone, in their compute type, and gate biases: for evaluation and generation. stream: where they lie. take: gets those that only
// pass.
absl::Status LoadWeights(CheckpointReader& reader, const WeightStore& weights, const Stream& stream = {},
                         const TakeWeights& take = {});
// The same into a TrainStep, which can evaluate then.
absl::Status LoadWeights(CheckpointReader& reader, TrainStep& train_step);

// `status`, which the weights after `state` steps have led to, with where the run goes on from, and which of its checkpoints have these weights.
absl::Status AdviseToGoBack(const absl::Status& status, const std::string& checkpoints, int64_t state);

}  // namespace jevons

#endif  // JEVONS_TRAINER_RUN_STATE_H_
