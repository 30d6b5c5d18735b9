#include "parallel/pipeline/validate.h"

#include <algorithm>
#include <array>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "parallel/pipeline/render.h"
#include "parallel/pipeline/walk.h"

namespace jevons {
namespace {

using Kind = TaskKind;
constexpr int kKinds = 10;
constexpr int kAbsent = -1;

absl::Status CheckShape(const Schedule& schedule) {
  const auto& [name, stages, micro_batches, forward_only, routes, actions] = schedule;
  if (stages < 1 || micro_batches < 1 || actions.empty()) {
    return UsageError(absl::StrFormat("schedule '%s' has %d stages, %d micro-batches, %d ranks: at least 1 of each", name, stages,
                                      micro_batches, actions.size()));
  }
  if (routes.empty() || micro_batches % static_cast<int64_t>(routes.size()) != 0) {
    return UsageError(absl::StrFormat("schedule '%s' has %d routes for %d micro-batches: at least 1, dividing them", name,
                                      routes.size(), micro_batches));
  }
  for (const auto& route : routes) {
    const bool in_range = std::all_of(route.begin(), route.end(), [&](int rank) { return rank >= 0 && rank < schedule.ranks(); });
    if (static_cast<int64_t>(route.size()) != stages || !in_range) {
      return UsageError(absl::StrFormat("schedule '%s': a route names, for each of the %d stages, a rank below %d", name, stages,
                                        schedule.ranks()));
    }
  }
  // Before the tables are allocated: they are no larger than the lists.
  if (static_cast<int64_t>(stages) * micro_batches > schedule.action_count()) {
    return UsageError(absl::StrFormat("schedule '%s' lists %d actions: %d stages x %d micro-batches need more", name,
                                      schedule.action_count(), stages, micro_batches));
  }
  return absl::OkStatus();
}

// Reads the lists once, rank by rank, and keeps where each task was seen.
class Checker {
 public:
  explicit Checker(const Schedule& schedule)
      : schedule_(schedule), communicates_(schedule.communicates()), reduces_(schedule.reduces()) {
    const size_t slots = static_cast<size_t>(schedule.stages) * schedule.micro_batches;
    for (int kind = 0; kind < kKinds; ++kind) {
      if (communicates_ || !IsCommunication(static_cast<Kind>(kind))) seen_[kind].assign(slots, kAbsent);
    }
  }

  absl::Status Run() {
    for (at_.rank = 0; at_.rank < schedule_.ranks(); ++at_.rank) {
      const auto& list = schedule_.actions[at_.rank];
      for (at_.index = 0; at_.index < static_cast<int>(list.size()); ++at_.index) {
        JEVONS_RETURN_IF_ERROR(CheckAction(list[at_.index]));
      }
    }
    for (int micro_batch = 0; micro_batch < schedule_.micro_batches; ++micro_batch) {
      for (int stage = 0; stage < schedule_.stages; ++stage) JEVONS_RETURN_IF_ERROR(CheckPresent(stage, micro_batch));
    }
    return absl::OkStatus();
  }

 private:
  int& Seen(Kind kind, int stage, int micro_batch) {
    return seen_[static_cast<size_t>(kind)][static_cast<size_t>(stage) * schedule_.micro_batches + micro_batch];
  }
  // Seen earlier on this rank; the other half of an overlapped pair is not earlier.
  bool Before(Kind kind, const Task& task) {
    const int index = Seen(kind, task.stage, task.micro_batch);
    return index != kAbsent && index < at_.index;
  }
  bool Has(Kind kind, const Task& task) { return Seen(kind, task.stage, task.micro_batch) != kAbsent; }
  bool HasBackward(const Task& task) { return Has(Kind::kBackward, task) || Has(Kind::kBackwardInput, task); }

  // "rank 2 runs 2B0 <what>", and the grid.
  absl::Status Wrong(const Task& task, const std::string& what) const {
    return UsageError(absl::StrFormat("rank %d runs %s %s\n%s", at_.rank, ToString(task), what,
                                      RenderGrid(schedule_, {{at_.rank, at_.index}})));
  }

  absl::Status CheckAction(const Action& action) {
    if (action.overlapped() && (action.tasks()[0].kind != Kind::kForward || !MakesInputGradient(action.tasks()[1].kind))) {
      return Wrong(action.first(), "overlapped with what is no backward: a pair is F and B, or F and I");
    }
    for (const Task& task : action.tasks()) {
      if (schedule_.forward_only && !BelongsToForward(task.kind)) {
        return Wrong(task, "in a forward-only schedule: F, SF and RF alone");
      }
      JEVONS_RETURN_IF_ERROR(CheckPlace(task));
      JEVONS_RETURN_IF_ERROR(IsCommunication(task.kind) ? CheckCommunication(task) : CheckOrder(task));
      JEVONS_RETURN_IF_ERROR(CheckReduction(task));
      Seen(task.kind, task.stage, task.micro_batch) = at_.index;
    }
    return absl::OkStatus();
  }

