// What changes in the course of a run, as pure functions of the config and of the progress so far (TR 4.2).
//
// Steps count from 0; "tokens" are those consumed before the step: sequences times their length.
#ifndef JEVONS_TRAINER_SPEC_SCHEDULES_H_
#define JEVONS_TRAINER_SPEC_SCHEDULES_H_

#include <cstdint>
#include <vector>

#include "configs/run.pb.h"
#include "kernels/base/status.h"

namespace jevons {

// The peak until constant_tokens, then the decay to `final` over decay_tokens, then the tail's stages; in the
// first warmup_steps, times (step + 1) / warmup_steps, so that the first step already moves and the last has
// the full rate. decay_fraction does not count: RunSchedule, which knows the run's length, makes tokens of it.
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
  int stage = 0;       // of configs/stages.h
  int64_t tokens = 0;  // of the step
};

// From a sample on, sequences of another length or from another mixture.
struct StreamStage {
  int stage = 0;  // the first that is so, of configs/stages.h
  int64_t first_sample = 0;
};

// Computes the plan of any step exactly and without replay: while the batch grows, where a step begins
// depends on all steps before it, so the sizes are worked out once, as a list of runs of equal size. A stage of
// the run begins at its from_step, or at the first step before which from_tokens were consumed; one that would begin
// before its predecessor leaves that no steps.
class RunSchedule {
 public:
  explicit RunSchedule(const RunConfig& config);  // a valid one

  StepPlan At(int64_t step) const;  // 0 <= step; steps beyond the last go on in the last size
  // Of the run, as train.steps and train.tokens end it. Where train.dollars alone does it has no known length: `bounded` is false, and this
  // is more than any run makes.
  int64_t steps() const { return steps_; }
  bool bounded() const { return config_.train().has_steps() || config_.train().tokens() > 0; }
  double total_tokens() const { return static_cast<double>(PlaceOf(steps()).first_token); }

  // The config by which a step is trained.
  int StageOf(int64_t step) const { return StretchOf(step).stage; }
  std::vector<int64_t> StageSteps() const;  // the first step of each stage that has one, rising
  const RunConfig& stage(int index) const { return configs_[static_cast<size_t>(index)]; }
  // Where the stream of samples changes, by rising samples; not its beginning.
  std::vector<StreamStage> StreamStages() const;
  // Whether what so many steps have made is worth keeping for good: a stage ends there, or the learning rate, after a constant part, begins
  // to decay or has decayed.
  bool KeepsAfter(int64_t steps) const;

  // UsageError, naming the field and the remedy, for a stage that has no step, and for a decay of one that is cut short, by the next rate
  // or by the end of the run.
  absl::Status CheckStages() const;

 private:
  struct Stretch {  // steps of one size
    int64_t step, first_sample, first_token, sequences;
    int stage;
  };
  struct Rate {  // a learning rate from its first step on
    LearningRateConfig config;
    int64_t step, token;
    int stage;  // that declares it
  };
  int64_t StepTokens(const Stretch& stretch) const { return stretch.sequences * stage(stretch.stage).data().sequence_length(); }
  const Stretch& StretchOf(int64_t step) const;
  Stretch PlaceOf(int64_t step) const;  // where a stretch that begins with this step would
  void AddStage(const Stretch& begin, int64_t limit);
  void EndByTokens();
  void AddRates();
  const Rate& RateOf(int64_t step) const;
  int64_t EndOf(size_t rate) const;  // the first token that it is not for
  bool Decays(int64_t step) const;

  RunConfig config_;
  std::vector<RunConfig> configs_;  // by stage
  int64_t steps_;
  std::vector<Stretch> stretches_;  // ascending; the last has no end
  std::vector<Rate> rates_;         // likewise
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_SPEC_SCHEDULES_H_
