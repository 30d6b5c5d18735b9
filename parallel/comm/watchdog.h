// Watchdog: what a rank was doing when a peer did not come.
//
// Each rank keeps a ring log of its last calls. A wait that exceeds the deadline, a message of the wrong size
// or a failure of the transport ends the job with exit code 5 and one line on stderr. There is no watchdog
// thread for the host's transfers: whoever waits, watches. Those of devices have one (nccl_watch.h).
#ifndef JEVONS_PARALLEL_COMM_WATCHDOG_H_
#define JEVONS_PARALLEL_COMM_WATCHDOG_H_

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>

#include "absl/strings/string_view.h"

namespace jevons {

// How long any rank of this process may wait inside one call; 300 s unless set. seconds > 0.
void SetWatchdogDeadline(double seconds);
double WatchdogDeadline();  // of this thread, in its phase
// While one lives, this thread's verdicts name it and its waits may take `times` as long: a peer whose disk is slow is not lost. `name` is a
// literal.
class WatchdogPhase {
 public:
  WatchdogPhase(const char* name, double times);
  ~WatchdogPhase();
  WatchdogPhase(const WatchdogPhase&) = delete;
  WatchdogPhase& operator=(const WatchdogPhase&) = delete;

 private:
  const char* outer_name_;
  double outer_times_;
};
// Such a phase's `times` where ranks wait for one that waits for a disk.
inline constexpr double kDiskPatience = 12;
// Training steps done; -1, "before the first step", unless set. Verdicts name the next, from 1, as metrics count.
void SetWatchdogStep(int64_t step);

// The calls of one rank. Safe to use from several threads.
class CallLog {
 public:
  using AbortFunction = void (*)(int exit_code);  // ends every rank of the job; does not return

  CallLog(int world_rank, int world_size, AbortFunction abort)
      : world_rank_(world_rank), world_size_(world_size), abort_(abort) {}

  struct Call {
    std::string group;                  // "ep"
    const char* kind = "";              // "AllToAllV"
    int64_t sequence = 0;               // counts the calls of that group, the same on every rank
    int64_t bytes = 0;                  // that this rank sends
    std::string here = {}, there = {};  // of a named message: "2RF7", and "1SF7" at the peer
    bool left = false;
  };

  // "waited 30.0 s for rank 1", or "waited 30.0 s in 2RF7 for rank 1, which has not come to 1SF7".
  // `where` goes after the seconds: "", " on the device".
  static std::string Waited(const Call& call, double seconds, absl::string_view where, absl::string_view peers);

  // Returns the id to leave with.
  int64_t Enter(const Call& call);
  void Leave(int64_t id);

  // The verdict: prints `reason` with the call, the step and the calls before it in one line, does what `before_end`
  // says, then ends the job.
  [[noreturn]] void Die(const Call& call, absl::string_view reason, const std::function<void()>& before_end = {});

 private:
  std::string Verdict(const Call& call, absl::string_view reason);

  static constexpr int64_t kRemembered = 64, kPrinted = 4;
  const int world_rank_, world_size_;
  const AbortFunction abort_;
  std::mutex mutex_;
  int64_t entered_ = 0;
  std::array<Call, kRemembered> ring_;  // call id lies at id % kRemembered
};

// One wait: spins briefly, then lets other threads run (ranks may outnumber cores).
class PatientWait {
 public:
  // False once the deadline is used up. Time in which this process itself was stopped does not count.
  bool Pause();
  double seconds() const { return std::chrono::duration<double>(waited_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  int spins_ = 0;
  Clock::time_point last_ = Clock::now();
  Clock::duration waited_{0};
};

}  // namespace jevons

#endif  // JEVONS_PARALLEL_COMM_WATCHDOG_H_
