// One step of a run once more, bit for bit, and what can be told of it: `jevons replay`. Nothing is written.
#ifndef JEVONS_TRAINER_RUN_REPLAY_H_
#define JEVONS_TRAINER_RUN_REPLAY_H_

#include <optional>
#include <string>
#include <vector>

#include "data/sampler.h"
#include "trainer/checkpoint/reader.h"
#include "trainer/run/run_inputs.h"
#include "trainer/step/train_step.h"

namespace jevons {

struct ReplayOptions {
  RunInputs inputs;                // of the run, its config valid on these ranks
  std::string run;                 // its folder
  std::string config_source = {};  // where its config is from, for people
  int64_t step = 0;                // to replay, from 1, as metrics count
};

struct ReplayedSample {
  int64_t index = 0;    // in the run's stream
  std::string dataset;  // its prefix
  std::vector<DocumentPart> parts;
  int64_t micro_batch = 0;  // of the step
};

// A pipeline's part of the step.
struct ReplayedPipeline {
  std::vector<int> ranks;  // of the world
  Range micro_batches;
  double loss = 0;  // of the main model, mean over its tokens
};

struct ReplayedStep {
  StepPlan plan;
  int64_t from = 0;           // the state after so many steps was there
  std::string config_source;  // of the options
  StepResult result;
  std::string reason;  // why the step is bad; empty: it is not
  uint64_t gradient_hash = 0;
  std::vector<ReplayedSample> samples;
  std::vector<ReplayedPipeline> pipelines;
  std::vector<ParameterGradient>
      parameters;                   // those refused, in the order of the backward pass; else the largest, at most kLargest
  std::optional<bool> as_recorded;  // whether the run's metrics have the same bits of it; none: they have nothing of it

  static constexpr size_t kLargest = 10;
};

// Runs from `checkpoint`, or where there is none from the beginning, to the step. As in the run bad steps before it are not applied. NumericalError
// where the run would have ended before it. Collective over the mesh's world.
absl::StatusOr<ReplayedStep> Replay(const ReplayOptions& options, CheckpointReader* checkpoint, Mesh& mesh);

// For people, and for programs (one JSON object).
std::string ReplayText(const ReplayedStep& step);
std::string ReplayJson(const ReplayedStep& step);

}  // namespace jevons

#endif  // JEVONS_TRAINER_RUN_REPLAY_H_
