// Heartbeat: what every rank is doing, for a supervisor outside of MPI.
//
// Ranks and supervisor map one file: a head, then a line for each rank of the world. A rank writes its own line with plain atomic stores
// at each step, phase, action and poll, which costs nothing that could be measured; it never waits for a reader. Where JEVONS_HEARTBEAT is
// not set all of this does nothing.
#ifndef JEVONS_PARALLEL_COMM_HEARTBEAT_H_
#define JEVONS_PARALLEL_COMM_HEARTBEAT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/strings/string_view.h"
#include "kernels/base/status.h"

namespace jevons {

inline constexpr size_t kHeartbeatPhases = 16;

enum class HeartbeatStage : int32_t { kStarting, kTraining, kEnding };

// Times are nanoseconds of CLOCK_MONOTONIC.
struct alignas(256) HeartbeatLine {
  std::atomic<int64_t> pid;            // 0: this rank has not come, or is on another host
  std::atomic<int64_t> process_start;  // in ticks since boot (proc(5), stat, 22): tells it from a later process of that number
  std::atomic<int64_t> changed;        // when step, phase or action last did
  std::atomic<int64_t> alive;          // the same, or when it last polled for another rank
  std::atomic<int64_t> step, steps;    // done, and of the run; -1 and 0 before they are known
  std::atomic<HeartbeatStage> stage;
  std::atomic<int32_t> phase;       // as the trainer counts them
  std::atomic<int32_t> exit_code;   // with which it is about to end; -1: it is not
  std::atomic<int32_t> at_fault;    // 1: its machine is, by the ranks' verdict; 0 else
  std::atomic<uint64_t> action[2];  // text, of the pipeline
  // The longest seconds, in each phase, without a sign of life, and without a change. Each change takes a thousandth off, so that one
  // stall is not remembered for ever. They outlive the process: the next one of this rank goes on with them.
  std::atomic<float> longest_silence[kHeartbeatPhases], longest_wait[kHeartbeatPhases];
};
static_assert(sizeof(HeartbeatLine) == 256 && std::atomic<int64_t>::is_always_lock_free &&
              std::atomic<float>::is_always_lock_free);

// "HOST:FILE,HOST:FILE": on each host of a job its file.
inline constexpr char kHeartbeatVariable[] = "JEVONS_HEARTBEAT";

// Of this process, as rank `rank` of `ranks`: maps what the variable names for this host; nothing on a host that it does not name, which a
// launcher may hand it to. UsageError where FILE is no heartbeat file, or has too few lines.
absl::Status OpenHeartbeat(int rank, int ranks);
void HeartbeatSteps(int64_t steps);
void HeartbeatStep(int64_t step);
void HeartbeatPhase(int phase);                  // < kHeartbeatPhases
bool HeartbeatIsOpen();                          // else nobody reads what an action is called
void HeartbeatAction(absl::string_view action);  // up to 16 characters of it
void HeartbeatPoll();                            // it lives, and waits for another rank
void HeartbeatEnding();                          // no step follows
void HeartbeatFault();                           // the ranks have found its machine at fault
void HeartbeatExit(int exit_code);

// The file, as its maker or a reader sees it.
class HeartbeatFile {
 public:
  // For up to `lines` ranks; lives as long as somebody has it open or mapped, and leaves nothing behind.
  static absl::StatusOr<HeartbeatFile> Create(int64_t lines);
  // As `path()` of its maker says, in another process. FailureError where there is none any more.
  static absl::StatusOr<HeartbeatFile> Open(const std::string& path, bool writable);
  HeartbeatFile(HeartbeatFile&& other) noexcept;
  HeartbeatFile& operator=(HeartbeatFile&&) = delete;
  ~HeartbeatFile();

  const std::string& path() const { return path_; }
  std::string place() const;  // "HOST:FILE"
  // Those of the ranks of the world; none before the first rank has come.
  std::span<HeartbeatLine> ranks() const;
  std::span<HeartbeatLine> lines() const;  // as many as there may be
  void SetRanks(int64_t ranks);
  // Before a job starts: no rank has come. What was longest stays.
  void Clear();

 private:
  HeartbeatFile(std::string path, int fd, HeartbeatLine* head, int64_t lines)
      : path_(std::move(path)), fd_(fd), head_(head), lines_(lines) {}

  std::string path_;
  int fd_;
  HeartbeatLine* head_;  // whose `pid` is the number of ranks
  int64_t lines_;
};

// What /proc says of a process: its state ('R', 'S', 'T', ...; 0 where it is gone) and when it started, in ticks since boot.
struct ProcessFacts {
  char state = 0;
  int64_t start = 0, parent = 0;
};
ProcessFacts FactsOf(int64_t pid);
std::string ActionOf(const HeartbeatLine& line);
int64_t MonotonicNanoseconds();

}  // namespace jevons

#endif  // JEVONS_PARALLEL_COMM_HEARTBEAT_H_
