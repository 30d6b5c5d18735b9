// Which rank hangs: from what the heartbeats say, look after look.
//
// A rank hangs where it gives no sign of life, neither a change nor a poll for another rank, for longer than its phase's deadline: ten
// times what the phase has taken so far, and not less than a floor. Who polls waits for others, and is not the one. Where all poll, and
// nothing changes for as long, they wait for each other.
//
// Time is counted by looks, each at most a second: where this process, and with it perhaps the whole machine, was stopped, nobody hangs.
#ifndef JEVONS_LAUNCH_HANG_WATCH_H_
#define JEVONS_LAUNCH_HANG_WATCH_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
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
  std::string action;
  int exit_code = -1;
  double longest_silence = 0, longest_wait = 0;  // seconds, of this phase; 0: it has not been seen
};
// Those who have come; `rank` is the line.
std::vector<RankState> RankStates(const HeartbeatFile& file);
// Whether its process still runs.
bool Lives(const RankState& state);
// "starting", "forward, 3B1", "ending"
std::string PhaseText(const RankState& state);

struct Hang {
  RankState state;
  double silent = 0;  // seconds
  std::string what;   // "gives no sign of life", "is stopped by a signal", "waits, as all do"
};

// Seconds without a sign of life that `state` may take where its phase had `longest` so far. `floor`: of the phases of a step.
double HangDeadline(const RankState& state, double longest, double floor);

class HangWatch {
 public:
  static constexpr double kTimes = 10;           // what has been longest
  static constexpr double kStarting = 300;       // seconds; of what comes before the first step or after the last, and of a phase that is new
  static constexpr double kValidating = 30;      // at least
  static constexpr double kSaving = 3600;        // a slow disk is no hang
  static constexpr double kPolls = 1;            // since the last poll: it still waits

  // `floor` in seconds. `is_stopped`: whether a process is stopped by a signal; then the floor is its deadline in any phase.
  HangWatch(double floor, std::function<bool(int64_t pid)> is_stopped) : floor_(floor), is_stopped_(std::move(is_stopped)) {}

  // `seconds` since the last look.
  std::optional<Hang> Look(std::span<const RankState> ranks, double seconds);
  void Forget() { seen_.clear(); }  // before another job

 private:
  struct Seen {
    int64_t changed = 0, alive = 0;
    double unchanged = 0, silent = 0;  // seconds
  };
  const double floor_;
  const std::function<bool(int64_t pid)> is_stopped_;
  std::map<int, Seen> seen_;  // by rank
};

}  // namespace jevons

#endif  // JEVONS_LAUNCH_HANG_WATCH_H_
