// What a supervisor and its agent on another host say to each other, over the stream of the remote shell that has started the agent: one JSON
// object a line.
//
//   agent:      {"host":"node2","heartbeats":"node2:/proc/41/fd/3"}          once
//               {"ranks":[{"rank":8,"pid":77,...}]}                           every kAgentBeat
//               {"reply":3,"error":"","text":"state T (stopped)","parts":[]}  to the question of that number
//   supervisor: {}                                                            every kSupervisorBeat: it lives
//               {"ask":3,"do":"where","pid":77}
//   do: where, kill, clear, parts, copy (with "part" and "partial"), forget: as Host has them (host.h)
#ifndef JEVONS_LAUNCH_SUPERVISE_AGENT_MESSAGES_H_
#define JEVONS_LAUNCH_SUPERVISE_AGENT_MESSAGES_H_

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "launch/supervise/rank_state.h"
#include "trainer/checkpoint/memory_parts.h"

namespace jevons {

inline constexpr auto kAgentBeat = std::chrono::milliseconds(100);
inline constexpr auto kSupervisorBeat = std::chrono::seconds(1);

nlohmann::json JsonOf(const RankState& state);
nlohmann::json JsonOf(const MemoryPart& part);
// Throw nlohmann::json::exception where `json` is no such thing.
RankState RankStateOf(const nlohmann::json& json);
MemoryPart MemoryPartOf(const nlohmann::json& json);

// Lines, as they come in pieces from a stream that need not block.
class LineReader {
 public:
  explicit LineReader(int fd) : fd_(fd) {}
  // The objects of the lines that have come; waits up to `wait` for one. Lines that are none, as of a shell that greets, are left out.
  std::vector<nlohmann::json> Read(std::chrono::milliseconds wait);
  bool ended() const { return ended_; }

 private:
  int fd_;
  std::string rest_;
  bool ended_ = false;
};

// False where the other end is gone.
bool WriteLine(int fd, const nlohmann::json& json);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_SUPERVISE_AGENT_MESSAGES_H_
