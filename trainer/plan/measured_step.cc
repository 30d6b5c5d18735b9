#include "trainer/plan/measured_step.h"

#include <algorithm>
#include <array>
#include <limits>

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
  std::vector<Mean> pairs(stages * stages);        // forward stage major
  const auto kind = [](TaskKind of) { return static_cast<size_t>(of); };
  const auto visit = [&](bool overlapped, const auto& add) {
    for (const MeasuredRank& rank : step.ranks) {
      const std::vector<Action>& actions = schedule.actions[static_cast<size_t>(rank.pp_rank)];
      for (size_t i = 0; i < actions.size(); ++i)
        if (!actions[i].communicates() && actions[i].overlapped() == overlapped) add(actions[i], rank.actions[i].computed());
    }
  };
  visit(false, [&](const Action& action, double seconds) {
    alone[static_cast<size_t>(action.first().stage)][kind(action.first().kind)].Add(seconds);
  });
  PipelineCosts costs;
  for (auto& of : alone) {
    const double weight = of[kind(TaskKind::kBackwardWeight)].value();
    // A stage that runs some backwards in one and some in two has one duration of the input part for both.
    Mean input = of[kind(TaskKind::kBackwardInput)];
    const Mean& whole = of[kind(TaskKind::kBackward)];
    input.sum += std::max(0.0, whole.sum - weight * static_cast<double>(whole.count));
    input.count += whole.count;
    costs.stages.push_back({.forward = of[kind(TaskKind::kForward)].value(),
                            .input = input.value(),
                            .weight = weight,
                            .recompute = of[kind(TaskKind::kRecompute)].value()});
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
  const double begin = BeginOf(step);
  for (const MeasuredRank& rank : step.ranks) {
    StepComparison::Rank line;
    for (const RanAction& action : rank.actions) line.busy += action.computed();
    line.measured = rank.actions.empty() ? 0 : rank.actions.back().end - begin;
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
  }
  return step;
}

std::string ComparisonText(const StepComparison& comparison) {
  const StepComparison::Rank step = comparison.slowest();
  std::string text = absl::StrFormat("last step's schedule predicted %.4f s from its mean durations, measured %.4f s, error %+.1f%%\n", step.predicted,
                                     step.measured, step.error_percent());
  for (size_t r = 0; r < comparison.ranks.size(); ++r) {
    const StepComparison::Rank& rank = comparison.ranks[r];
    absl::StrAppendFormat(&text, "  rank %-4d          busy %.4f s, waiting %.4f s, predicted %.4f s, measured %.4f s, error %+.1f%%\n", r, rank.busy,
                          rank.waiting, rank.predicted, rank.measured, rank.error_percent());
  }
  return text;
}

std::string TraceJson(const MeasuredStep& step, const StepComparison& comparison) {
  const double begin = BeginOf(step);
  TraceProcess measured{.name = "measured", .threads = {}}, simulated{.name = "simulated from the mean durations", .threads = {}};
  for (size_t r = 0; r < step.ranks.size(); ++r) {
    const MeasuredRank& rank = step.ranks[r];
    TraceThread& thread = measured.threads.emplace_back();
    thread.name = absl::StrFormat("rank %d, pp %d", r, rank.pp_rank);
    const std::vector<Action>& actions = step.schedule.actions[static_cast<size_t>(rank.pp_rank)];
    for (size_t i = 0; i < actions.size(); ++i) {
      const RanAction& ran = rank.actions[i];
      const double ready = ran.begin + ran.waited;
      if (ran.waited > 0) thread.events.push_back({"wait", {ran.begin - begin, ready - begin}});
      thread.events.push_back({ToString(actions[i]), {ready - begin, ran.end - begin}});
    }
  }
  for (int r = 0; r < step.schedule.ranks(); ++r) {
    TraceThread& thread = simulated.threads.emplace_back();
    thread.name = absl::StrFormat("pp %d", r);
    const std::vector<Action>& actions = step.schedule.actions[static_cast<size_t>(r)];
    for (size_t i = 0; i < actions.size(); ++i)  // messages travel beside the computation
      if (!actions[i].communicates()) thread.events.push_back({ToString(actions[i]), comparison.simulated.ranks[static_cast<size_t>(r)].actions[i]});
  }
  return TraceJson({measured, simulated});
}

}  // namespace jevons
