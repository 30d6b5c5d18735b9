#include "parallel/pipeline/simulate.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "parallel/pipeline/validate.h"
#include "parallel/pipeline/walk.h"

namespace jevons {
namespace {

using Kind = TaskKind;

bool IsDuration(double value) { return value >= 0 && std::isfinite(value); }

// Only the pairs that occur: a planner may leave the others at 0.
absl::Status CheckPair(const Action& action, const PipelineCosts& costs) {
  if (!action.overlapped() || costs.overlapped.empty()) return absl::OkStatus();
  const int f = action.tasks()[0].stage, b = action.tasks()[1].stage;
  const double pair = costs.overlapped[f * costs.stages.size() + b], weight = costs.stages[b].weight;
  if (IsDuration(pair) && pair >= weight) return absl::OkStatus();
  return UsageError(
      absl::StrFormat("F of stage %d overlapped with B of stage %d takes %g: at least its W, %g", f, b, pair, weight));
}

absl::Status CheckCosts(const Schedule& schedule, const PipelineCosts& costs) {
  const size_t stages = schedule.stages;
  if (costs.stages.size() != stages) {
    return UsageError(absl::StrFormat("costs of %d stages for a schedule of %d", costs.stages.size(), stages));
  }
  if (!costs.overlapped.empty() && costs.overlapped.size() != stages * stages) {
    return UsageError(absl::StrFormat("%d durations of overlapped pairs: %d stages need %d, or none", costs.overlapped.size(),
                                      stages, stages * stages));
  }
  for (size_t s = 0; s < stages; ++s) {
    const StageCosts& c = costs.stages[s];
    if (!IsDuration(c.forward) || !IsDuration(c.input) || !IsDuration(c.weight) || !IsDuration(c.recompute) ||
        !IsDuration(c.reduce)) {
      return UsageError(absl::StrFormat("stage %d: durations F %g, I %g, W %g, R %g, G %g: finite, none negative", s, c.forward,
                                        c.input, c.weight, c.recompute, c.reduce));
    }
    if (std::min({c.until_b, c.until_w, c.stash, c.kept, c.weights}) < 0) {
      return UsageError(absl::StrFormat("stage %d: no number of bytes may be negative", s));
    }
  }
  for (const auto& list : schedule.actions) {
    for (const Action& action : list) JEVONS_RETURN_IF_ERROR(CheckPair(action, costs));
  }
  if (!IsDuration(costs.transfer)) {
    return UsageError(absl::StrFormat("a transfer of %g: finite, not negative", costs.transfer));
  }
  return absl::OkStatus();
}

class Simulator {
 public:
  Simulator(const Schedule& schedule, const PipelineCosts& costs) : schedule_(schedule), costs_(costs), clock_(schedule.ranks()) {
    const size_t slots = static_cast<size_t>(schedule.stages) * schedule.micro_batches;
    forward_end_.resize(slots);
    backward_end_.resize(slots);
  }

  Timeline Run() {
    for (const auto& list : schedule_.actions) {
      timeline_.ranks.emplace_back().actions.resize(list.size());
    }
    for (const Position& at : WalkGrid(schedule_).order) Time(at);
    TimeReductions();
    for (int rank = 0; rank < schedule_.ranks(); ++rank) {
      timeline_.makespan = std::max(timeline_.makespan, clock_[rank]);
      MeasureMemory(rank);
    }
    for (RankTimeline& rank : timeline_.ranks) rank.idle = timeline_.makespan - rank.busy;
    return std::move(timeline_);
  }

 private:
  size_t Slot(const Task& task) const { return static_cast<size_t>(task.stage) * schedule_.micro_batches + task.micro_batch; }

  double Duration(const Task& task) const {
    const StageCosts& c = costs_.stages[task.stage];
    switch (task.kind) {
      case Kind::kForward: return c.forward;
      case Kind::kBackward: return c.input + c.weight;
      case Kind::kBackwardInput: return c.input;
      case Kind::kBackwardWeight: return c.weight;
      case Kind::kRecompute: return c.recompute;
      default: return 0;
    }
  }

  double Duration(const Action& action) const {
    const Task& first = action.first();
    if (!action.overlapped()) return Duration(first);
    const Task& backward = action.tasks()[1];
    if (costs_.overlapped.empty()) return Duration(first) + Duration(backward);
    const double pair = costs_.overlapped[static_cast<size_t>(first.stage) * schedule_.stages + backward.stage];
    return backward.kind == Kind::kBackward ? pair : pair - costs_.stages[backward.stage].weight;
  }

  void Account(const Action& action, double duration, RankTimeline& line) const {
    const Task& task = action.first();
    const StageCosts& c = costs_.stages[task.stage];
    const bool full = task.kind == Kind::kBackward;
    line.busy += duration;
    if (action.overlapped()) {
      line.overlapped += duration;
      return;
    }
    if (task.kind == Kind::kForward) line.forward += duration;
    if (task.kind == Kind::kBackwardInput || full) line.input += c.input;
    if (task.kind == Kind::kBackwardWeight || full) line.weight += c.weight;
    if (task.kind == Kind::kRecompute) line.recompute += duration;
  }

  // When the result that `task` reads is on `rank`.
  double Arrival(const Task& task, int rank) const {
    const auto input = InputOf(schedule_, task);
    if (!input) return 0;
    const double end = (input->kind == Kind::kForward ? forward_end_ : backward_end_)[Slot(*input)];
    return schedule_.RankOf(input->stage, input->micro_batch) == rank ? end : end + costs_.transfer;
  }

