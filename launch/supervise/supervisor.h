// Keeps a training job running: starts it, watches its processes and heartbeats, ends it where a rank died or hangs, and starts it again
// from its newest good checkpoint. It has no part in MPI: what ends ranks does not end it.
#ifndef JEVONS_LAUNCH_SUPERVISE_SUPERVISOR_H_
#define JEVONS_LAUNCH_SUPERVISE_SUPERVISOR_H_

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "configs/run.pb.h"
#include "kernels/base/status.h"
#include "launch/supervise/hang_watch.h"
#include "launch/supervise/job.h"
#include "launch/supervise/journal.h"
#include "launch/supervise/restart_policy.h"
#include "launch/supervise/roster.h"

namespace jevons {

struct SuperviseOptions {
  std::vector<std::string> launcher;  // what starts the ranks; of several hosts it gets mpirun's options that say on which
  std::vector<std::string> train;     // program, "train", ...
  std::string run;                    // its --output
  RunConfig config = {};              // of several hosts: what it trains
  bool ranks_are_seen = true;         // all of them; else heartbeats may come from some of them, or none
  std::optional<int> restarts;
  double hang_seconds = 0;  // floor of the deadlines
  const std::atomic<int>* stop = nullptr;
};

class Supervisor {
 public:
  // `heartbeats`: the file of this machine, for `status` where it is the only one.
  Supervisor(const SuperviseOptions& options, Journal journal, Roster roster, std::string heartbeats);

  // Until the run has ended, was stopped, or is given up. Returns the exit code.
  int Run();

 private:
  // How a job ended.
  struct Outcome {
    int exit_code = 0;
    std::string event = "exit";  // died, hung, lost
    std::optional<RankState> rank = {};
    std::optional<int> host = {};  // where it happened
    std::string detail = {};
  };

  absl::StatusOr<std::vector<std::string>> Command();
  absl::StatusOr<Outcome> RunJob();
  std::optional<Outcome> Look(double seconds);
  bool HasFinished(const std::vector<RankState>& ranks) const;
  void TellRanks(const std::vector<RankState>& ranks);
  void NoteTraining(const std::vector<RankState>& ranks);
  void PassSignalOn(bool ranks_have_come);
  std::optional<Outcome> DeadRank(const std::vector<RankState>& ranks) const;
  void BlameMachine(Outcome& outcome);
  Outcome HungRank(const Hang& hang);
  void Record(const Outcome& outcome);
  absl::StatusOr<bool> SetDamagedAside();
  int64_t NewestStep() const;
  void SaveFromMemory();
  bool Delay(double seconds);

  const SuperviseOptions& options_;
  Journal journal_;
  Roster roster_;
  const std::string heartbeats_;
  Jobs jobs_;
  RestartPolicy policy_;
  HangWatch watch_;

  // Of the job that runs:
  double job_seconds_ = 0, idle_seconds_ = 0, since_exit_ = 0;
  double untold_seconds_ = 0;
  int64_t newest_change_ = 0, step_ = -1;
  std::filesystem::file_time_type summary_time_ = {};  // before it
  bool training_ = false;
  bool told_ = false;                // its ranks, to stop
  std::vector<std::string> layout_;  // how it is told to differ from the config
};

}  // namespace jevons

#endif  // JEVONS_LAUNCH_SUPERVISE_SUPERVISOR_H_
