#include "launch/supervise/remote_host.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace jevons {
namespace {

using Json = nlohmann::json;

constexpr double kNoAnswer = 10;  // seconds of silence after which a question is given up

}  // namespace

absl::StatusOr<std::unique_ptr<RemoteHost>> RemoteHost::Start(std::vector<std::string> command) {
  std::vector<char*> argv;
  for (std::string& word : command) argv.push_back(word.data());
  argv.push_back(nullptr);
  int to[2], from[2];
  if (pipe2(to, O_CLOEXEC) != 0) return FailureError(absl::StrFormat("pipe: %s", std::strerror(errno)));
  if (pipe2(from, O_CLOEXEC) != 0) {
    close(to[0]);
    close(to[1]);
    return FailureError(absl::StrFormat("pipe: %s", std::strerror(errno)));
  }
  const pid_t shell = fork();
  if (shell == 0) {
    setpgid(0, 0);  // what a terminal sends is for the supervisor
    dup2(to[0], STDIN_FILENO);
    dup2(from[1], STDOUT_FILENO);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  close(to[0]);
  close(from[1]);
  auto host = std::unique_ptr<RemoteHost>(new RemoteHost(shell, to[1], from[0]));
  const auto begin = Clock::now();
  while (host->name_.empty() && !host->reader_.ended() && Clock::now() - begin < std::chrono::duration<double>(kReach))
    host->Hear(std::chrono::milliseconds(100));
  if (!host->name_.empty()) return host;
  return FailureError(absl::StrFormat("`%s` starts no agent: it must work without a question", absl::StrJoin(command, " ")));
}

RemoteHost::RemoteHost(pid_t shell, int in, int out) : shell_(shell), in_(in), out_(out), reader_(out) {
  beat_ = std::jthread([this](const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any ended;
    for (std::unique_lock lock(mutex); !stop.stop_requested();) {
      Tell(Json::object());
      ended.wait_for(lock, stop, kSupervisorBeat, [] { return false; });
    }
  });
}

RemoteHost::~RemoteHost() {
  beat_ = {};
  close(in_);
  close(out_);
}

void RemoteHost::Hear(std::chrono::milliseconds wait) {
  for (Json& message : reader_.Read(wait)) {
    try {
      if (message.contains("ranks")) {
        ranks_.clear();
        for (const Json& rank : message["ranks"]) ranks_.push_back(RankStateOf(rank));
      } else if (message.contains("reply")) {
        reply_ = std::move(message);
      } else if (message.contains("host")) {
        message["host"].get_to(name_);
        message["heartbeats"].get_to(heartbeats_);
      }
      heard_ = Clock::now();
    } catch (const Json::exception&) {
      // Of another program: it stays silent, and is given up.
    }
  }
}

bool RemoteHost::Tell(const Json& message) {
  const std::lock_guard lock(writing_);
  return WriteLine(in_, message);
}

absl::StatusOr<Json> RemoteHost::Ask(Json question) {
  question["ask"] = ++asked_;
  heard_ = Clock::now();
  for (bool told = Tell(question); told && !reader_.ended() && silent() < kNoAnswer;) {
    Hear(std::chrono::milliseconds(100));
    if (reply_.value("reply", int64_t{0}) != asked_) continue;
    if (const std::string error = reply_.value("error", ""); !error.empty()) return FailureError(name_ + ": " + error);
    return reply_;
  }
  return FailureError(name_ + " does not answer");
}

double RemoteHost::silent() const {
  return reader_.ended() ? std::numeric_limits<double>::infinity() : std::chrono::duration<double>(Clock::now() - heard_).count();
}

std::vector<RankState> RemoteHost::Ranks() {
  Hear({});
  return ranks_;
}

std::string RemoteHost::WhereItIs(int64_t pid) {
  const absl::StatusOr<Json> reply = Ask({{"do", "where"}, {"pid", pid}});
  return reply.ok() ? reply->value("text", "") : std::string(reply.status().message());
}

void RemoteHost::KillRanks() { Ask({{"do", "kill"}}).status().IgnoreError(); }

void RemoteHost::Clear() {
  Ask({{"do", "clear"}}).status().IgnoreError();
  ranks_.clear();
}

std::vector<MemoryPart> RemoteHost::Parts() {
  std::vector<MemoryPart> parts;
  const absl::StatusOr<Json> reply = Ask({{"do", "parts"}});
  if (reply.ok())
    for (const Json& part : reply->at("parts")) parts.push_back(MemoryPartOf(part));
  return parts;
}

absl::Status RemoteHost::CopyPart(const MemoryPart& part, const std::string& partial) {
  return Ask({{"do", "copy"}, {"part", JsonOf(part)}, {"partial", partial}}).status();
}

void RemoteHost::ForgetParts() { Ask({{"do", "forget"}}).status().IgnoreError(); }

}  // namespace jevons
