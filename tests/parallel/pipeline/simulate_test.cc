#include "parallel/pipeline/simulate.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/pipeline/passes.h"
#include "tests/parallel/pipeline/pipeline_cases.h"

namespace jevons {

bool operator==(const TimeSpan& a, const TimeSpan& b) { return a.begin == b.begin && a.end == b.end; }
void PrintTo(const TimeSpan& i, std::ostream* out) { *out << i.begin << " to " << i.end; }

namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Timeline TimelineOf(const Schedule& schedule, const PipelineCosts& costs) {
  auto timeline = Simulate(schedule, costs);
  JEVONS_CHECK(timeline.ok(), "%s", std::string(timeline.status().message()).c_str());
  return *std::move(timeline);
}

// By hand: the first forward arrives at 3, its gradient leaves at 9 and arrives at 10.
TEST(SimulateTest, TwoRanksByHand) {
  PipelineCosts costs = PipelineCosts::Uniform(2, {.forward = 2, .input = 3, .weight = 1});
  costs.transfer = 1;
  const Timeline timeline = TimelineOf(Make(ScheduleKind::k1F1B, 2, 2), costs);
  EXPECT_THAT(timeline.ranks[0].actions,  // F0 F1 B0 B1
              ElementsAre(TimeSpan{0, 2}, TimeSpan{2, 4}, TimeSpan{10, 14}, TimeSpan{16, 20}));
  EXPECT_THAT(timeline.ranks[1].actions,  // F0 B0 F1 B1
              ElementsAre(TimeSpan{3, 5}, TimeSpan{5, 9}, TimeSpan{9, 11}, TimeSpan{11, 15}));
  EXPECT_EQ(timeline.makespan, 20);
  EXPECT_EQ(timeline.ranks[0].busy, 12);
  EXPECT_EQ(timeline.ranks[0].idle, 8);
  EXPECT_EQ(timeline.ranks[1].idle, 8);
}

TEST(SimulateTest, InputPartFreesTheRankBefore) {
  const Schedule schedule = SplitBackward(Make(ScheduleKind::k1F1B, 2, 1), [](int, const Task&) { return true; });
  const Timeline timeline = TimelineOf(schedule, PipelineCosts::Uniform(2, {.forward = 1, .input = 2, .weight = 4}));
  EXPECT_THAT(timeline.ranks[0].actions, ElementsAre(TimeSpan{0, 1}, TimeSpan{4, 6}, TimeSpan{6, 10}));
  EXPECT_THAT(timeline.ranks[1].actions, ElementsAre(TimeSpan{1, 2}, TimeSpan{2, 4}, TimeSpan{4, 8}));
}

TEST(SimulateTest, CostsOfEachStageAndPair) {
  const Schedule schedule =
      Parse("schedule s stages 2 micro_batches 2\nroute 0 0\nrank 0F0 1F0 0F1&1B0 1F1&0I0 0W0 0R1 1B1 0B1\n");
  const PipelineCosts costs = {
      .stages = {{.forward = 1, .input = 2, .weight = 4, .recompute = 8}, {.forward = 16, .input = 32, .weight = 64}},
      .overlapped = {100, 200, 300, 400}};  // F0&B0 F0&B1 F1&B0 F1&B1
  EXPECT_THAT(TimelineOf(schedule, costs).ranks[0].actions,
              ElementsAre(TimeSpan{0, 1}, TimeSpan{1, 17}, TimeSpan{17, 217}, TimeSpan{217, 513}, TimeSpan{513, 517},
                          TimeSpan{517, 525}, TimeSpan{525, 621}, TimeSpan{621, 627}));
  const RankTimeline whole = TimelineOf(schedule, costs).ranks[0];
  EXPECT_EQ(whole.forward, 1 + 16);
  EXPECT_EQ(whole.overlapped, 200 + (300 - 4));
  EXPECT_EQ(whole.input, 32 + 2);
  EXPECT_EQ(whole.weight, 4 + 64 + 4);
  EXPECT_EQ(whole.recompute, 8);
  EXPECT_EQ(whole.busy, 627);
  EXPECT_EQ(whole.idle, 0);
  PipelineCosts apart = costs;
  apart.overlapped.clear();  // F + B
  EXPECT_EQ(TimelineOf(schedule, apart).ranks[0].actions[2], (TimeSpan{17, 17 + 1 + 96}));
  EXPECT_EQ(TimelineOf(schedule, apart).ranks[0].actions[3], (TimeSpan{114, 114 + 16 + 2}));
}

// By hand: beside the computation, when all that hold the stage have come, one after the other on a rank.
TEST(SimulateTest, ReductionsBesideTheComputation) {
  const Schedule schedule = Parse(
      "schedule s stages 2 micro_batches 2\nroute 0 1\nroute 1 0\n"
      "rank 0F0 1F1 1B1 1G1 0B0 0G0\nrank 0F1 1F0 1B0 1G0 0B1 0G1\n");
  PipelineCosts costs = PipelineCosts::Uniform(2, {.forward = 1, .input = 2, .weight = 1});
  costs.stages[0].reduce = 5;
  costs.stages[1].reduce = 8;
  costs.stages[1].weight = 2;  // F0 0 to 1, F1 to 2, B1 to 6, B0 to 9
  const Timeline timeline = TimelineOf(schedule, costs);
  for (const RankTimeline& rank : timeline.ranks) {
    EXPECT_THAT(rank.actions,
                ElementsAre(TimeSpan{0, 1}, TimeSpan{1, 2}, TimeSpan{2, 6}, TimeSpan{6, 14}, TimeSpan{6, 9}, TimeSpan{14, 19}));
    EXPECT_EQ(rank.busy, 9);
    EXPECT_EQ(rank.idle, 10);
  }
  EXPECT_EQ(timeline.makespan, 19);
  // Who comes late keeps the others of the stage, and nobody else.
  const Schedule apart =
      Parse("schedule s stages 1 micro_batches 4\nroute 0\nroute 1\nrank 0F0 0B0 0F1 0B1 0G0\nrank 0F2 0F3 0B2 0B3 0G2\n");
  PipelineCosts one = PipelineCosts::Uniform(1, {.reduce = 3});
  EXPECT_EQ(TimelineOf(apart, one).ranks[1].actions[4], (TimeSpan{6, 9}));
  one.stages[0].reduce = -1;
  EXPECT_THAT(std::string(Simulate(apart, one).status().message()), HasSubstr("G -1: finite, none negative"));
}

TEST(SimulateTest, RecomputationRunsWhileTheGradientIsOnItsWay) {
  const Schedule schedule = InsertRecompute(Make(ScheduleKind::k1F1B, 2, 1), [](int rank, const Task&) { return rank == 0; });
  const Timeline timeline = TimelineOf(schedule, PipelineCosts::Uniform(2, {.recompute = 1}));
  EXPECT_THAT(timeline.ranks[0].actions, ElementsAre(TimeSpan{0, 1}, TimeSpan{1, 2}, TimeSpan{4, 6}));
}

TEST(SimulateTest, CommunicationChangesNoTimeAndShowsTheMessages) {
  std::mt19937 random(7);
  const auto duration = [&] { return 1 + static_cast<double>(random() % 9); };
  for (const ScheduleShape& shape : SmallShapes(6, 12)) {
    const Schedule bare = *MakeSchedule(shape);
    PipelineCosts costs = {.stages = {}, .overlapped = {}, .transfer = duration()};
    for (int s = 0; s < bare.stages; ++s) {
      costs.stages.push_back({.forward = duration(), .input = duration(), .weight = duration()});
    }
    const Schedule full = InsertCommunication(bare);
    const Timeline expected = TimelineOf(bare, costs), timeline = TimelineOf(full, costs);
    ASSERT_EQ(timeline.makespan, expected.makespan);
    for (int rank = 0; rank < bare.ranks(); ++rank) {
      std::vector<TimeSpan> computing;
      for (size_t i = 0; i < full.actions[rank].size(); ++i) {
        const TimeSpan& interval = timeline.ranks[rank].actions[i];
        if (!full.actions[rank][i].communicates()) {
          computing.push_back(interval);
        } else {
          ASSERT_EQ(interval.end - interval.begin, costs.transfer);
        }
      }
      ASSERT_EQ(computing, expected.ranks[rank].actions);
    }
  }
  PipelineCosts costs = PipelineCosts::Uniform(2, {});
  costs.transfer = 5;
  const Schedule schedule = InsertCommunication(Make(ScheduleKind::k1F1B, 2, 1));  // 0F0 0SF0 0RB0 0B0, 1RF0 1F0 1B0 1SB0
  const Timeline timeline = TimelineOf(schedule, costs);
  EXPECT_THAT(timeline.ranks[0].actions, ElementsAre(TimeSpan{0, 1}, TimeSpan{1, 6}, TimeSpan{9, 14}, TimeSpan{14, 16}));
  EXPECT_THAT(timeline.ranks[1].actions, ElementsAre(TimeSpan{1, 6}, TimeSpan{6, 7}, TimeSpan{7, 9}, TimeSpan{9, 14}));
}

TEST(SimulateTest, MessageLeavesWhenItsRankComesToTheSend) {
  const Schedule late = Parse(
      "schedule s stages 2 micro_batches 2\nroute 0 1\n"
      "rank 0F0 0F1 0SF0 0SF1 0RB0 0B0 0RB1 0B1\nrank 1RF0 1F0 1RF1 1B0 1SB0 1F1 1B1 1SB1\n");
  const Timeline timeline = TimelineOf(late, PipelineCosts::Uniform(2, {}));
  EXPECT_EQ(timeline.ranks[1].actions[1], (TimeSpan{2, 3}));  // not at 1, when the first forward ends
  EXPECT_EQ(timeline.ranks[0].actions[2], (TimeSpan{2, 2}));
}

TEST(SimulateTest, BytesFollowTheirLastReader) {
  const StageCosts stage = {.until_b = 100, .until_w = 10, .stash = 1, .weights = 1000};
  const auto peak = [&](const std::string& actions) {
    const Schedule schedule = Parse("schedule s stages 1 micro_batches 2\nroute 0\nrank " + actions);
    return TimelineOf(schedule, PipelineCosts::Uniform(1, stage)).ranks[0].peak_activation_bytes;
  };
  EXPECT_EQ(peak("0F0 0B0 0F1 0B1"), 110);
  EXPECT_EQ(peak("0F0 0F1 0B0 0B1"), 220);
  EXPECT_EQ(peak("0F0 0F1&0B0 0B1"), 220);          // the pair holds both
  EXPECT_EQ(peak("0F0 0I0 0W0 0F1 0I1 0W1"), 111);  // the stash while I runs
  EXPECT_EQ(peak("0F0 0I0 0F1 0W0 0I1 0W1"), 121);  // until_w and stash wait for W
  EXPECT_EQ(peak("0F0 0I0 0F1 0I1 0W0 0W1"), 122);
}

TEST(SimulateTest, RecomputationKeepsLess) {
  const StageCosts stage = {.until_b = 100, .until_w = 10, .stash = 0, .kept = 7};
  const Schedule schedule = Make(ScheduleKind::kGPipe, 1, 3);
  const auto peak = [&](int recomputed) {
    const auto filter = [=](int, const Task& task) { return task.micro_batch < recomputed; };
    const Schedule longer = InsertRecompute(schedule, filter);
    return TimelineOf(longer, PipelineCosts::Uniform(1, stage)).ranks[0].peak_activation_bytes;
  };
  EXPECT_EQ(peak(0), 330);
  EXPECT_EQ(peak(1), 330);  // its R runs while the other two are whole
  EXPECT_EQ(peak(3), 110 + 2 * 7);
}

TEST(SimulateTest, WeightsOfAllStagesThatARankHolds) {
  PipelineCosts costs = PipelineCosts::Uniform(4, {});
  for (int s = 0; s < 4; ++s) costs.stages[s].weights = 1 << s;
  const auto weights = [&](const Schedule& schedule) {
    std::vector<int64_t> bytes;
    for (const RankTimeline& rank : TimelineOf(schedule, costs).ranks) bytes.push_back(rank.weight_bytes);
    return bytes;
  };
  EXPECT_THAT(weights(Make(ScheduleKind::k1F1B, 4, 4)), ElementsAre(1, 2, 4, 8));
  EXPECT_THAT(weights(Make(ScheduleKind::kDualPipe, 4, 8)), ElementsAre(9, 6, 6, 9));
  EXPECT_THAT(weights(Make(ScheduleKind::kInterleaved, 2, 4, 2)), ElementsAre(5, 10));
  EXPECT_THAT(weights(Make(ScheduleKind::kDualPipeV, 2, 4)), ElementsAre(9, 6));
}

TEST(SimulateTest, RefusesCostsThatDoNotFit) {
  const Schedule schedule = Make(ScheduleKind::k1F1B, 2, 2);
  const auto refusal = [&](const PipelineCosts& costs) {
    const auto timeline = Simulate(schedule, costs);
    EXPECT_EQ(ExitCodeOf(timeline.status()), ExitCode::kUsage);
    return std::string(timeline.status().message());
  };
  EXPECT_THAT(refusal(PipelineCosts::Uniform(3, {})), HasSubstr("costs of 3 stages for a schedule of 2"));
  EXPECT_THAT(refusal(PipelineCosts::Uniform(2, {.input = -1})), HasSubstr("stage 0: durations F 1, I -1"));
  EXPECT_THAT(refusal(PipelineCosts::Uniform(2, {.forward = std::nan("")})), HasSubstr("stage 0"));
  EXPECT_THAT(refusal(PipelineCosts::Uniform(2, {.until_w = -1})), HasSubstr("bytes"));
  EXPECT_TRUE(Simulate(schedule, PipelineCosts::Uniform(2, {}, 0.5)).ok());  // it has no pairs
  const auto pairs = Simulate(Make(ScheduleKind::kDualPipe, 2, 4), PipelineCosts::Uniform(2, {}, 0.5));
  EXPECT_THAT(std::string(pairs.status().message()), HasSubstr("takes 0.5: at least its W, 1"));
  PipelineCosts costs = PipelineCosts::Uniform(2, {}, 3);
  costs.overlapped.pop_back();
  EXPECT_THAT(refusal(costs), HasSubstr("3 durations of overlapped pairs: 2 stages need 4"));
  costs = PipelineCosts::Uniform(2, {});
  costs.stages[1].weight = INFINITY;
  EXPECT_THAT(refusal(costs), HasSubstr("stage 1"));
  costs = PipelineCosts::Uniform(2, {});
  costs.transfer = -1;
  EXPECT_THAT(refusal(costs), HasSubstr("a transfer of -1"));
  EXPECT_FALSE(Simulate(Schedule{}, costs).ok());
}

}  // namespace
}  // namespace jevons
