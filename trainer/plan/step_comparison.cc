#include "trainer/plan/step_comparison.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "absl/strings/str_format.h"
#include "trainer/plan/timeline_files.h"

namespace jevons {
namespace {

struct Mean {
  double sum = 0;
  int64_t count = 0;
  void Add(double value) {
    sum += value;
    ++count;
  }
  double value() const { return count > 0 ? sum / static_cast<double>(count) : 0; }
};

double BeginOf(const MeasuredStep& step) {
  double begin = std::numeric_limits<double>::infinity();
  for (const MeasuredRank& rank : step.ranks)
    if (!rank.actions.empty()) begin = std::min(begin, rank.actions.front().begin);
  return begin;
}

bool Reduces(const Action& action) { return action.first().kind == TaskKind::kReduce; }

double LastActionsEnd(const MeasuredStep& step) {
  double end = -std::numeric_limits<double>::infinity();
  for (const MeasuredRank& rank : step.ranks)
    for (size_t i = 0; i < rank.actions.size(); ++i)
      if (!Reduces(step.schedule.actions[static_cast<size_t>(rank.pp_rank)][i])) end = std::max(end, rank.actions[i].end);
  return end;
}

double EndOf(const RankTimeline& rank) {
  double end = 0;
  for (const TimeSpan& at : rank.actions) end = std::max(end, at.end);
  return end;
}

}  // namespace

PipelineCosts CostsOf(const MeasuredStep& step) {
  const Schedule& schedule = step.schedule;
  const auto stages = static_cast<size_t>(schedule.stages);
  std::vector<std::array<Mean, 5>> alone(stages);  // by kind, F to R
  std::vector<double> reduce(stages, std::numeric_limits<double>::infinity());
  std::vector<Mean> pairs(stages * stages);  // forward stage major
  const auto kind = [](TaskKind of) { return static_cast<size_t>(of); };
  const auto visit = [&](bool overlapped, const auto& add) {
    for (const MeasuredRank& rank : step.ranks) {
      const std::vector<Action>& actions = schedule.actions[static_cast<size_t>(rank.pp_rank)];
      for (size_t i = 0; i < actions.size(); ++i)
        if (!actions[i].communicates() && !Reduces(actions[i]) && actions[i].overlapped() == overlapped)
          add(actions[i], rank.actions[i].computed());
    }
  };
  visit(false, [&](const Action& action, double seconds) {
    alone[static_cast<size_t>(action.first().stage)][kind(action.first().kind)].Add(seconds);
  });
  for (const MeasuredRank& rank : step.ranks) {
    const std::vector<Action>& actions = schedule.actions[static_cast<size_t>(rank.pp_rank)];
    for (size_t i = 0; i < actions.size(); ++i)
      if (double& shortest = reduce[static_cast<size_t>(actions[i].first().stage)]; Reduces(actions[i]))
        shortest = std::min(shortest, rank.actions[i].computed());
  }
  PipelineCosts costs;
  for (size_t stage = 0; stage < stages; ++stage) {
    auto& of = alone[stage];
    const double weight = of[kind(TaskKind::kBackwardWeight)].value();
    // A stage that runs some backwards in one and some in two has one duration of the input part for both.
    Mean input = of[kind(TaskKind::kBackwardInput)];
    const Mean& whole = of[kind(TaskKind::kBackward)];
    input.sum += std::max(0.0, whole.sum - weight * static_cast<double>(whole.count));
    input.count += whole.count;
    costs.stages.push_back({.forward = of[kind(TaskKind::kForward)].value(),
                            .input = input.value(),
                            .weight = weight,
                            .recompute = of[kind(TaskKind::kRecompute)].value(),
                            .reduce = schedule.reduces() ? reduce[stage] : 0});
  }
  const auto cell = [&](const Action& pair) {
    return static_cast<size_t>(pair.first().stage) * stages + static_cast<size_t>(pair.tasks()[1].stage);
  };
  visit(true, [&](const Action& pair, double seconds) {
    const Task& backward = pair.tasks()[1];
    // The simulator's pair is with a whole B.
    const bool whole = backward.kind == TaskKind::kBackward;
    pairs[cell(pair)].Add(seconds + (whole ? 0 : costs.stages[static_cast<size_t>(backward.stage)].weight));
  });
  for (size_t f = 0; f < stages; ++f) {
    for (size_t b = 0; b < stages; ++b) {
      const Mean& pair = pairs[f * stages + b];
      const StageCosts &forward = costs.stages[f], &backward = costs.stages[b];
      costs.overlapped.push_back(pair.count > 0 ? std::max(pair.value(), backward.weight)
                                                : forward.forward + backward.input + backward.weight);
    }
  }
  return costs;
}

StepComparison Compare(const MeasuredStep& step) {
  StepComparison comparison;
  comparison.simulated = Simulate(step.schedule, CostsOf(step)).value();
  const double begin = BeginOf(step), computed = LastActionsEnd(step);
  for (const MeasuredRank& rank : step.ranks) {
    StepComparison::Rank line;
    const std::vector<Action>& actions = step.schedule.actions[static_cast<size_t>(rank.pp_rank)];
    for (size_t i = 0; i < actions.size(); ++i) {
      const RanAction& ran = rank.actions[i];
      line.measured = std::max(line.measured, ran.end - begin);
      (Reduces(actions[i]) ? line.reduction : line.busy) += ran.computed();
      if (Reduces(actions[i])) line.hidden += std::clamp(computed - ran.begin, 0.0, ran.computed());
    }
    line.waiting = line.measured - line.busy;
    line.predicted = EndOf(comparison.simulated.ranks[static_cast<size_t>(rank.pp_rank)]);
    comparison.ranks.push_back(line);
  }
  return comparison;
}

StepComparison::Rank StepComparison::slowest() const {
  Rank step;
  for (const Rank& rank : ranks) {
    step.busy = std::max(step.busy, rank.busy);
    step.waiting = std::max(step.waiting, rank.waiting);
    step.predicted = std::max(step.predicted, rank.predicted);
    step.measured = std::max(step.measured, rank.measured);
    step.reduction += rank.reduction;
    step.hidden += rank.hidden;
  }
  return step;
}

std::string ComparisonText(const StepComparison& comparison) {
  const StepComparison::Rank step = comparison.slowest();
  std::string text =
      absl::StrFormat("last step's schedule predicted %.4f s from its mean durations, measured %.4f s, error %+.1f%%\n",
                      step.predicted, step.measured, step.error_percent());
  if (step.reduction > 0)
    absl::StrAppendFormat(&text, "  its gradients were reduced in %.4f s of all ranks, %.0f%% of them beside actions\n",
                          step.reduction, 100 * step.hidden / step.reduction);
  for (size_t r = 0; r < comparison.ranks.size(); ++r) {
    const StepComparison::Rank& rank = comparison.ranks[r];
    absl::StrAppendFormat(&text,
                          "  rank %-4d          busy %.4f s, waiting %.4f s, predicted %.4f s, measured %.4f s, error %+.1f%%\n",
                          r, rank.busy, rank.waiting, rank.predicted, rank.measured, rank.error_percent());
  }
  return text;
}

namespace {

// Ranks, then their reductions.
struct TraceRanks {
  std::vector<TraceThread> actions, reductions;

