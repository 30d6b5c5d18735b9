// What changes in the course of a run, as pure functions of the config and of the progress so far (TR 4.2).
//
// Steps count from 0; "tokens" are those consumed before the step: sequences times data.sequence_length.
#ifndef JEVONS_TRAINER_SPEC_SCHEDULES_H_
#define JEVONS_TRAINER_SPEC_SCHEDULES_H_

#include <cstdint>
#include <vector>

#include "configs/run.pb.h"

namespace jevons {

// The peak until constant_tokens, then a cosine to `final` over decay_tokens, then the tail's stages; in the
// first warmup_steps, times (step + 1) / warmup_steps, so that the first step already moves and the last has
// the full rate.
double LearningRate(const LearningRateConfig& config, int64_t step, double tokens);

// The value of the last stage that begins at or before `tokens`; `before` where none does.
double StageValue(const google::protobuf::RepeatedPtrField<TokenStep>& stages, double before, double tokens);

double GammaAt(const BalanceConfig& config,
               double tokens);  // speed of the gate bias; 0.001 where nothing is set
double MtpWeightAt(const BalanceConfig& config,
                   double tokens);  // lambda of the MTP loss; 0.3 where nothing is set

// Sequences of the step that begins at `tokens`: a line from batch_ramp_start to batch_sequences over
// batch_ramp_tokens, rounded to the nearest multiple of micro_batch_sequences (at least one).
int64_t BatchSequences(const TrainConfig& config, double tokens);

// One step's place in the run.
struct StepPlan {
  int64_t step = 0;
  int64_t first_sample = 0;  // global index of the first sequence
  int64_t sequences = 0;
  double tokens_before = 0;
  double learning_rate = 0;
  double gamma = 0;
  double mtp_weight = 0;
};

// Computes the plan of any step exactly and without replay: while the batch grows, where a step begins
// depends on all steps before it, so the sizes are worked out once, as a list of runs of equal size.
class RunSchedule {
 public:
  explicit RunSchedule(const RunConfig& config);  // a valid one

  StepPlan At(int64_t step) const;  // 0 <= step; steps beyond the last go on in the last size
  // Of the run, as train.steps and train.tokens end it. Where train.dollars alone does it has no known length: `bounded` is false, and this
  // is more than any run makes.
  int64_t steps() const { return steps_; }
  bool bounded() const { return config_.train().has_steps() || config_.train().tokens() > 0; }
  double total_tokens() const { return At(steps()).tokens_before; }

 private:
  struct Stretch {  // steps of one size
    int64_t step, first_sample, sequences;
  };
  RunConfig config_;
  int64_t steps_;
  std::vector<Stretch> stretches_;  // ascending; the last has no end
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_SPEC_SCHEDULES_H_
