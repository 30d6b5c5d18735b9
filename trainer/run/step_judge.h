// Which steps are applied (contract 14): each is judged on all ranks from the same figures, before a weight moves. A bad step, NaN, Inf or a
// spike, ends the run, or is left out, or is computed again to tell whether the data or a machine is at fault (train.bad_step).
#ifndef JEVONS_TRAINER_RUN_STEP_JUDGE_H_
#define JEVONS_TRAINER_RUN_STEP_JUDGE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "trainer/metrics/step_history.pb.h"
#include "trainer/step/train_step.h"

namespace jevons {

struct BadStep {
  std::string reason;
  uint64_t gradient_hash = 0;  // of the whole gradient: `jevons replay` gives the same
  int64_t in_a_row = 0;        // bad steps, this one included
};

struct JudgedStep {
  StepStats stats;             // of a bad step without load
  std::optional<BadStep> bad;  // it was not applied
  absl::Status status;         // on all ranks: the run ends here. NumericalError; PeerLostError where a machine is at fault
};

class StepJudge {
 public:
  StepJudge(const TrainConfig& config, TrainStep& step, Communicator& world) : config_(config), step_(step), world_(world) {}

  // Computes a step and applies it, unless it is bad. Collective.
  JudgedStep Run(const StepPlan& plan, const SampleBatch& batch);
  // Why what was computed is bad; empty where it is not.
  std::string Reason(const StepResult& result) const;

  // Before a checkpoint of the weights after `steps` steps: where machines are examined (train.verify_replicas, verify_state, REPLAY) only what all
  // ranks have alike, and as the last step left it, is saved, so that there is always a state to go back to. PeerLostError. Collective.
  absl::Status CheckBeforeSave(int64_t steps);

  // After an error: it came from weights that are in every checkpoint of at least so many steps.
  int64_t suspect() const { return suspect_; }

  // What a checkpoint keeps; empty where the next step is judged by itself. `false`: damaged.
  std::string Serialize() const;
  bool Parse(const std::string& bytes);

 private:
  absl::Status CheckReplicas(int64_t steps);
  absl::Status CheckState(int64_t steps);
  absl::Status ComputeAgain(const StepPlan& plan, const SampleBatch& batch, StepResult& result, const std::string& reason);
  void Remember(const StepStats& stats);

  const TrainConfig config_;
  TrainStep& step_;
  Communicator& world_;
  StepHistory history_;
  std::optional<int64_t> verified_;  // after so many steps all replicas were the same
  std::vector<uint64_t> state_;      // hashes of what the last step left, with train.verify_state; empty before the first
  int64_t suspect_ = 0;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_RUN_STEP_JUDGE_H_
