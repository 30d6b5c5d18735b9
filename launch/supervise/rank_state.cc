#include "launch/supervise/rank_state.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace jevons {

std::vector<RankState> RankStates(const HeartbeatFile& file) {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  std::vector<RankState> states;
  const int64_t now = MonotonicNanoseconds();
  int rank = -1;
  for (const HeartbeatLine& line : file.ranks()) {
    ++rank;
    const int64_t pid = line.pid.load(std::memory_order_acquire);
    if (pid == 0) continue;
    // The process first: what it says last it says before it is gone.
    const ProcessFacts facts = FactsOf(pid);
    const int64_t start = line.process_start.load(kRelaxed);
    const int64_t alive = line.alive.load(kRelaxed);
    const auto phase = static_cast<size_t>(PhaseNumbered(line.phase.load(kRelaxed)));
    states.push_back({.rank = rank,
                      .pid = pid,
                      .process_start = start,
                      .changed = line.changed.load(kRelaxed),
                      .alive = alive,
                      .step = line.step.load(kRelaxed),
                      .steps = line.steps.load(kRelaxed),
                      .stage = line.stage.load(kRelaxed),
                      .phase = static_cast<Phase>(phase),
                      .action = ActionOf(line),
                      .exit_code = line.exit_code.load(kRelaxed),
                      .at_fault = line.at_fault.load(kRelaxed) != 0,
                      .longest_silence = line.longest_silence[phase].load(kRelaxed),
                      .longest_wait = line.longest_wait[phase].load(kRelaxed),
                      .lives = facts.state != 0 && facts.state != 'Z' && facts.start == start,
                      .stopped = facts.state == 'T',
                      .silent = std::max(0.0, static_cast<double>(now - alive) * 1e-9)});
  }
  return states;
}

Phase PhaseNumbered(int64_t number) {
  return number >= 0 && number < static_cast<int64_t>(Phase::kCount) ? static_cast<Phase>(number) : Phase::kOther;
}

std::string PhaseText(const RankState& state) {
  if (state.stage == HeartbeatStage::kStarting) return "starting";
  if (state.stage == HeartbeatStage::kEnding) return "ending";
  return absl::StrCat(kPhaseNames[static_cast<size_t>(state.phase)], state.action.empty() ? "" : ", ", state.action);
}

}  // namespace jevons
