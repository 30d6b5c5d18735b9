#include "launch/supervise/hang_watch.h"

#include <algorithm>

namespace jevons {

double HangDeadline(const RankState& state, double longest, double floor) {
  if (state.stage != HeartbeatStage::kTraining) return HangWatch::kStarting;
  if (state.phase == Phase::kCheckpoint) return std::max(HangWatch::kSaving, HangWatch::kTimes * longest);
  if (longest <= 0) return HangWatch::kStarting;
  if (state.phase == Phase::kValidation) floor = std::max(floor, HangWatch::kValidating);
  return std::max(floor, HangWatch::kTimes * longest);
}

std::optional<Hang> HangWatch::Look(std::span<const RankState> ranks, double seconds) {
  seconds = std::min(seconds, 1.0);
  std::optional<Hang> silent;
  const RankState* stillest = nullptr;  // of those that poll, who has not changed for longest
  bool all_wait = !ranks.empty();
  double patience = 0, shortest_unchanged = 0;
  for (const RankState& state : ranks) {
    Seen& seen = seen_[state.rank];
    const bool changed = state.changed != seen.changed, alive = state.alive != seen.alive;
    const double stillest_so_far = stillest != nullptr ? seen_[stillest->rank].unchanged : -1;
    seen = {.changed = state.changed,
            .alive = state.alive,
            .unchanged = changed ? 0 : seen.unchanged + seconds,
            .silent = alive ? 0 : seen.silent + seconds};

    const bool stopped = seen.silent > floor_ && state.stopped;
    const double deadline = stopped ? floor_ : HangDeadline(state, state.longest_silence, floor_);
    if (seen.silent > deadline && (!silent || seen.silent > silent->silent))
      silent = Hang{state, seen.silent, stopped ? "is stopped by a signal" : "gives no sign of life"};

    all_wait &= state.alive > state.changed && seen.silent < kPolls;
    patience = std::max(patience, HangDeadline(state, state.longest_wait, floor_));
    shortest_unchanged = stillest == nullptr ? seen.unchanged : std::min(shortest_unchanged, seen.unchanged);
    if (seen.unchanged > stillest_so_far) stillest = &state;
  }
  if (silent) return silent;
  if (all_wait && shortest_unchanged > patience)
    return Hang{*stillest, seen_[stillest->rank].unchanged, "waits, as all ranks do"};
  return std::nullopt;
}

}  // namespace jevons
