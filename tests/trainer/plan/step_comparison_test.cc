// A step that ran exactly as simulated gives back the durations it was simulated with, and no error.
#include "trainer/plan/step_comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "parallel/pipeline/passes.h"
#include "parallel/pipeline/schedules.h"

namespace jevons {
namespace {

// Durations that differ from stage to stage; pairs take less than both alone.
PipelineCosts Costs(int stages) {
  PipelineCosts costs;
  for (int s = 0; s < stages; ++s)
    costs.stages.push_back({.forward = 1.0 + s, .input = 1.5 + s, .weight = 0.5 + 0.1 * s, .reduce = 0.75 + 0.25 * s});
  for (int f = 0; f < stages; ++f)
    for (int b = 0; b < stages; ++b) costs.overlapped.push_back(0.8 * (1.0 + f + 2.0 + 1.1 * b));
  return costs;
}

// Two pipelines side by side, alike but for the moment at which they begin.
MeasuredStep StepOf(const Schedule& schedule, const Timeline& timeline) {
  MeasuredStep step{.schedule = schedule, .ranks = {}};
  for (const double start : {100.0, 100.25}) {
    for (int r = 0; r < schedule.ranks(); ++r) {
      MeasuredRank& rank = step.ranks.emplace_back();
      rank.pp_rank = r;
      double now = start;
      for (size_t i = 0; i < schedule.actions[r].size(); ++i) {
        const TimeSpan& at = timeline.ranks[r].actions[i];
        if (schedule.actions[r][i].first().kind == TaskKind::kReduce) {  // beside the others
          rank.actions.push_back({.begin = start + at.begin, .end = start + at.end, .waited = 0});
          continue;
        }
        const bool message = schedule.actions[r][i].communicates();  // no time of the rank's own
        const double ready = message ? now : start + at.begin, end = message ? now : start + at.end;
        rank.actions.push_back({.begin = now, .end = end, .waited = ready - now});
        now = end;
      }
    }
  }
  return step;
}

class MeasuredStepTest : public testing::TestWithParam<ScheduleKind> {};

TEST_P(MeasuredStepTest, GivesBackItsCosts) {
  const Schedule schedule = ExecutableSchedule({.kind = GetParam(), .pp = 4, .micro_batches = 10}, /*recompute=*/false).value();
  const PipelineCosts costs = Costs(schedule.stages);
  const Timeline timeline = Simulate(schedule, costs).value();
  const MeasuredStep step = StepOf(schedule, timeline);

  const PipelineCosts measured = CostsOf(step);
  ASSERT_EQ(measured.stages.size(), costs.stages.size());
  for (size_t s = 0; s < costs.stages.size(); ++s) {
    const StageCosts &is = measured.stages[s], &was = costs.stages[s];
    EXPECT_NEAR(is.forward, was.forward, 1e-9);
    EXPECT_NEAR(is.input + is.weight, was.input + was.weight, 1e-9);
    EXPECT_NEAR(is.reduce, was.reduce, 1e-9);
    EXPECT_NEAR(is.weight, GetParam() == ScheduleKind::k1F1B ? 0 : was.weight, 1e-9) << "1F1B has whole backwards alone";
  }
  const StepComparison comparison = Compare(step);
  ASSERT_EQ(comparison.ranks.size(), 8u);
  for (size_t r = 0; r < 8; ++r) {
    const StepComparison::Rank& rank = comparison.ranks[r];
    const double late = r < 4 ? 0 : 0.25;
    EXPECT_NEAR(rank.busy, timeline.ranks[r % 4].busy, 1e-9);
    EXPECT_NEAR(rank.measured, rank.predicted + late, 1e-9);
    EXPECT_NEAR(rank.waiting, rank.measured - rank.busy, 1e-9);
    double reduction = 0;
    for (const int stage : schedule.StagesOf(static_cast<int>(r % 4)))
      reduction += costs.stages[static_cast<size_t>(stage)].reduce;
    EXPECT_NEAR(rank.reduction, reduction, 1e-9);
    if (GetParam() != ScheduleKind::k1F1B) continue;
    // The first stage ends last, and in the second pipeline so much later.
    EXPECT_NEAR(rank.hidden, r == 0 ? 0.25 : r == 4 ? 0 : reduction, 1e-9);
  }
  EXPECT_NEAR(comparison.slowest().predicted, timeline.makespan, 1e-9);
  EXPECT_NEAR(comparison.slowest().error_percent(), 100 * (timeline.makespan / (timeline.makespan + 0.25) - 1), 1e-6);
  EXPECT_THAT(ComparisonText(comparison),
              testing::ContainsRegex("\n  rank 7 +busy [0-9.]+ s, waiting [0-9.]+ s, predicted [0-9.]+ s"));
  EXPECT_THAT(ComparisonText(comparison),
              testing::ContainsRegex("\n  its gradients were reduced in [0-9.]+ s of all ranks, [0-9]+% of them beside actions"));

  // Two processes: every action once in each, messages only where they were measured, and nothing overlaps within a thread.
  const auto trace = nlohmann::json::parse(TraceJson(step, comparison));
  std::map<std::pair<int, int>, double> end;
  int64_t measured_actions = 0, simulated_actions = 0, messages = 0;
  for (const auto& list : schedule.actions)
    for (const Action& action : list) messages += action.communicates();
  for (const auto& event : trace["traceEvents"]) {
    if (event["ph"] == "M") continue;
    const double begin = event["ts"], duration = event["dur"];
    double& last = end[{event["pid"], event["tid"]}];
    EXPECT_GE(duration, 0);
    EXPECT_GE(begin, last - 1e-3) << event;
    last = begin + duration;
    if (event["name"] != "wait") ++(event["pid"] == 0 ? measured_actions : simulated_actions);
  }
  EXPECT_EQ(end.size(), 24u) << "reductions have a line of their own";
  EXPECT_EQ(measured_actions, 2 * schedule.action_count());
  EXPECT_EQ(simulated_actions, schedule.action_count() - messages);
}

INSTANTIATE_TEST_SUITE_P(Schedules, MeasuredStepTest,
                         testing::Values(ScheduleKind::k1F1B, ScheduleKind::kZBH1, ScheduleKind::kDualPipe,
                                         ScheduleKind::kDualPipeV));

}  // namespace
}  // namespace jevons
