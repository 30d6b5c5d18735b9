#include "launch/supervise/roster.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_join.h"
#include "kernels/base/log.h"

namespace jevons {

Roster::Roster(std::shared_ptr<Host> here) {
  Member& member = members_.emplace_back(Member{.slots = {.name = here->name(), .slots = 1}});
  member.host = std::move(here);
}

Roster::Roster(std::vector<HostSlots> hosts, Reach reach) : reach_(std::move(reach)) {
  for (HostSlots& slots : hosts) members_.push_back({.slots = std::move(slots)});
}

template <typename Function>
void Roster::ForEach(Function function) {
  std::vector<std::jthread> threads;
  for (size_t i = 0; i < members_.size(); ++i)
    if (Host* const host = members_[i].host.get(); host != nullptr)
      threads.emplace_back([function, host, i] { function(*host, static_cast<int>(i)); });
}

void Roster::ReachAll(const std::vector<Member*>& members, double now) {
  std::vector<absl::Status> failures(members.size());
  {
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < members.size(); ++i) {
      threads.emplace_back([this, member = members[i], failure = &failures[i]] {
        absl::StatusOr<std::shared_ptr<Host>> host = reach_(member->slots.name);
        *failure = host.status();
        if (host.ok()) member->host = *std::move(host);
      });
    }
  }
  for (size_t i = 0; i < members.size(); ++i) {
    if (failures[i].ok()) continue;
    members[i]->lost = now;
    LogWarning(std::string(failures[i].message()));
  }
}

absl::Status Roster::Gather(double now) {
  const auto absent = [&](auto wanted) {
    std::vector<Member*> members;
    for (Member& member : members_)
      if (member.host == nullptr && wanted(member)) members.push_back(&member);
    return members;
  };
  // One that fails again and again takes no part, though it could be reached.
  for (Member& member : members_)
    if (several() && quarantine_.Holds(member.slots.name, now)) member.host.reset();
  const auto due = [&](const Member& member) {
    return !quarantine_.Holds(member.slots.name, now) && (!member.lost || now - *member.lost > kRetry);
  };
  ReachAll(absent(due), now);
  if (slots().empty()) ReachAll(absent([](const Member&) { return true; }), now);
  if (!slots().empty()) return absl::OkStatus();
  return FailureError("no host of the run can be reached");
}

std::vector<HostSlots> Roster::slots() const {
  std::vector<HostSlots> slots;
  for (const Member& member : members_)
    if (member.host != nullptr) slots.push_back(member.slots);
  return slots;
}

std::vector<std::string> Roster::names() const {
  std::vector<std::string> names;
  for (const Member& member : members_) names.push_back(member.slots.name);
  return names;
}

std::string Roster::heartbeats() const {
  std::vector<std::string> places;
  for (const Member& member : members_)
    if (member.host != nullptr) places.push_back(member.host->heartbeats());
  return absl::StrJoin(places, ",");
}

std::set<pid_t> Roster::shells() const {
  std::set<pid_t> shells;
  for (const Member& member : members_)
    if (member.host != nullptr && member.host->shell() > 0) shells.insert(member.host->shell());
  return shells;
}

std::vector<RankState> Roster::Ranks() {
  std::vector<RankState> all;
  for (size_t i = 0; i < members_.size(); ++i) {
    if (members_[i].host == nullptr) continue;
    for (RankState& state : members_[i].host->Ranks()) {
      state.host = static_cast<int>(i);
      all.push_back(std::move(state));
    }
  }
  std::sort(all.begin(), all.end(), [](const RankState& a, const RankState& b) { return a.rank < b.rank; });
  return all;
}

std::optional<int> Roster::Lost() {
  for (size_t i = 0; i < members_.size(); ++i)
    if (members_[i].host != nullptr && members_[i].host->silent() > kSilence) return static_cast<int>(i);
  return std::nullopt;
}

std::string Roster::WhereItIs(const RankState& state) {
  return members_[static_cast<size_t>(state.host)].host->WhereItIs(state.pid);
}

void Roster::KillRanks() {
  ForEach([](Host& host, int) { host.KillRanks(); });
}

void Roster::Clear() {
  ForEach([](Host& host, int) { host.Clear(); });
}

std::vector<MemoryPart> Roster::Parts() {
  std::vector<std::vector<MemoryPart>> parts(members_.size());
  ForEach([&parts](Host& host, int i) { parts[static_cast<size_t>(i)] = host.Parts(); });
  std::vector<MemoryPart> all;
  for (size_t i = 0; i < parts.size(); ++i) {
    for (MemoryPart& part : parts[i]) {
      part.host = static_cast<int>(i);
      all.push_back(std::move(part));
    }
  }
  return all;
}

absl::Status Roster::CopyParts(const std::vector<MemoryPart>& parts, const std::string& partial) {
  std::vector<absl::Status> statuses(members_.size());
  ForEach([&](Host& host, int i) {
    for (const MemoryPart& part : parts)
      if (part.host == i) statuses[static_cast<size_t>(i)].Update(host.CopyPart(part, partial));
  });
  absl::Status first;
  for (const absl::Status& status : statuses) first.Update(status);
  return first;
}

void Roster::ForgetParts() {
  ForEach([](Host& host, int) { host.ForgetParts(); });
}

bool Roster::Failed(int host, double now) {
  quarantine_.Failed(NameOf(host), now);
  const bool others = std::any_of(members_.begin(), members_.end(), [&](const Member& member) {
    return member.host != nullptr && &member != &members_[static_cast<size_t>(host)];
  });
  return others && quarantine_.Holds(NameOf(host), now);
}

void Roster::Drop(int host, double now) {
  Member& member = members_[static_cast<size_t>(host)];
  member.host.reset();
  member.lost = now;
}

}  // namespace jevons
