// Where the wall time of a step goes. Phases nest: the inner one's time is not counted in the outer.
#ifndef JEVONS_TRAINER_MODEL_PHASE_TIMER_H_
#define JEVONS_TRAINER_MODEL_PHASE_TIMER_H_

#include <array>
#include <chrono>
#include <utility>

namespace jevons {

enum class Phase { kOther, kData, kForward, kBackward, kWeightGrad, kHead, kDispatch, kReduce, kOptimizer, kCheckpoint, kCount };
inline constexpr std::array<const char*, static_cast<size_t>(Phase::kCount)> kPhaseNames = {
    "other", "data", "forward", "backward", "wgrad", "head", "dispatch", "reduce", "optimizer", "checkpoint"};

class PhaseTimer {
 public:
  using Seconds = std::array<double, static_cast<size_t>(Phase::kCount)>;

  // Time from here on belongs to `phase`; returns the phase that it belonged to.
  Phase Switch(Phase phase) {
    const auto now = Clock::now();
    seconds_[static_cast<size_t>(current_)] += std::chrono::duration<double>(now - since_).count();
    since_ = now;
    return std::exchange(current_, phase);
  }
  // The seconds of each phase since the last Take.
  Seconds Take() {
    Switch(current_);
    return std::exchange(seconds_, Seconds{});
  }

 private:
  using Clock = std::chrono::steady_clock;
  Seconds seconds_{};
  Phase current_ = Phase::kOther;
  Clock::time_point since_ = Clock::now();
};

class PhaseScope {
 public:
  PhaseScope(PhaseTimer* timer, Phase phase) : timer_(timer) {
    if (timer_) outer_ = timer_->Switch(phase);
  }
  ~PhaseScope() {
    if (timer_) timer_->Switch(outer_);
  }
  PhaseScope(const PhaseScope&) = delete;
  PhaseScope& operator=(const PhaseScope&) = delete;

 private:
  PhaseTimer* timer_;
  Phase outer_ = Phase::kOther;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_PHASE_TIMER_H_
