#include "parallel/comm/watchdog.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "kernels/base/status.h"
#include "parallel/comm/heartbeat.h"

namespace jevons {
namespace {

constexpr int kSpins = 64;    // some 10 us of polling: a peer on another core usually comes within that
constexpr int kYields = 500;  // then half a millisecond in which others may run
constexpr std::chrono::microseconds kNap(50);
// The longest pause between two polls that counts as waiting. A longer one means that this process was
// stopped.
constexpr std::chrono::seconds kLongestPause(1);

std::atomic<double> g_deadline_seconds{300};
std::atomic<int64_t> g_step{-1};
thread_local const char* t_phase = nullptr;
thread_local double t_times = 1;

std::string StepName() {
  const int64_t step = g_step.load(std::memory_order_relaxed);
  std::string name = step < 0 ? "before the first step" : absl::StrFormat("step %d", step + 1);
  return t_phase == nullptr ? name : absl::StrCat(name, ", ", t_phase);
}

}  // namespace

void SetWatchdogDeadline(double seconds) {
  JEVONS_CHECK(seconds > 0, "watchdog deadline of %g s", seconds);
  g_deadline_seconds = seconds;
}

double WatchdogDeadline() { return g_deadline_seconds * t_times; }

WatchdogPhase::WatchdogPhase(const char* name, double times)
    : outer_name_(std::exchange(t_phase, name)), outer_times_(std::exchange(t_times, times)) {}

WatchdogPhase::~WatchdogPhase() {
  t_phase = outer_name_;
  t_times = outer_times_;
}

void SetWatchdogStep(int64_t step) {
  g_step = step;
  HeartbeatStep(step);
}

std::string CallLog::Waited(const Call& call, double seconds, absl::string_view where, absl::string_view peers) {
  const std::string text = absl::StrFormat("waited %.1f s%s", seconds, where);
  if (call.here.empty()) return absl::StrCat(text, " for rank ", peers);
  return absl::StrCat(text, " in ", call.here, " for rank ", peers, ", which has not come to ", call.there);
}

int64_t CallLog::Enter(const Call& call) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ring_[entered_ % kRemembered] = call;
  return entered_++;
}

void CallLog::Leave(int64_t id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (entered_ - id <= kRemembered) ring_[id % kRemembered].left = true;
}

std::string CallLog::Verdict(const Call& call, absl::string_view reason) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::string line =
      absl::StrFormat("jevons: lost peer: rank %d of %d, %s.%s, call %d of the group, %s, %d bytes sent: %s", world_rank_,
                      world_size_, call.group, call.kind, call.sequence, StepName(), call.bytes, reason);
  const char* separator = "; last calls: ";
  for (int64_t id = std::max<int64_t>(0, entered_ - kPrinted); id < entered_; ++id) {
    const Call& past = ring_[id % kRemembered];
    absl::StrAppendFormat(&line, "%s%s.%s %d%s%s (%s)", separator, past.group, past.kind, past.sequence,
                          past.here.empty() ? "" : " in ", past.here, past.left ? "left" : "open");
    separator = ", ";
  }
  return line + "\n";
}

void CallLog::Die(const Call& call, absl::string_view reason, const std::function<void()>& before_end) {
  const std::string line = Verdict(call, reason);
  // One write, so that the lines of several ranks do not mix.
  if (write(STDERR_FILENO, line.data(), line.size()) < 0) std::abort();
  if (before_end) before_end();
  abort_(static_cast<int>(ExitCode::kPeerLost));
  std::abort();
}

bool PatientWait::Pause() {
  if (spins_ < kSpins) {
    ++spins_;
    return true;
  }
  HeartbeatPoll();
  // A rank that waits long, as in a pipeline that fills, leaves its core to ranks that compute.
  if (spins_ < kSpins + kYields) {
    ++spins_;
    sched_yield();
  } else {
    std::this_thread::sleep_for(kNap);
  }
  const Clock::time_point now = Clock::now();
  waited_ += std::min<Clock::duration>(now - last_, kLongestPause);
  last_ = now;
  return seconds() <= WatchdogDeadline();
}

}  // namespace jevons
