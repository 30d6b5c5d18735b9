// Another machine of a supervised run, through an agent there that a remote shell has started: its streams are the connection, so whoever may
// log in there is who may ask, and no port is open.
#ifndef JEVONS_LAUNCH_SUPERVISE_REMOTE_HOST_H_
#define JEVONS_LAUNCH_SUPERVISE_REMOTE_HOST_H_

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "launch/supervise/agent_messages.h"
#include "launch/supervise/host.h"

namespace jevons {

class RemoteHost : public Host {
 public:
  static constexpr double kReach = 30;  // seconds that an agent has to come

  // `command` starts the agent: "ssh node2 jevons supervise --agent FOLDER". FailureError where none answers.
  static absl::StatusOr<std::unique_ptr<RemoteHost>> Start(std::vector<std::string> command);
  ~RemoteHost() override;  // its agent sees that and ends

  const std::string& name() const override { return name_; }
  const std::string& heartbeats() const override { return heartbeats_; }
  pid_t shell() const override { return shell_; }
  double silent() const override;
  std::vector<RankState> Ranks() override;
  std::string WhereItIs(int64_t pid) override;
  void KillRanks() override;
  void Clear() override;
  std::vector<MemoryPart> Parts() override;
  absl::Status CopyPart(const MemoryPart& part, const std::string& partial) override;
  void ForgetParts() override;

 private:
  using Clock = std::chrono::steady_clock;

  RemoteHost(pid_t shell, int in, int out);
  void Hear(std::chrono::milliseconds wait);
  bool Tell(const nlohmann::json& message);
  // The reply; FailureError where none comes, or it says what went wrong.
  absl::StatusOr<nlohmann::json> Ask(nlohmann::json question);

  const pid_t shell_;
  const int in_, out_;  // what it hears, what we hear
  LineReader reader_;
  std::mutex writing_;
  std::string name_, heartbeats_;
  std::vector<RankState> ranks_;
  nlohmann::json reply_;
  int64_t asked_ = 0;
  Clock::time_point heard_ = Clock::now();
  std::jthread beat_;
};

}  // namespace jevons

#endif  // JEVONS_LAUNCH_SUPERVISE_REMOTE_HOST_H_
