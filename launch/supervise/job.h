// A training job: a launcher and its ranks, as processes of this machine.
#ifndef JEVONS_LAUNCH_SUPERVISE_JOB_H_
#define JEVONS_LAUNCH_SUPERVISE_JOB_H_

#include <sys/types.h>

#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/status.h"

namespace jevons {

// All jobs of this process. From the first on, what a job's processes leave behind comes to this process, so that none gets lost.
class Jobs {
 public:
  static constexpr double kPatience = 10;  // seconds that a launcher has to end

  Jobs();
  ~Jobs();  // ends whatever still runs

  // `command` in a process group of its own, with output where ours goes, empty input and the variables "NAME=value". When this process ends
  // it gets SIGTERM. UsageError where it cannot be started.
  absl::Status Start(std::vector<std::string> command, std::vector<std::string> variables);
  // Of the launcher; 0 where there is none.
  pid_t launcher() const { return launcher_; }
  // Its exit code once it has ended; 128 + n where signal n ended it.
  std::optional<int> ExitCode();
  void Signal(int signal);  // to the launcher

  // Processes that are no job's, nor are their children.
  void Spare(std::set<pid_t> spared) { spared_ = std::move(spared); }

  // Ends the job, of which `any_rank` has been ended already, or is about to end: its launcher has kPatience for that, beside the next job, and
  // what else it has started `patience` seconds. Returns when nothing of that is left. FailureError where a process cannot be ended, such as one
  // that waits for a disk.
  absl::Status End(bool any_rank, double patience);

 private:
  void Reap();
  std::set<pid_t> Others() const;  // descendants that are no launcher

  pid_t launcher_ = 0;
  std::optional<int> exit_code_;
  std::set<pid_t> spared_;
  std::map<pid_t, std::chrono::steady_clock::time_point> ending_;  // earlier launchers, and since when
};

}  // namespace jevons

#endif  // JEVONS_LAUNCH_SUPERVISE_JOB_H_
