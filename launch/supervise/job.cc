#include "launch/supervise/job.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <map>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "parallel/comm/heartbeat.h"

namespace jevons {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kTick = std::chrono::milliseconds(10);
constexpr double kUnkillable = 60;  // seconds after SIGKILL

double SecondsSince(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// In the child: becomes `argv`, or tells `failed` why not.
[[noreturn]] void Become(char** argv, std::vector<std::string>& variables, pid_t parent, int failed) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(1);
  signal(SIGPIPE, SIG_DFL);
  signal(SIGXFSZ, SIG_DFL);
  // A group in the background that reads from a terminal is stopped.
  if (const int none = open("/dev/null", O_RDONLY); none >= 0) dup2(none, STDIN_FILENO);
  for (std::string& variable : variables) putenv(variable.data());
  execvp(argv[0], argv);
  const int error = errno;
  if (write(failed, &error, sizeof error) < 0) _exit(126);
  _exit(127);
}

}  // namespace

Jobs::Jobs() { prctl(PR_SET_CHILD_SUBREAPER, 1); }

Jobs::~Jobs() {
  End(/*any_rank=*/false, kPatience).IgnoreError();
  const auto begin = Clock::now();
  while (Reap(), !ending_.empty() && SecondsSince(begin) < kPatience + 1) std::this_thread::sleep_for(kTick);
}

absl::Status Jobs::Start(std::vector<std::string> command, std::vector<std::string> variables) {
  std::vector<char*> argv;
  for (std::string& word : command) argv.push_back(word.data());
  argv.push_back(nullptr);
  int failed[2];
  if (pipe2(failed, O_CLOEXEC) != 0) return FailureError(absl::StrFormat("pipe: %s", std::strerror(errno)));
  const pid_t parent = getpid(), child = fork();
  if (child == 0) Become(argv.data(), variables, parent, failed[1]);
  const int fork_error = errno;
  close(failed[1]);
  int error = 0;
  const bool told = child > 0 && read(failed[0], &error, sizeof error) == sizeof error;
  close(failed[0]);
  if (child < 0) return FailureError(absl::StrFormat("%s: cannot start: %s", command[0], std::strerror(fork_error)));
  if (told) {
    waitpid(child, nullptr, 0);
    return UsageError(absl::StrFormat("%s: cannot start: %s", command[0], std::strerror(error)));
  }
  setpgid(child, child);
  launcher_ = child;
  exit_code_.reset();
  return absl::OkStatus();
}

void Jobs::Reap() {
  int status = 0;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
    ending_.erase(pid);
    if (pid != launcher_) continue;
    launcher_ = 0;
    exit_code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }
  for (const auto& [pid, since] : ending_)
    if (SecondsSince(since) > kPatience) kill(-pid, SIGKILL);
}

std::optional<int> Jobs::ExitCode() {
  Reap();
  return exit_code_;
}

void Jobs::Signal(int signal) {
  if (launcher_ > 0) kill(launcher_, signal);
}

std::set<pid_t> Jobs::Others() const {
  std::multimap<int64_t, pid_t> children;
  std::error_code gone;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", gone)) {
    pid_t pid = 0;
    if (!absl::SimpleAtoi(entry.path().filename().string(), &pid)) continue;
    if (const ProcessFacts facts = FactsOf(pid); facts.state != 0 && facts.state != 'Z') children.emplace(facts.parent, pid);
  }
  std::set<pid_t> others;
  std::vector<pid_t> parents = {getpid()};
  while (!parents.empty()) {
    const auto [begin, end] = children.equal_range(parents.back());
    parents.pop_back();
    for (auto child = begin; child != end; ++child) {
      if (spared_.contains(child->second)) continue;
      parents.push_back(child->second);
      if (child->second != launcher_ && !ending_.contains(child->second)) others.insert(child->second);
    }
  }
  return others;
}

absl::Status Jobs::End(bool any_rank, double patience) {
  // One whose ranks are gone ends by itself, and does not like to be asked meanwhile.
  if (launcher_ > 0 && !any_rank) kill(launcher_, SIGTERM);
  if (launcher_ > 0) ending_.emplace(std::exchange(launcher_, 0), Clock::now());
  for (const auto begin = Clock::now();;) {
    Reap();
    const std::set<pid_t> others = Others();
    if (others.empty()) return absl::OkStatus();
    // A launcher that is gone ends nobody any more.
    if (ending_.empty() || SecondsSince(begin) > patience)
      for (const pid_t pid : others) kill(pid, SIGKILL);
    if (SecondsSince(begin) > kPatience + kUnkillable)
      return FailureError(absl::StrFormat("process %s does not end: look at /proc/PID/stack of it", absl::StrJoin(others, ", ")));
    std::this_thread::sleep_for(kTick);
  }
}

}  // namespace jevons
