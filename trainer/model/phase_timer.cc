#include "trainer/model/phase_timer.h"

#include <utility>

#include "parallel/comm/heartbeat.h"

namespace jevons {

PhaseTimer::PhaseTimer(const Stream& stream) : stream_(stream) { Record(current_); }

void PhaseTimer::Record(Phase phase) {
  if (spare_.empty()) spare_.push_back(std::make_unique<Event>(stream_.device));
  points_.push_back({std::move(spare_.back()), phase});
  spare_.pop_back();
  points_.back().event->Record(stream_);
  while (points_.size() > 1 && points_[1].event->Happened()) {
    const double ms = points_[1].event->MillisecondsSince(*points_[0].event);
    seconds_[static_cast<size_t>(points_[0].phase)] += ms * 1e-3;
    spare_.push_back(std::move(points_[0].event));
    points_.pop_front();
  }
}

Phase PhaseTimer::Switch(Phase phase) {
  HeartbeatPhase(static_cast<int>(phase));
  Record(phase);
  return std::exchange(current_, phase);
}

PhaseTimer::Seconds PhaseTimer::Take() {
  Record(current_);
  return std::exchange(seconds_, Seconds{});
}

double PhaseTimer::Take(Phase phase) {
  Record(current_);
  return std::exchange(seconds_[static_cast<size_t>(phase)], 0);
}

}  // namespace jevons
