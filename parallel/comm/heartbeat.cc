#include "parallel/comm/heartbeat.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "kernels/base/check.h"
#include "kernels/base/machine.h"

namespace jevons {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr char kName[] = "jevons-heartbeat";
constexpr float kFade = 1 - 1e-3F;

HeartbeatLine* g_line = nullptr;  // of this process, mapped until its end

void KeepLonger(std::atomic<float>& longest, int64_t nanoseconds) {
  const float seconds = static_cast<float>(nanoseconds) * 1e-9F;
  if (seconds > longest.load(kRelaxed)) longest.store(seconds, kRelaxed);
}

// Something changes now. What has just ended counts for the phase that it was in.
void Beat() {
  const int64_t now = MonotonicNanoseconds();
  if (g_line->stage.load(kRelaxed) == HeartbeatStage::kTraining) {
    const auto phase = static_cast<size_t>(g_line->phase.load(kRelaxed));
    for (auto* longest : {&g_line->longest_silence[phase], &g_line->longest_wait[phase]})
      longest->store(longest->load(kRelaxed) * kFade, kRelaxed);
    KeepLonger(g_line->longest_silence[phase], now - g_line->alive.load(kRelaxed));
    KeepLonger(g_line->longest_wait[phase], now - g_line->changed.load(kRelaxed));
  }
  g_line->alive.store(now, kRelaxed);
  g_line->changed.store(now, kRelaxed);
}

absl::StatusOr<std::pair<HeartbeatLine*, int64_t>> Map(int fd, const std::string& path, bool writable) {
  struct stat info {};
  if (fstat(fd, &info) != 0 || info.st_size < 2 * static_cast<int64_t>(sizeof(HeartbeatLine)))
    return FailureError(path + ": no heartbeat file");
  void* memory =
      mmap(nullptr, static_cast<size_t>(info.st_size), writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return FailureError(absl::StrFormat("%s: cannot be mapped: %s", path, std::strerror(errno)));
  return std::pair(static_cast<HeartbeatLine*>(memory), info.st_size / static_cast<int64_t>(sizeof(HeartbeatLine)) - 1);
}

}  // namespace

int64_t MonotonicNanoseconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

ProcessFacts FactsOf(int64_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string text;
  std::getline(file, text);
  const size_t name_end = text.rfind(')');  // a name may hold anything
  if (name_end == std::string::npos) return {};
  const std::vector<std::string> fields = absl::StrSplit(text.substr(name_end + 1), ' ', absl::SkipEmpty());
  ProcessFacts facts;
  if (fields.size() < 20 || !absl::SimpleAtoi(fields[1], &facts.parent) || !absl::SimpleAtoi(fields[19], &facts.start)) return {};
  facts.state = fields[0][0];
  return facts;
}

absl::Status OpenHeartbeat(int rank, int ranks) {
  const char* const value = std::getenv(kHeartbeatVariable);
  if (value == nullptr || *value == '\0') return absl::OkStatus();
  std::pair<std::string, std::string> place;
  for (const absl::string_view one : absl::StrSplit(value, ',')) {
    place = absl::StrSplit(one, absl::MaxSplits(':', 1));
    if (place.second.empty() || place.first == HostName()) break;
  }
  if (!place.second.empty() && place.first != HostName()) return absl::OkStatus();
  absl::StatusOr<HeartbeatFile> file = HeartbeatFile::Open(place.second, /*writable=*/true);
  if (!file.ok())
    return UsageError(absl::StrFormat("%s=%s: %s; only supervise sets it: unset it", kHeartbeatVariable, value,
                                      std::string(file.status().message())));
  if (static_cast<size_t>(ranks) > file->lines().size())
    return UsageError(
        absl::StrFormat("%s=%s: has lines for %d ranks, of %d", kHeartbeatVariable, value, file->lines().size(), ranks));
  static HeartbeatFile mapped = *std::move(file);
  mapped.SetRanks(ranks);
  g_line = &mapped.lines()[static_cast<size_t>(rank)];
  g_line->step.store(-1, kRelaxed);
  g_line->steps.store(0, kRelaxed);
  g_line->stage.store(HeartbeatStage::kStarting, kRelaxed);
  g_line->phase.store(0, kRelaxed);
  g_line->exit_code.store(-1, kRelaxed);
  g_line->at_fault.store(0, kRelaxed);
  HeartbeatAction("");
  g_line->process_start.store(FactsOf(getpid()).start, kRelaxed);
  g_line->pid.store(getpid(), std::memory_order_release);
  return absl::OkStatus();
}

bool HeartbeatIsOpen() { return g_line != nullptr; }

void HeartbeatSteps(int64_t steps) {
  if (g_line != nullptr) g_line->steps.store(steps, kRelaxed);
}

void HeartbeatStep(int64_t step) {
  if (g_line == nullptr) return;
  Beat();
  g_line->step.store(step, kRelaxed);
  g_line->stage.store(HeartbeatStage::kTraining, kRelaxed);
}

void HeartbeatPhase(int phase) {
  if (g_line == nullptr) return;
  Beat();
  g_line->phase.store(phase, kRelaxed);
}

void HeartbeatAction(absl::string_view action) {
  if (g_line == nullptr) return;
  Beat();
  char text[sizeof g_line->action] = {};
  std::copy_n(action.data(), std::min(action.size(), sizeof text), text);
  for (size_t i = 0; i < 2; ++i) {
    uint64_t word = 0;
    std::memcpy(&word, text + i * sizeof word, sizeof word);
    g_line->action[i].store(word, kRelaxed);
  }
}

void HeartbeatPoll() {
  if (g_line == nullptr) return;
  const int64_t now = MonotonicNanoseconds();
  if (g_line->stage.load(kRelaxed) == HeartbeatStage::kTraining)
    KeepLonger(g_line->longest_silence[static_cast<size_t>(g_line->phase.load(kRelaxed))], now - g_line->alive.load(kRelaxed));
  g_line->alive.store(now, kRelaxed);
}

void HeartbeatEnding() {
  if (g_line == nullptr) return;
  Beat();
  g_line->stage.store(HeartbeatStage::kEnding, kRelaxed);
}

void HeartbeatFault() {
  if (g_line != nullptr) g_line->at_fault.store(1, kRelaxed);
}

void HeartbeatExit(int exit_code) {
  if (g_line != nullptr) g_line->exit_code.store(exit_code, kRelaxed);
  HeartbeatEnding();
}

absl::StatusOr<HeartbeatFile> HeartbeatFile::Create(int64_t lines) {
  const int fd = memfd_create(kName, MFD_CLOEXEC);
  if (fd < 0) return FailureError(absl::StrFormat("%s: cannot be made: %s", kName, std::strerror(errno)));
  const std::string path = absl::StrFormat("/proc/%d/fd/%d", getpid(), fd);
  HeartbeatFile file(path, fd, nullptr, 0);
  if (ftruncate(fd, (lines + 1) * static_cast<int64_t>(sizeof(HeartbeatLine))) != 0)
    return FailureError(absl::StrFormat("%s: cannot get memory: %s", path, std::strerror(errno)));
  JEVONS_ASSIGN_OR_RETURN(const auto mapped, Map(fd, path, /*writable=*/true));
  std::tie(file.head_, file.lines_) = mapped;
  return file;
}

absl::StatusOr<HeartbeatFile> HeartbeatFile::Open(const std::string& path, bool writable) {
  // Descriptors are numbered anew in every process: another file may have the name by now.
  char target[64] = {};
  if (readlink(path.c_str(), target, sizeof target - 1) < 0 || !absl::StrContains(target, kName))
    return FailureError("no heartbeat file");
  const int fd = open(path.c_str(), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
  if (fd < 0) return FailureError(absl::StrFormat("cannot be opened: %s", std::strerror(errno)));
  HeartbeatFile file(path, fd, nullptr, 0);
  JEVONS_ASSIGN_OR_RETURN(const auto mapped, Map(fd, path, writable));
  std::tie(file.head_, file.lines_) = mapped;
  return file;
}

HeartbeatFile::HeartbeatFile(HeartbeatFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      head_(std::exchange(other.head_, nullptr)),
      lines_(other.lines_) {}

HeartbeatFile::~HeartbeatFile() {
  if (head_ != nullptr) munmap(head_, static_cast<size_t>(lines_ + 1) * sizeof(HeartbeatLine));
  if (fd_ >= 0) close(fd_);
}

std::string HeartbeatFile::place() const { return absl::StrCat(HostName(), ":", path_); }

std::span<HeartbeatLine> HeartbeatFile::lines() const { return {head_ + 1, static_cast<size_t>(lines_)}; }

// Lines beyond the ranks are not read: they would take memory by that.
std::span<HeartbeatLine> HeartbeatFile::ranks() const {
  return lines().first(static_cast<size_t>(std::clamp<int64_t>(head_->pid.load(kRelaxed), 0, lines_)));
}

void HeartbeatFile::SetRanks(int64_t ranks) { head_->pid.store(ranks, kRelaxed); }

void HeartbeatFile::Clear() {
  for (HeartbeatLine& line : ranks()) line.pid.store(0, kRelaxed);
  SetRanks(0);
}

std::string ActionOf(const HeartbeatLine& line) {
  char text[sizeof line.action + 1] = {};
  for (size_t i = 0; i < 2; ++i) {
    const uint64_t word = line.action[i].load(kRelaxed);
    std::memcpy(text + i * sizeof word, &word, sizeof word);
  }
  return text;
}

}  // namespace jevons
