#include "launch/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/status.h"

extern char** environ;

namespace jevons {
namespace {

using Clock = std::chrono::steady_clock;

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& s : strings) pointers.push_back(s.data());
  pointers.push_back(nullptr);
  return pointers;
}

// The environment of this process, with the entries of `set` in front of their namesakes' places.
std::vector<std::string> Environment(std::span<const std::string> set) {
  std::vector<std::string> result(set.begin(), set.end());
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string name(*entry, std::strcspn(*entry, "="));
    bool replaced = false;
    for (const std::string& s : set) replaced |= s.substr(0, s.find('=')) == name;
    if (!replaced) result.emplace_back(*entry);
  }
  return result;
}

// Appends what can be read now; closes `fd` and sets it to -1 at the end of the stream.
void Drain(int& fd, std::string& text) {
  char buffer[4096];
  const ssize_t n = read(fd, buffer, sizeof buffer);
  if (n > 0) {
    text.append(buffer, static_cast<size_t>(n));
  } else if (n == 0 || errno != EINTR) {
    close(fd);
    fd = -1;
  }
}

int ExitCodeOfWaitStatus(int status) { return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status); }

}  // namespace

absl::StatusOr<Process> Process::Start(std::vector<std::string> command, std::span<const std::string> environment) {
  int out[2], err[2];
  if (pipe2(out, O_CLOEXEC) != 0) return FailureError(absl::StrFormat("pipe: %s", std::strerror(errno)));
  if (pipe2(err, O_CLOEXEC) != 0) {
    close(out[0]);
    close(out[1]);
    return FailureError(absl::StrFormat("pipe: %s", std::strerror(errno)));
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  posix_spawn_file_actions_adddup2(&actions, err[1], 2);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t defaults;
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
  std::vector<std::string> variables = Environment(environment);
  pid_t pid = -1;
  const int error =
      posix_spawnp(&pid, command[0].c_str(), &actions, &attributes, Pointers(command).data(), Pointers(variables).data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  close(out[1]);
  close(err[1]);
  if (error != 0) {
    close(out[0]);
    close(err[0]);
    return FailureError(absl::StrFormat("%s: cannot start: %s", command[0], std::strerror(error)));
  }
  return Process(pid, out[0], err[0]);
}

Process::Process(Process&& other)
    : pid_(std::exchange(other.pid_, -1)), out_(std::exchange(other.out_, -1)), err_(std::exchange(other.err_, -1)) {}

Process::~Process() {
  if (pid_ > 0) {
    kill(-pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  if (out_ >= 0) close(out_);
  if (err_ >= 0) close(err_);
}

ProcessResult Process::Wait(double timeout_seconds) {
  ProcessResult result;
  const auto deadline = Clock::now() + std::chrono::duration<double>(timeout_seconds);
  int status = 0;
  while (pid_ > 0) {
    pollfd streams[2] = {{out_, POLLIN, 0}, {err_, POLLIN, 0}};
    poll(streams, 2, 20);
    if (streams[0].revents != 0) Drain(out_, result.out);
    if (streams[1].revents != 0) Drain(err_, result.err);
    if (!result.timed_out && Clock::now() > deadline) {
      result.timed_out = true;
      kill(-pid_, SIGKILL);
    }
    const bool closed = out_ < 0 && err_ < 0;
    if ((closed || result.timed_out) && waitpid(pid_, &status, WNOHANG) == pid_) pid_ = -1;
  }
  result.exit_code = ExitCodeOfWaitStatus(status);
  return result;
}

ProcessResult RunProcess(std::vector<std::string> command, double timeout_seconds) {
  absl::StatusOr<Process> process = Process::Start(std::move(command));
  if (!process.ok()) {
    ProcessResult missing;
    missing.exit_code = 127;
    missing.err = std::string(process.status().message());
    return missing;
  }
  return process->Wait(timeout_seconds);
}

}  // namespace jevons