  void Time(const Position& at) {
    const Action& action = schedule_.actions[at.rank][at.index];
    TimeSpan& interval = timeline_.ranks[at.rank].actions[at.index];
    if (action.communicates()) {
      interval = Message(action.first(), at.rank);
      return;
    }
    double& clock = clock_[at.rank];
    if (action.first().kind == Kind::kReduce) {
      interval = {clock, clock};
      return;
    }
    interval.begin = clock;
    for (const Task& task : action.tasks()) interval.begin = std::max(interval.begin, Arrival(task, at.rank));
    const double duration = Duration(action);
    interval.end = clock = interval.begin + duration;
    Account(action, duration, timeline_.ranks[at.rank]);
    for (const Task& task : action.tasks()) {
      if (task.kind == Kind::kForward) forward_end_[Slot(task)] = clock;
      if (MakesInputGradient(task.kind)) backward_end_[Slot(task)] = clock;
    }
  }

  // In the order that all ranks have: a stage's begins when each of its ranks has come to it and is through with the one before.
  void TimeReductions() {
    struct Part {
      int rank;
      TimeSpan* span;
    };
    std::vector<std::vector<Part>> reductions(schedule_.stages);
    for (int rank = 0; rank < schedule_.ranks(); ++rank)
      for (size_t i = 0; i < schedule_.actions[rank].size(); ++i)
        if (const Task& task = schedule_.actions[rank][i].first(); task.kind == Kind::kReduce)
          reductions[task.stage].push_back({rank, &timeline_.ranks[rank].actions[i]});
    std::vector<double> through(schedule_.ranks());
    for (int stage = schedule_.stages - 1; stage >= 0; --stage) {
      double begin = 0;
      for (const auto& [rank, span] : reductions[stage]) begin = std::max({begin, span->begin, through[rank]});
      for (const auto& [rank, span] : reductions[stage]) {
        *span = {begin, begin + costs_.stages[stage].reduce};
        through[rank] = span->end;
        timeline_.makespan = std::max(timeline_.makespan, span->end);
      }
    }
  }

  // A send comes before its receive in the order, and puts down when the message leaves.
  TimeSpan Message(const Task& task, int rank) {
    const bool send = task.kind == Kind::kSendForward || task.kind == Kind::kSendBackward;
    const bool forward = task.kind == Kind::kSendForward || task.kind == Kind::kRecvForward;
    double& sent = (forward ? forward_end_ : backward_end_)[Slot(send ? task : PeerOf(task))];
    if (send) sent = clock_[rank];
    return {sent, sent + costs_.transfer};
  }

  // Follows one list: memory of a rank changes with its own actions only. What a task allocates counts before
  // what its overlapped partner frees.
  void MeasureMemory(int rank) {
    RankTimeline& line = timeline_.ranks[rank];
    for (const int stage : schedule_.StagesOf(rank)) line.weight_bytes += costs_.stages[stage].weights;
    const auto& list = schedule_.actions[rank];
    std::vector<bool> recomputed;
    for (const Action& action : list) {
      if (action.first().kind != Kind::kRecompute) continue;
      recomputed.resize(forward_end_.size());
      recomputed[Slot(action.first())] = true;
    }
    int64_t bytes = 0;
    int in_flight = 0, held = 0;
    for (const Action& action : list) {
      for (const Task& task : action.tasks()) {
        const StageCosts& c = costs_.stages[task.stage];
        const bool forward = task.kind == Kind::kForward;
        if (forward) bytes += !recomputed.empty() && recomputed[Slot(task)] ? c.kept : c.until_b + c.until_w;
        if (task.kind == Kind::kRecompute) bytes += c.until_b + c.until_w - c.kept;
        if (task.kind == Kind::kBackwardInput) bytes += c.stash;
        in_flight += forward;
        held += forward;
      }
      line.peak_activation_bytes = std::max(line.peak_activation_bytes, bytes);
      line.peak_in_flight = std::max(line.peak_in_flight, in_flight);
      line.peak_held = std::max(line.peak_held, held);
      for (const Task& task : action.tasks()) {
        const StageCosts& c = costs_.stages[task.stage];
        const bool weight = task.kind == Kind::kBackwardWeight;
        const bool passes = schedule_.forward_only && task.kind == Kind::kForward;
        const bool input_ends = MakesInputGradient(task.kind) || passes;
        const bool ends = task.kind == Kind::kBackward || weight || passes;
        if (input_ends) bytes -= c.until_b;
        if (ends) bytes -= c.until_w + (weight ? c.stash : 0);
        in_flight -= input_ends;
        held -= ends;
      }
    }
  }

  const Schedule& schedule_;
  const PipelineCosts& costs_;
  Timeline timeline_;
  std::vector<double> clock_;  // [ranks]
  // [stages][micro-batches]: of F, and of B or I; once it is sent, when it was sent
  std::vector<double> forward_end_, backward_end_;
};

}  // namespace

PipelineCosts PipelineCosts::Uniform(int stages, const StageCosts& stage) {
  return {.stages = std::vector<StageCosts>(stages, stage), .overlapped = {}};
}

PipelineCosts PipelineCosts::Uniform(int stages, const StageCosts& stage, double overlapped) {
  PipelineCosts costs = Uniform(stages, stage);
  costs.overlapped.assign(static_cast<size_t>(stages) * stages, overlapped);
  return costs;
}

absl::StatusOr<Timeline> Simulate(const Schedule& schedule, const PipelineCosts& costs) {
  JEVONS_RETURN_IF_ERROR(Validate(schedule));
  JEVONS_RETURN_IF_ERROR(CheckCosts(schedule, costs));
  return Simulator(schedule, costs).Run();
}

}  // namespace jevons
