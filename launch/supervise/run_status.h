// How a run is doing, from its files alone: while it runs and after.
#ifndef JEVONS_LAUNCH_SUPERVISE_RUN_STATUS_H_
#define JEVONS_LAUNCH_SUPERVISE_RUN_STATUS_H_

#include <optional>
#include <string>
#include <vector>

#include "launch/supervise/journal.h"
#include "launch/supervise/rank_state.h"
#include "trainer/metrics/record.h"

namespace jevons {

struct RunStatus {
  std::string run;
  bool running = false;  // some process trains there
  std::vector<RankState> ranks;
  std::vector<std::string> hosts;       // of the ranks, where there are several
  std::optional<MetricsRecord> newest;  // of a step
  double seconds_per_step = 0;          // of the last steps, with what is between them; 0: not known
  int64_t steps = 0;                    // of the whole run; 0: not known
  std::vector<int64_t> checkpoints;
  std::vector<JournalEvent> events;  // all of them
  double now = 0;                    // seconds since 1970

  std::optional<double> eta() const;  // seconds
};

// IntegrityError where `run` is no run.
absl::StatusOr<RunStatus> ReadRunStatus(const std::string& run);
std::string StatusText(const RunStatus& status);
std::string EventText(const JournalEvent& event);  // a line of it
std::string StatusJson(const RunStatus& status);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_SUPERVISE_RUN_STATUS_H_