  absl::Status CheckPlace(const Task& task) {
    const auto [kind, stage, micro_batch] = task;
    if (stage < 0 || stage >= schedule_.stages) {
      return Wrong(task, absl::StrFormat("of stage %d: there are %d stages", stage, schedule_.stages));
    }
    if (micro_batch < 0 || micro_batch >= schedule_.micro_batches) {
      return Wrong(task, absl::StrFormat("of micro-batch %d: there are %d", micro_batch, schedule_.micro_batches));
    }
    const int rank = schedule_.RankOf(stage, micro_batch);
    if (rank != at_.rank) return Wrong(task, absl::StrFormat("which belongs on rank %d", rank));
    if (Has(kind, task)) {
      return Wrong(task, absl::StrFormat("twice: already at place %d", Seen(kind, stage, micro_batch)));
    }
    return absl::OkStatus();
  }

  absl::Status CheckOrder(const Task& task) {
    const auto wrong_unless = [&](bool good, Kind needed) {
      if (good) return absl::OkStatus();
      return Wrong(task,
                   absl::StrCat("before ", ToString(Task{needed, task.stage, task.micro_batch}), ", whose result it needs"));
    };
    switch (task.kind) {
      case Kind::kBackward:
      case Kind::kBackwardInput:
        if (HasBackward(task)) return Wrong(task, "though a backward of it has run: B, or I and W");
        return wrong_unless(Before(Kind::kForward, task), Kind::kForward);
      case Kind::kBackwardWeight:
        if (Has(Kind::kBackward, task)) return Wrong(task, "though its full backward B has run");
        return wrong_unless(Before(Kind::kBackwardInput, task), Kind::kBackwardInput);
      case Kind::kRecompute:
        if (HasBackward(task)) return Wrong(task, "after the backward that would use it");
        return wrong_unless(Before(Kind::kForward, task), Kind::kForward);
      default: return absl::OkStatus();
    }
  }

  // Stages are reduced from the last to the first of a rank, each when nothing is added to it any more.
  absl::Status CheckReduction(const Task& task) {
    if (at_.index == 0) lowest_reduced_ = schedule_.stages;
    const bool adds = task.kind == Kind::kBackward || task.kind == Kind::kBackwardWeight;
    if (adds && task.stage >= lowest_reduced_)
      return Wrong(task, absl::StrFormat("after the gradients of stage %d were reduced", lowest_reduced_));
    if (task.kind != Kind::kReduce) return absl::OkStatus();
    if (const int first = schedule_.FirstOf(task.stage, at_.rank); task.micro_batch != first)
      return Wrong(task, absl::StrCat("where it is called ", ToString(Task{task.kind, task.stage, first})));
    if (task.stage >= lowest_reduced_)
      return Wrong(task, absl::StrFormat("after stage %d: all ranks reduce the higher stage first", lowest_reduced_));
    lowest_reduced_ = task.stage;
    return absl::OkStatus();
  }

  absl::Status CheckCommunication(const Task& task) {
    const Task peer = PeerOf(task);
    if (peer.stage < 0 || peer.stage >= schedule_.stages) return Wrong(task, "past the end of the pipeline");
    if (schedule_.RankOf(peer.stage, peer.micro_batch) == at_.rank) {
      return Wrong(task, "to itself: both stages are on this rank");
    }
    const bool forward = task.kind == Kind::kSendForward || task.kind == Kind::kRecvForward;
    const bool made = forward ? Has(Kind::kForward, task) : HasBackward(task);
    const bool send = task.kind == Kind::kSendForward || task.kind == Kind::kSendBackward;
    if (send && !made) return Wrong(task, "before there is anything to send");
    if (!send && made) return Wrong(task, "after the task that reads it");
    return absl::OkStatus();
  }

  absl::Status Missing(const Task& task) const {
    const int rank = schedule_.RankOf(task.stage, task.micro_batch);
    const Position end = {rank, static_cast<int>(schedule_.actions[rank].size())};
    return UsageError(absl::StrFormat("rank %d never runs %s\n%s", rank, ToString(task), RenderGrid(schedule_, {end})));
  }

