// Runs the rungs of a ladder one after another, each as a supervised run of its own.
//
// OUTPUT/
//   RUNG.textproto    the run of each rung that was begun, whole; the next start compares it with what the ladder says now
//   RUNG/             the run
//   prediction.json   what is foretold of the held-out rungs; written before the first of them is run, and never again
//   ladder.csv        a line for each rung; written after each
#ifndef JEVONS_LAUNCH_LADDER_CLIMB_H_
#define JEVONS_LAUNCH_LADDER_CLIMB_H_

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "trainer/ladder/report.h"

namespace jevons {

struct ClimbOptions {
  std::string output;
  std::vector<std::string> supervise;  // its options: --ranks or --launcher
  // What may be spent in all, earlier starts included: dollars, and hours of the clock.
  std::optional<double> budget, hours;
  const std::atomic<int>* stop = nullptr;  // a signal's number once one has come: the rung's run saves and stops
};

// UsageError where `seconds` or `dollars`, which `what` takes, are more than the options allow, or dollars are not known.
absl::Status CheckLimits(const ClimbOptions& options, const LadderConfig& ladder, const std::string& what, double seconds,
                         double dollars);

// Reads what earlier starts have left in the output's folder. UsageError where a rung was begun as another run.
absl::Status ReadLadder(const std::string& output, LadderState& state);

// Runs what is not finished. A finished rung is skipped, one that was interrupted goes on from its checkpoint. PreemptedError after a signal; where
// a run fails, an error of its exit code.
absl::Status Climb(const ClimbOptions& options, LadderState& state);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_LADDER_CLIMB_H_