  void Add(const std::string& name) {
    actions.push_back({.name = name, .events = {}});
    reductions.push_back({.name = name + ", reductions", .events = {}});
  }
  TraceProcess Process(const std::string& name) && {
    for (TraceThread& thread : reductions)
      if (!thread.events.empty()) actions.push_back(std::move(thread));
    return {.name = name, .threads = std::move(actions)};
  }
};

}  // namespace

std::string TraceJson(const MeasuredStep& step, const StepComparison& comparison) {
  const double begin = BeginOf(step);
  TraceRanks measured, simulated;
  for (size_t r = 0; r < step.ranks.size(); ++r) {
    const MeasuredRank& rank = step.ranks[r];
    measured.Add(absl::StrFormat("rank %d, pp %d", r, rank.pp_rank));
    const std::vector<Action>& actions = step.schedule.actions[static_cast<size_t>(rank.pp_rank)];
    for (size_t i = 0; i < actions.size(); ++i) {
      const RanAction& ran = rank.actions[i];
      const double ready = ran.begin + ran.waited;
      TraceThread& thread = Reduces(actions[i]) ? measured.reductions.back() : measured.actions.back();
      if (ran.waited > 0) thread.events.push_back({"wait", {ran.begin - begin, ready - begin}});
      thread.events.push_back({ToString(actions[i]), {ready - begin, ran.end - begin}});
    }
  }
  for (int r = 0; r < step.schedule.ranks(); ++r) {
    simulated.Add(absl::StrFormat("pp %d", r));
    const std::vector<Action>& actions = step.schedule.actions[static_cast<size_t>(r)];
    for (size_t i = 0; i < actions.size(); ++i) {
      if (actions[i].communicates()) continue;  // messages travel beside the computation
      TraceThread& thread = Reduces(actions[i]) ? simulated.reductions.back() : simulated.actions.back();
      thread.events.push_back({ToString(actions[i]), comparison.simulated.ranks[static_cast<size_t>(r)].actions[i]});
    }
  }
  return TraceJson({std::move(measured).Process("measured"), std::move(simulated).Process("simulated from the mean durations")});
}

}  // namespace jevons
