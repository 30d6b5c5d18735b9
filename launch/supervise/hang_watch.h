// Which rank hangs: from what the heartbeats say, look after look.
//
// A rank hangs where it gives no sign of life, neither a change nor a poll for another rank, for longer than its phase's deadline: ten
// times what the phase has taken so far, and not less than a floor. Who polls waits for others, and is not the one. Where all poll, and
// nothing changes for as long, they wait for each other.
//
// Time is counted by looks, each at most a second: where this process, and with it perhaps the whole machine, was stopped, nobody hangs.
#ifndef JEVONS_LAUNCH_SUPERVISE_HANG_WATCH_H_
#define JEVONS_LAUNCH_SUPERVISE_HANG_WATCH_H_

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "launch/supervise/rank_state.h"

namespace jevons {

struct Hang {
  RankState state;
  double silent = 0;  // seconds
  std::string what;   // "gives no sign of life", "is stopped by a signal", "waits, as all do"
};

// Seconds without a sign of life that `state` may take where its phase had `longest` so far. `floor`: of the phases of a step.
double HangDeadline(const RankState& state, double longest, double floor);

class HangWatch {
 public:
  static constexpr double kTimes = 10;  // what has been longest
  static constexpr double kStarting =
      300;  // seconds; of what comes before the first step or after the last, and of a phase that is new
  static constexpr double kValidating = 30;  // at least
  static constexpr double kSaving = 3600;    // a slow disk is no hang
  static constexpr double kPolls = 1;        // since the last poll: it still waits

  // `floor` in seconds: also the deadline in any phase of a process that a signal has stopped.
  explicit HangWatch(double floor) : floor_(floor) {}

  // `seconds` since the last look.
  std::optional<Hang> Look(std::span<const RankState> ranks, double seconds);
  void Forget() { seen_.clear(); }  // before another job

 private:
  struct Seen {
    int64_t changed = 0, alive = 0;
    double unchanged = 0, silent = 0;  // seconds
  };
  const double floor_;
  std::map<int, Seen> seen_;  // by rank
};

}  // namespace jevons

#endif  // JEVONS_LAUNCH_SUPERVISE_HANG_WATCH_H_
