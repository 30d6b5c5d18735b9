#include "launch/supervise/host.h"

#include <sys/types.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "kernels/base/machine.h"

namespace jevons {
namespace {

constexpr size_t kLongestName = 200;  // of a file there may be 255 characters

}  // namespace

std::string MemoryFolderOf(const std::string& run) {
  std::string name = absl::StrReplaceAll(std::filesystem::absolute(run).lexically_normal().string(), {{"/", "+"}});
  if (name.back() == '+') name.pop_back();
  if (name.size() > kLongestName) name.erase(0, name.size() - kLongestName);
  return "/dev/shm/jevons" + name;
}

ThisHost::ThisHost(HeartbeatFile heartbeat, std::string memory_folder)
    : name_(HostName()),
      heartbeats_(heartbeat.place()),
      heartbeat_(std::move(heartbeat)),
      memory_folder_(std::move(memory_folder)) {}

absl::StatusOr<std::unique_ptr<ThisHost>> ThisHost::Create(const std::string& memory_folder) {
  JEVONS_ASSIGN_OR_RETURN(HeartbeatFile heartbeat, HeartbeatFile::Create(kMostRanks));
  return std::unique_ptr<ThisHost>(new ThisHost(std::move(heartbeat), memory_folder));
}

std::string ThisHost::WhereItIs(int64_t pid) {
  const auto read = [&](const char* name) {
    std::ifstream file(absl::StrCat("/proc/", pid, "/", name));
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  std::string text;
  const std::string status = read("status");
  if (const size_t state = status.find("State:"); state != std::string::npos)
    text = absl::StrCat("state ", absl::StripAsciiWhitespace(status.substr(state + 6, status.find('\n', state) - state - 6)));
  if (const std::string wchan = read("wchan"); !wchan.empty() && wchan != "0") absl::StrAppend(&text, ", waits in ", wchan);
  if (const std::string stack = read("stack"); !stack.empty())
    absl::StrAppend(&text, ", stack ", absl::StrReplaceAll(absl::StripAsciiWhitespace(stack), {{"[<0>] ", ""}, {"\n", " < "}}));
  return text;
}

void ThisHost::KillRanks() {
  for (const RankState& state : RankStates(heartbeat_))
    if (state.lives) kill(static_cast<pid_t>(state.pid), SIGKILL);
}

std::vector<MemoryPart> ThisHost::Parts() { return ListMemoryParts(PosixFileSystem(), memory_folder_); }

absl::Status ThisHost::CopyPart(const MemoryPart& part, const std::string& partial) {
  return CopyToDisk(PosixFileSystem(), part, partial);
}

void ThisHost::ForgetParts() {
  std::error_code ignored;
  std::filesystem::remove_all(memory_folder_, ignored);
}

}  // namespace jevons
