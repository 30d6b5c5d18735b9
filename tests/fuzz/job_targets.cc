#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/strings/str_split.h"
#include "kernels/base/check.h"
#include "launch/host_table.h"
#include "launch/supervise/agent_messages.h"
#include "launch/supervise/hang_watch.h"
#include "launch/supervise/journal.h"
#include "parallel/comm/message_head.h"
#include "tests/fuzz/targets.h"
#include "tests/support/temp_folder.h"
#include "trainer/metrics/jsonl.h"

namespace jevons {
namespace {

// What goes ahead of a message between stages.
bool Message(const std::string& input) {
  MessageHead head;
  if (input.size() < sizeof head) return false;
  std::memcpy(&head, input.data(), sizeof head);
  JEVONS_CHECK(ToString(head).size() < sizeof head + 64);
  return head == HeadOf("1SF7", 4);
}

void CheckPhase(const RankState& state) {
  JEVONS_CHECK(state.phase >= Phase::kOther && state.phase < Phase::kCount && !PhaseText(state).empty());
}

// A file of heartbeats with whatever a rank, or anybody, has written into it.
bool Heartbeats(const std::string& input) {
  constexpr int64_t kLines = 8;
  const auto made = HeartbeatFile::Create(kLines);
  JEVONS_CHECK(made.ok());
  const int fd = open(made->path().c_str(), O_WRONLY);
  const size_t bytes = std::min(input.size(), sizeof(HeartbeatLine) * (kLines + 1));
  JEVONS_CHECK(fd >= 0 && pwrite(fd, input.data(), bytes, 0) == static_cast<ssize_t>(bytes));
  close(fd);
  const auto file = HeartbeatFile::Open(made->path(), /*writable=*/false);
  JEVONS_CHECK(file.ok());
  const std::vector<RankState> ranks = RankStates(*file);
  HangWatch watch(4);
  for (const RankState& state : ranks) CheckPhase(state);
  for (int look = 0; look < 8; ++look) (void)watch.Look(ranks, 1);
  return !ranks.empty();
}

// A line of a supervisor's agent on another host: a rank's state, or a part of a checkpoint in memory.
bool AgentMessage(const std::string& input) {
  const nlohmann::json json = nlohmann::json::parse(input, nullptr, /*allow_exceptions=*/false);
  const auto taken = [&](auto read) {
    try {
      const auto value = read(json);
      if constexpr (std::is_same_v<decltype(value), const RankState>) CheckPhase(value);
      JEVONS_CHECK(JsonOf(read(JsonOf(value))) == JsonOf(value), "%s", input.c_str());
      return true;
    } catch (const nlohmann::json::exception&) {
      return false;
    }
  };
  return taken(RankStateOf) || taken(MemoryPartOf);
}

bool JournalLines(const std::string& input) {
  std::vector<JournalEvent> events;
  for (const auto line : absl::StrSplit(input, '\n')) {
    const auto event = FromJournalLine(std::string(line));
    if (!event) continue;
    const std::string text = ToJournalLine(*event);
    const auto again = FromJournalLine(text);
    JEVONS_CHECK(again && ToJournalLine(*again) == text, "%s", text.c_str());
    events.push_back(*event);
  }
  (void)EttrText(EttrOf(events, 1e9));
  (void)SecondsLost(events, 1e9, 0);
  return !events.empty();
}

// u8 steps done; the file.
bool Metrics(const std::string& input) {
  static const TempFolder folder;
  if (input.empty()) return false;
  for (const auto line : absl::StrSplit(input.substr(1), '\n')) {
    const auto record = FromJsonLine(std::string(line));
    if (!record) continue;
    const std::string text = ToJsonLine(*record);
    const auto again = FromJsonLine(text);
    JEVONS_CHECK(again && ToJsonLine(*again) == text, "%s", text.c_str());
  }
  const auto log = MetricsLog::Open(folder.Write("metrics.jsonl", input.substr(1)), static_cast<uint8_t>(input[0]));
  return log.ok();
}

bool Hostfile(const std::string& input) {
  const auto hosts = ParseHostfile(input, "hostfile");
  if (!hosts.ok()) return false;
  for (const HostSlots& host : *hosts) JEVONS_CHECK(!host.name.empty() && host.slots > 0, "%s", input.c_str());
  return true;
}

bool HostReports(const std::string& input) {
  if (const auto facts = ParseHostFacts(input); facts.ok()) JEVONS_CHECK(ParseHostFacts(TextOf(*facts)).ok());
  const auto report = ParseHostReport(input);
  if (!report.ok()) return false;
  JEVONS_CHECK(ParseHostReport(TextOf(*report)).ok(), "%s", input.c_str());
  (void)CompareHosts(*report);
  (void)PairTable(*report);
  return true;
}

constexpr FuzzTarget kTargets[] = {{"message", Message},        {"heartbeat", Heartbeats}, {"agent_message", AgentMessage},
                                   {"journal", JournalLines},   {"metrics", Metrics},      {"hostfile", Hostfile},
                                   {"host_report", HostReports}};

}  // namespace

std::span<const FuzzTarget> JobTargets() { return kTargets; }

}  // namespace jevons