  absl::Status CheckPresent(int stage, int micro_batch) {
    const auto task = [&](Kind kind) { return Task{kind, stage, micro_batch}; };
    const bool backward = !schedule_.forward_only;
    if (!Has(Kind::kForward, task(Kind::kForward))) return Missing(task(Kind::kForward));
    if (backward && !HasBackward(task(Kind::kBackward))) return Missing(task(Kind::kBackward));
    if (Has(Kind::kBackwardInput, task(Kind::kBackwardInput)) && !Has(Kind::kBackwardWeight, task(Kind::kBackwardWeight))) {
      return Missing(task(Kind::kBackwardWeight));
    }
    if (const Task reduce = task(Kind::kReduce);
        reduces_ && micro_batch == schedule_.FirstOf(stage, schedule_.RankOf(stage, micro_batch)) && !Has(Kind::kReduce, reduce))
      return Missing(reduce);
    if (!communicates_ || stage == 0) return absl::OkStatus();
    if (schedule_.RankOf(stage, micro_batch) == schedule_.RankOf(stage - 1, micro_batch)) return absl::OkStatus();
    for (const Task& receive : {task(Kind::kRecvForward), Task{Kind::kRecvBackward, stage - 1, micro_batch}}) {
      if (!backward && !BelongsToForward(receive.kind)) continue;
      if (!Has(receive.kind, receive)) return Missing(receive);
      const Task send = PeerOf(receive);
      if (!Has(send.kind, send)) return Missing(send);
    }
    return absl::OkStatus();
  }

  const Schedule& schedule_;
  const bool communicates_, reduces_;
  Position at_;
  int lowest_reduced_ = 0;                     // of the stages whose G this rank's list had so far
  std::array<std::vector<int>, kKinds> seen_;  // [kind][stages x micro-batches] -> index in the list of its rank
};

struct Wait {
  Task task;   // what a stopped rank cannot begin
  Task needs;  // what it waits for
  int rank;    // which rank runs that
};

// B, in place of I, where that is what the list holds.
Task AsListed(const Schedule& schedule, const Task& task, int rank) {
  const auto& list = schedule.actions[rank];
  const Task full = {Kind::kBackward, task.stage, task.micro_batch};
  const bool listed = std::any_of(list.begin(), list.end(), [&](const Action& action) {
    return std::find(action.tasks().begin(), action.tasks().end(), full) != action.tasks().end();
  });
  return task.kind == Kind::kBackwardInput && listed ? full : task;
}

bool Ran(const Schedule& schedule, const Walk& walk, const Task& task, int rank) {
  const auto& list = schedule.actions[rank];
  return std::any_of(list.begin(), list.begin() + walk.stopped_at[rank], [&](const Action& action) {
    return std::find(action.tasks().begin(), action.tasks().end(), task) != action.tasks().end();
  });
}

Wait WaitOf(const Schedule& schedule, const Walk& walk, int rank) {
  const Action& action = schedule.actions[rank][walk.stopped_at[rank]];
  for (const Task& task : action.tasks()) {
    if (IsCommunication(task.kind)) {
      const Task peer = PeerOf(task);
      return {task, peer, schedule.RankOf(peer.stage, peer.micro_batch)};
    }
    const auto input = InputOf(schedule, task);
    if (!input) continue;
    const int source = schedule.RankOf(input->stage, input->micro_batch);
    const Task needs = AsListed(schedule, *input, source);
    if (!Ran(schedule, walk, needs, source)) return {task, needs, source};
  }
  return {action.first(), action.first(), rank};  // not reached: a stopped action waits for something
}

// From the lowest stopped rank along the waits until a rank comes again: the circle.
absl::Status Deadlock(const Schedule& schedule, const Walk& walk) {
  std::vector<bool> visited(schedule.ranks());
  int rank = 0;
  while (walk.stopped_at[rank] == static_cast<int>(schedule.actions[rank].size())) ++rank;
  for (; !visited[rank]; rank = WaitOf(schedule, walk, rank).rank) visited[rank] = true;
  std::string message = "deadlock:";
  std::vector<Position> marks;
  const int begin = rank;
  do {
    const Wait wait = WaitOf(schedule, walk, rank);
    absl::StrAppendFormat(&message, "%s rank %d at %s waits for %s of rank %d", marks.empty() ? "" : ",", rank,
                          ToString(wait.task), ToString(wait.needs), wait.rank);
    marks.push_back({rank, walk.stopped_at[rank]});
    rank = wait.rank;
  } while (rank != begin);
  return UsageError(absl::StrCat(message, "\n", RenderGrid(schedule, marks)));
}

}  // namespace

absl::Status Validate(const Schedule& schedule) {
  JEVONS_RETURN_IF_ERROR(CheckShape(schedule));
  JEVONS_RETURN_IF_ERROR(Checker(schedule).Run());
  const Walk walk = WalkGrid(schedule);
  return walk.complete ? absl::OkStatus() : Deadlock(schedule, walk);
}

}  // namespace jevons
