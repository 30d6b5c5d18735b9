// What a rank does, in order: pipeline schedules as data. They are generated (schedules.h), transformed
// (passes.h), checked (validate.h), timed (simulate.h) and executed from the same lists, and they print and
// parse as text:
//
//   0F3        stage 0, forward of micro-batch 3
//   2B0        stage 2, full backward of micro-batch 0 = input part + weight part
//   2I0 2W0    the same in two: the gradient of the input, later those of the weights
//   2R0        recomputes at stage 2 what the forward of micro-batch 0 did not keep
//   0F7&5B1    two at once: a forward overlapped with a backward (B or I)
//   2SF0 3RF0  stage 2 sends its output, the activations of micro-batch 0; stage 3 receives them
//   3SB0 2RB0  stage 3 sends the gradient of its input; stage 2 receives it
//   2G0        begins to reduce the weight gradients of stage 2 over the ranks that hold it; they are all made. It goes on beside what
//              follows, to the end of the step. 0: the first micro-batch that this rank takes through the stage
#ifndef JEVONS_PARALLEL_PIPELINE_ACTION_H_
#define JEVONS_PARALLEL_PIPELINE_ACTION_H_

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "kernels/base/status.h"

namespace jevons {

enum class TaskKind : uint8_t {
  kForward,         // F
  kBackward,        // B
  kBackwardInput,   // I
  kBackwardWeight,  // W
  kRecompute,       // R
  kReduce,          // G
  kSendForward,     // SF
  kRecvForward,     // RF
  kSendBackward,    // SB
  kRecvBackward,    // RB
};

absl::string_view Name(TaskKind kind);
// Sends and receives; everything else computes, or begins to reduce.
constexpr bool IsCommunication(TaskKind kind) { return kind >= TaskKind::kSendForward; }
// B or I: what the stage before waits for.
constexpr bool MakesInputGradient(TaskKind kind) { return kind == TaskKind::kBackward || kind == TaskKind::kBackwardInput; }

// F and its messages: what a forward-only schedule has.
constexpr bool BelongsToForward(TaskKind kind) {
  return kind == TaskKind::kForward || kind == TaskKind::kSendForward || kind == TaskKind::kRecvForward;
}

struct Task {
  TaskKind kind = TaskKind::kForward;
  int stage = 0;        // virtual stage: a contiguous part of the model
  int micro_batch = 0;  // index inside the block of this pipeline
  bool operator==(const Task&) const = default;
};

// One task, or a forward and a backward overlapped.
class Action {
 public:
  Action() = default;
  Action(TaskKind kind, int stage, int micro_batch) : tasks_{Task{kind, stage, micro_batch}} {}
  explicit Action(const Task& task) : tasks_{task} {}
  static Action Overlap(const Task& forward, const Task& backward);

  bool overlapped() const { return count_ == 2; }
  bool communicates() const { return IsCommunication(tasks_[0].kind); }
  const Task& first() const { return tasks_[0]; }
  std::span<const Task> tasks() const { return {tasks_.data(), static_cast<size_t>(count_)}; }
  bool operator==(const Action&) const = default;

 private:
  std::array<Task, 2> tasks_;
  int count_ = 1;
};

std::string ToString(const Task& task);      // "2F0"
std::string ToString(const Action& action);  // "2F0" or "2F0&5B1"
absl::StatusOr<Action> ParseAction(absl::string_view text);

// The lists of all ranks, and which rank runs what. Micro-batches take one of the routes in contiguous blocks
// of equal size: block b goes through rank routes[b][s] at stage s. One route, except where two ranks hold
// copies of a stage (DualPipe). Any rank may hold several stages.
struct Schedule {
  std::string name;
  int stages = 0;
  int micro_batches = 0;
  bool forward_only = false;                 // no backward: an evaluation
  std::vector<std::vector<int>> routes;      // [routes][stages] -> rank
  std::vector<std::vector<Action>> actions;  // [ranks], each in order

  int ranks() const { return static_cast<int>(actions.size()); }
  int RankOf(int stage, int micro_batch) const {
    return routes[static_cast<int64_t>(micro_batch) * static_cast<int64_t>(routes.size()) / micro_batches][stage];
  }
  std::vector<int> StagesOf(int rank) const;  // ascending, each once
  // The first micro-batch that `rank` takes through a stage that it holds.
  int FirstOf(int stage, int rank) const;
  int64_t action_count() const;
  bool communicates() const;  // holds sends or receives
  bool reduces() const;
  bool has_pairs(int rank) const;
  bool operator==(const Schedule&) const = default;
};

// The text form: a line of counts, a line per route, a line per rank; '#' begins a comment.
//   schedule dualpipe stages 2 micro_batches 4
//   route 0 1
//   route 1 0
//   rank 0F0 1F2 ...
//   rank 1F0 0F2 ...
// A forward-only one says so: "schedule 1f1b stages 2 micro_batches 4 forward_only".
// ParseSchedule checks the form alone; Validate checks the meaning.
std::string ToString(const Schedule& schedule);
absl::StatusOr<Schedule> ParseSchedule(absl::string_view text);

}  // namespace jevons

#endif  // JEVONS_PARALLEL_PIPELINE_ACTION_H_
