// Whether a job that has ended is started again, and when.
#ifndef JEVONS_LAUNCH_SUPERVISE_RESTART_POLICY_H_
#define JEVONS_LAUNCH_SUPERVISE_RESTART_POLICY_H_

#include <cstdint>
#include <optional>
#include <string>

namespace jevons {

struct RestartDecision {
  bool restart = false;
  double delay = 0;    // seconds
  std::string reason;  // why not; empty where it is done, or stopped
};

class RestartPolicy {
 public:
  static constexpr int kBarren = 3;  // restarts in a row that may bring no progress
  static constexpr double kLongestDelay = 60;

  // `budget`: restarts in all; none: as many as bring progress, and kBarren in a row that bring none.
  explicit RestartPolicy(std::optional<int> budget) : budget_(budget) {}

  // A job ended with `exit_code` (ExitCode, or 128 + a signal) when `step` steps were done; -1: it did not come so far. The newest checkpoint
  // is of `kept` steps; -1: there is none. Progress is a checkpoint newer than the one at the last failure, also where a job before that had come
  // farther and lost it; or a step beyond all that earlier failures had reached. Delays are 0 after progress, then 1, 2, 4 ... s.
  RestartDecision Next(int exit_code, int64_t step, int64_t kept);

  int restarts() const { return restarts_; }

 private:
  const std::optional<int> budget_;
  int restarts_ = 0, barren_ = 0;
  std::optional<int64_t> furthest_;
  int64_t kept_ = -1;
};

}  // namespace jevons

#endif  // JEVONS_LAUNCH_SUPERVISE_RESTART_POLICY_H_
