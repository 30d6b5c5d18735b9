// The hosts of a supervised run: which of them take part in the next job, and what is asked of all of them.
#ifndef JEVONS_LAUNCH_SUPERVISE_ROSTER_H_
#define JEVONS_LAUNCH_SUPERVISE_ROSTER_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "launch/host_table.h"
#include "launch/supervise/host.h"
#include "launch/supervise/quarantine.h"

namespace jevons {

class Roster {
 public:
  static constexpr double kSilence = 3;  // seconds without a word after which a host is lost
  static constexpr double kRetry = 60;   // seconds before a lost host is asked for again

  // Reaches a host by its name in the hostfile; may be called for several at once.
  using Reach = std::function<absl::StatusOr<std::shared_ptr<Host>>(const std::string& name)>;

  // This machine alone.
  explicit Roster(std::shared_ptr<Host> here);
  // Those of a hostfile, each by `reach`; none has been reached yet.
  Roster(std::vector<HostSlots> hosts, Reach reach);

  bool several() const { return members_.size() > 1; }
  bool complete() const { return slots().size() == members_.size(); }
  std::vector<std::string> names() const;
  const std::string& NameOf(int host) const { return members_[static_cast<size_t>(host)].slots.name; }

  // Before a job. Reaches those that are not there, unless they are quarantined or have just been lost, and says so. `now` in seconds. FailureError
  // where no host is left.
  absl::Status Gather(double now);
  // Of those that take part:
  std::vector<HostSlots> slots() const;
  std::string heartbeats() const;  // for kHeartbeatVariable
  std::set<pid_t> shells() const;  // that lead to agents
  std::vector<RankState> Ranks();  // each with its host
  std::optional<int> Lost();       // who no longer answers
  std::string WhereItIs(const RankState& state);
  void KillRanks();
  void Clear();
  std::vector<MemoryPart> Parts();
  absl::Status CopyParts(const std::vector<MemoryPart>& parts, const std::string& partial);
  void ForgetParts();

  // Something failed there. True where it takes no part from now on: it has failed before, and there are others.
  bool Failed(int host, double now);
  // It is not asked any more, until Gather reaches it again.
  void Drop(int host, double now);

 private:
  struct Member {
    HostSlots slots;
    std::shared_ptr<Host> host = nullptr;
    std::optional<double> lost = {};  // when, or not reached
  };
  void ReachAll(const std::vector<Member*>& members, double now);
  template <typename Function>
  void ForEach(Function function);  // of those that take part, at once: function(host, its number)

  std::vector<Member> members_;
  Reach reach_;
  Quarantine quarantine_;
};

}  // namespace jevons

#endif  // JEVONS_LAUNCH_SUPERVISE_ROSTER_H_
