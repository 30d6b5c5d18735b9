#include "parallel/pipeline/passes.h"

#include <algorithm>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/base/check.h"
#include "parallel/pipeline/simulate.h"
#include "parallel/pipeline/validate.h"
#include "parallel/pipeline/walk.h"

namespace jevons {
namespace {

using Kind = TaskKind;

void CheckBare(const Schedule& schedule) {
  JEVONS_CHECK(!schedule.communicates() && !schedule.reduces(), "communication and reductions are inserted last: schedule %s",
               schedule.name.c_str());
}

// `action` with its backward half, or the whole of it, turned into `kind`.
Action WithBackward(const Action& action, Kind kind) {
  Task backward = action.tasks().back();
  backward.kind = kind;
  return action.overlapped() ? Action::Overlap(action.first(), backward) : Action(backward);
}

// One moment of the uniform time line: an action begins on `rank`, or, with `task` a send, its exchange takes
// place.
struct Moment {
  double time;
  bool begins;  // false sorts first: what arrives at a time can be read by what begins then
  int rank;
  int index;  // of the action that begins, or that made what is sent
  int half;   // of an overlapped pair
  Task send;
  auto Key() const { return std::tie(time, begins, rank, index, half); }
};

// What the rank of `task` sends once it is done, if another rank reads it.
bool SendAfter(const Schedule& schedule, const Task& task, int rank, Task& send) {
  if (task.kind == Kind::kForward && task.stage + 1 < schedule.stages) {
    send = {Kind::kSendForward, task.stage, task.micro_batch};
  } else if (MakesInputGradient(task.kind) && task.stage > 0) {
    send = {Kind::kSendBackward, task.stage, task.micro_batch};
  } else {
    return false;
  }
  return schedule.RankOf(PeerOf(send).stage, task.micro_batch) != rank;
}

std::vector<Moment> MomentsOf(const Schedule& schedule, const Timeline& timeline) {
  std::vector<Moment> moments;
  for (int rank = 0; rank < schedule.ranks(); ++rank) {
    for (int index = 0; index < static_cast<int>(schedule.actions[rank].size()); ++index) {
      const TimeSpan& interval = timeline.ranks[rank].actions[index];
      moments.push_back({interval.begin, true, rank, index, 0, {}});
      int half = 0;
      for (const Task& task : schedule.actions[rank][index].tasks()) {
        Task send;
        if (SendAfter(schedule, task, rank, send)) {
          moments.push_back({interval.end, false, rank, index, half, send});
        }
        ++half;
      }
    }
  }
  std::sort(moments.begin(), moments.end(), [](const Moment& a, const Moment& b) { return a.Key() < b.Key(); });
  return moments;
}

}  // namespace

Schedule SplitBackward(Schedule schedule, const TaskFilter& filter) {
  CheckBare(schedule);
  for (int rank = 0; rank < schedule.ranks(); ++rank) {
    std::vector<Action> split;
    for (const Action& action : schedule.actions[rank]) {
      const Task& backward = action.tasks().back();
      if (backward.kind != Kind::kBackward || !filter(rank, backward)) {
        split.push_back(action);
        continue;
      }
      split.push_back(WithBackward(action, Kind::kBackwardInput));
      split.emplace_back(Kind::kBackwardWeight, backward.stage, backward.micro_batch);
    }
    schedule.actions[rank] = std::move(split);
  }
  return schedule;
}

Schedule JoinBackward(Schedule schedule, const TaskFilter& filter) {
  CheckBare(schedule);
  for (int rank = 0; rank < schedule.ranks(); ++rank) {
    std::vector<Action> joined;
    for (const Action& action : schedule.actions[rank]) {
      const Task& task = action.first();
      const Task input = {Kind::kBackwardInput, task.stage, task.micro_batch};
      if (task.kind == Kind::kBackwardWeight && !joined.empty() && joined.back().tasks().back() == input && filter(rank, input)) {
        joined.back() = WithBackward(joined.back(), Kind::kBackward);
      } else {
        joined.push_back(action);
      }
    }
    schedule.actions[rank] = std::move(joined);
  }
  return schedule;
}

Schedule InsertRecompute(Schedule schedule, const TaskFilter& filter) {
  CheckBare(schedule);
  for (int rank = 0; rank < schedule.ranks(); ++rank) {
    std::vector<Action> longer;
    for (const Action& action : schedule.actions[rank]) {
      const Task& backward = action.tasks().back();
      if (MakesInputGradient(backward.kind) && filter(rank, Task{Kind::kForward, backward.stage, backward.micro_batch})) {
        longer.emplace_back(Kind::kRecompute, backward.stage, backward.micro_batch);
      }
      longer.push_back(action);
    }
    schedule.actions[rank] = std::move(longer);
  }
  return schedule;
}

Schedule InsertCommunication(const Schedule& schedule) {
  CheckBare(schedule);
  // No duration is zero: what begins after a result was made begins later than what made it.
  const auto timeline = Simulate(schedule, PipelineCosts::Uniform(schedule.stages, {.recompute = 1}));
  JEVONS_CHECK(timeline.ok(), "%s", timeline.status().ToString().c_str());
  Schedule result = schedule;
  for (auto& list : result.actions) list.clear();
  for (const Moment& moment : MomentsOf(schedule, *timeline)) {
    if (moment.begins) {
      result.actions[moment.rank].push_back(schedule.actions[moment.rank][moment.index]);
      continue;
    }
    const Task receive = PeerOf(moment.send);
    result.actions[moment.rank].emplace_back(moment.send);
    result.actions[schedule.RankOf(receive.stage, receive.micro_batch)].emplace_back(receive);
  }
  return result;
}

Schedule InsertReductions(Schedule schedule) {
  for (int rank = 0; rank < schedule.ranks(); ++rank) {
    std::vector<Action>& list = schedule.actions[rank];
    std::vector<int> stages = schedule.StagesOf(rank);
    size_t place = 0;  // of the next G: not before the last one
    for (auto stage = stages.rbegin(); stage != stages.rend(); ++stage) {
      for (size_t i = place; i < list.size(); ++i) {
        const Task& task = list[i].tasks().back();
        if (task.stage == *stage && (task.kind == Kind::kBackward || task.kind == Kind::kBackwardWeight)) place = i + 1;
      }
      while (place < list.size() && list[place].communicates()) ++place;
      list.insert(list.begin() + static_cast<std::ptrdiff_t>(place++),
                  Action(Kind::kReduce, *stage, schedule.FirstOf(*stage, rank)));
    }
  }
  return schedule;
}

Schedule ForwardOnly(Schedule schedule) {
  schedule.forward_only = true;
  for (auto& list : schedule.actions) {
    std::vector<Action> forwards;
    for (const Action& action : list)
      if (BelongsToForward(action.first().kind)) forwards.emplace_back(action.first());
    list = std::move(forwards);
  }
  return schedule;
}

absl::StatusOr<Schedule> ExecutableSchedule(const ScheduleShape& shape, bool recompute) {
  JEVONS_ASSIGN_OR_RETURN(Schedule schedule, MakeSchedule(shape));
  if (recompute) schedule = InsertRecompute(std::move(schedule), [](int, const Task&) { return true; });
  schedule = InsertReductions(InsertCommunication(schedule));
  JEVONS_RETURN_IF_ERROR(Validate(schedule));
  return schedule;
}

}  // namespace jevons
