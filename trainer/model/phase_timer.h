// Where the wall time of a step goes. Phases nest: the inner one's time is not counted in the outer.
#ifndef JEVONS_TRAINER_MODEL_PHASE_TIMER_H_
#define JEVONS_TRAINER_MODEL_PHASE_TIMER_H_

#include <array>
#include <deque>
#include <memory>
#include <vector>

#include "kernels/tensor/device.h"

namespace jevons {

enum class Phase {
  kOther,
  kData,
  kForward,
  kBackward,
  kWeightGrad,
  kHead,
  kDispatch,
  kReduce,
  kOptimizer,
  kValidation,
  kCheckpoint,
  kCount
};
inline constexpr std::array<const char*, static_cast<size_t>(Phase::kCount)> kPhaseNames = {
    "other", "data", "forward", "backward", "wgrad", "head", "dispatch", "reduce", "optimizer", "validation", "checkpoint"};

// On a CPU the host's clock counts. On a device, where the host runs ahead, its own: each switch is a point in the stream's work.
class PhaseTimer {
 public:
  using Seconds = std::array<double, static_cast<size_t>(Phase::kCount)>;

  explicit PhaseTimer(const Stream& stream = {});

  // Time from here on belongs to `phase`; returns the phase that it belonged to.
  Phase Switch(Phase phase);
  // The seconds of each phase since the last Take. Waits for nothing: what a device has still to do is in a later Take.
  Seconds Take();
  // The seconds of `phase` alone, which the next Take will not have.
  double Take(Phase phase);

 private:
  struct Point {
    std::unique_ptr<Event> event;
    Phase phase;  // from here on
  };
  void Record(Phase phase);

  Stream stream_;
  Seconds seconds_{};
  Phase current_ = Phase::kOther;
  std::deque<Point> points_;                   // those of which a later one may still have to happen
  std::vector<std::unique_ptr<Event>> spare_;  // events are kept for use again
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
