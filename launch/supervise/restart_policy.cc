#include "launch/supervise/restart_policy.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/status.h"

namespace jevons {

RestartDecision RestartPolicy::Next(int exit_code, int64_t step, int64_t kept) {
  switch (static_cast<ExitCode>(exit_code)) {
    case ExitCode::kOk:
    case ExitCode::kPreempted: return {};
    case ExitCode::kUsage: return {.reason = "another start would refuse the same command line or config"};
    case ExitCode::kIntegrity: return {.reason = "another start would read the same data or checkpoint"};
    case ExitCode::kNumerical: return {.reason = "another start would compute the same NaN or Inf"};
    case ExitCode::kFailure:
    case ExitCode::kPeerLost: break;
  }
  const int64_t kept_before = std::exchange(kept_, kept);
  const bool progress = !furthest_ || step > *furthest_ || kept > kept_before;
  barren_ = progress ? 0 : barren_ + 1;
  furthest_ = std::max(step, furthest_.value_or(step));
  if (budget_ && restarts_ >= *budget_) return {.reason = absl::StrFormat("%d restarts are used up", *budget_)};
  if (!budget_ && barren_ >= kBarren) return {.reason = absl::StrFormat("%d restarts in a row brought no progress", kBarren)};
  ++restarts_;
  return {.restart = true, .delay = barren_ == 0 ? 0 : std::min(kLongestDelay, std::exp2(barren_ - 1)), .reason = ""};
}

}  // namespace jevons
