// What a rank is doing, as its heartbeat and the kernel of its host say.
#ifndef JEVONS_LAUNCH_SUPERVISE_RANK_STATE_H_
#define JEVONS_LAUNCH_SUPERVISE_RANK_STATE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/comm/heartbeat.h"
#include "trainer/model/phase_timer.h"

namespace jevons {

// A line of the heartbeat file, read.
struct RankState {
  int rank = 0;
  int64_t pid = 0, process_start = 0, changed = 0, alive = 0;
  int64_t step = -1, steps = 0;
  HeartbeatStage stage = HeartbeatStage::kStarting;
  Phase phase = Phase::kOther;
  std::string action = {};
  int exit_code = -1;
  bool at_fault = false;                         // by the ranks' verdict
  double longest_silence = 0, longest_wait = 0;  // seconds, of this phase; 0: it has not been seen
  bool lives = true;                             // its process still runs
  bool stopped = false;                          // by a signal
  double silent = 0;                             // seconds since its last sign of life
  int host = 0;                                  // of the supervised
};

// Those who have come; `rank` is the line. What one whose process is gone has said is what it said last.
std::vector<RankState> RankStates(const HeartbeatFile& file);

// "starting", "forward, 3B1", "ending"
std::string PhaseText(const RankState& state);
// The phase of this number, as another process has named it; kOther where there is none.
Phase PhaseNumbered(int64_t number);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_SUPERVISE_RANK_STATE_H_
