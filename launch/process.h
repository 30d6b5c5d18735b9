// Another program, run to its end or to a deadline.
#ifndef JEVONS_LAUNCH_PROCESS_H_
#define JEVONS_LAUNCH_PROCESS_H_

#include <sys/types.h>

#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace jevons {

struct ProcessResult {
  int exit_code = 0;       // 128 + n when signal n ended it, 127 when there is no such program
  bool timed_out = false;  // its process group was killed at the deadline
  std::string out, err;    // what it wrote
};

// A child in a process group of its own, with its output collected and its input empty.
class Process {
 public:
  // `command`: the program, looked up in PATH, and its arguments. `environment`: "NAME=value" entries that
  // the child has besides ours, or instead.
  static absl::StatusOr<Process> Start(std::vector<std::string> command, std::span<const std::string> environment = {});
  Process(Process&& other);
  Process& operator=(Process&&) = delete;
  ~Process();  // kills the group if it still runs

  pid_t pid() const { return pid_; }
  // Collects output until both streams are closed and the child has ended, or the deadline has passed.
  ProcessResult Wait(double timeout_seconds);

 private:
  Process(pid_t pid, int out, int err) : pid_(pid), out_(out), err_(err) {}
  pid_t pid_;
  int out_, err_;
};

// Start and Wait in one; a program that cannot be started has exit code 127.
ProcessResult RunProcess(std::vector<std::string> command, double timeout_seconds);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_PROCESS_H_
