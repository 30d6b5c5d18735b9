#include "launch/hang_watch.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace jevons {

std::vector<RankState> RankStates(const HeartbeatFile& file) {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  std::vector<RankState> states;
  int rank = -1;
  for (const HeartbeatLine& line : file.ranks()) {
    ++rank;
    const int64_t pid = line.pid.load(std::memory_order_acquire);
    if (pid == 0) continue;
    const auto phase = static_cast<size_t>(line.phase.load(kRelaxed));
    states.push_back({.rank = rank,
                      .pid = pid,
                      .process_start = line.process_start.load(kRelaxed),
                      .changed = line.changed.load(kRelaxed),
                      .alive = line.alive.load(kRelaxed),
                      .step = line.step.load(kRelaxed),
                      .steps = line.steps.load(kRelaxed),
                      .stage = line.stage.load(kRelaxed),
                      .phase = static_cast<Phase>(phase),
                      .action = ActionOf(line),
                      .exit_code = line.exit_code.load(kRelaxed),
                      .longest_silence = line.longest_silence[phase].load(kRelaxed),
                      .longest_wait = line.longest_wait[phase].load(kRelaxed)});
  }
  return states;
}

bool Lives(const RankState& state) {
  const ProcessFacts facts = FactsOf(state.pid);
  return facts.state != 0 && facts.state != 'Z' && facts.start == state.process_start;
}

std::string PhaseText(const RankState& state) {
  if (state.stage == HeartbeatStage::kStarting) return "starting";
  if (state.stage == HeartbeatStage::kEnding) return "ending";
  return absl::StrCat(kPhaseNames[static_cast<size_t>(state.phase)], state.action.empty() ? "" : ", ", state.action);
}

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
    seen = {.changed = state.changed, .alive = state.alive, .unchanged = changed ? 0 : seen.unchanged + seconds, .silent = alive ? 0 : seen.silent + seconds};

    const bool stopped = seen.silent > floor_ && is_stopped_(state.pid);
    const double deadline = stopped ? floor_ : HangDeadline(state, state.longest_silence, floor_);
    if (seen.silent > deadline && (!silent || seen.silent > silent->silent))
      silent = Hang{state, seen.silent, stopped ? "is stopped by a signal" : "gives no sign of life"};

    all_wait &= state.alive > state.changed && seen.silent < kPolls;
    patience = std::max(patience, HangDeadline(state, state.longest_wait, floor_));
    shortest_unchanged = stillest == nullptr ? seen.unchanged : std::min(shortest_unchanged, seen.unchanged);
    if (seen.unchanged > stillest_so_far) stillest = &state;
  }
  if (silent) return silent;
  if (all_wait && shortest_unchanged > patience) return Hang{*stillest, seen_[stillest->rank].unchanged, "waits, as all ranks do"};
  return std::nullopt;
}

}  // namespace jevons
