// One machine of a supervised run: what its ranks do, an end to them, and what its memory has of their state.
#ifndef JEVONS_LAUNCH_SUPERVISE_HOST_H_
#define JEVONS_LAUNCH_SUPERVISE_HOST_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/status.h"
#include "launch/supervise/rank_state.h"
#include "parallel/comm/heartbeat.h"
#include "trainer/checkpoint/memory_parts.h"

namespace jevons {

inline constexpr int64_t kMostRanks = 1 << 16;

// The variable that names to ranks the folder for checkpoints in memory.
inline constexpr char kMemoryVariable[] = "JEVONS_MEMORY";

// "/dev/shm/jevons+shared+run" of the run "/shared/run": the same on all hosts, and for the next supervisor of the run.
std::string MemoryFolderOf(const std::string& run);

class Host {
 public:
  virtual ~Host() = default;

  virtual const std::string& name() const = 0;
  virtual const std::string& heartbeats() const = 0;  // "HOST:FILE", for the ranks
  virtual pid_t shell() const { return 0; }           // the process of ours that leads there
  // Seconds for which it has not answered; more than any deadline where it has ended.
  virtual double silent() const = 0;
  virtual std::vector<RankState> Ranks() = 0;
  // What the kernel lets us see of where a process is: "state T (stopped), waits in do_signal_stop, stack ...".
  virtual std::string WhereItIs(int64_t pid) = 0;
  virtual void KillRanks() = 0;
  // Before a job: no rank has come.
  virtual void Clear() = 0;

  // Of checkpoints in its memory: what is there; one of them to the folder of a checkpoint on disk; none any more.
  virtual std::vector<MemoryPart> Parts() = 0;
  virtual absl::Status CopyPart(const MemoryPart& part, const std::string& partial) = 0;
  virtual void ForgetParts() = 0;
};

// This machine. Ranks make the folder for checkpoints in memory; what a supervisor that was killed leaves there is for the next one of the run.
class ThisHost : public Host {
 public:
  static absl::StatusOr<std::unique_ptr<ThisHost>> Create(const std::string& memory_folder);

  const std::string& name() const override { return name_; }
  const std::string& heartbeats() const override { return heartbeats_; }
  const std::string& heartbeat_path() const { return heartbeat_.path(); }
  double silent() const override { return 0; }
  std::vector<RankState> Ranks() override { return RankStates(heartbeat_); }
  std::string WhereItIs(int64_t pid) override;
  void KillRanks() override;
  void Clear() override { heartbeat_.Clear(); }
  std::vector<MemoryPart> Parts() override;
  absl::Status CopyPart(const MemoryPart& part, const std::string& partial) override;
  void ForgetParts() override;

 private:
  ThisHost(HeartbeatFile heartbeat, std::string memory_folder);

  std::string name_, heartbeats_;
  HeartbeatFile heartbeat_;
  std::string memory_folder_;
};

}  // namespace jevons

#endif  // JEVONS_LAUNCH_SUPERVISE_HOST_H_
