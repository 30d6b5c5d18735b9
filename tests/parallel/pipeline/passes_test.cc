#include "parallel/pipeline/passes.h"

#include <map>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/pipeline/validate.h"
#include "parallel/pipeline/walk.h"
#include "tests/parallel/pipeline/pipeline_cases.h"

namespace jevons {
namespace {

bool All(int, const Task&) { return true; }

TEST(PassesTest, SplitsAndJoinsBackwards) {
  const Schedule whole = Parse("schedule s stages 2 micro_batches 2\nroute 0 0\nrank 0F0 1F0 0F1 1F1&1B0 0B0 1B1 0B1\n");
  const Schedule split = SplitBackward(whole, All);
  EXPECT_EQ(ToString(split),
            "schedule s stages 2 micro_batches 2\nroute 0 0\n"
            "rank 0F0 1F0 0F1 1F1&1I0 1W0 0I0 0W0 1I1 1W1 0I1 0W1\n");
  EXPECT_EQ(JoinBackward(split, All), whole);
  const Schedule some = SplitBackward(whole, [](int, const Task& task) { return task.stage == 0; });
  EXPECT_EQ(ToString(some), "schedule s stages 2 micro_batches 2\nroute 0 0\nrank 0F0 1F0 0F1 1F1&1B0 0I0 0W0 1B1 0I1 0W1\n");
}

TEST(PassesTest, JoinsOnlyWhatStandsTogether) {
  const Schedule apart = Parse("schedule s stages 1 micro_batches 2\nroute 0\nrank 0F0 0I0 0F1 0W0 0I1 0W1\n");
  EXPECT_EQ(ToString(JoinBackward(apart, All)), "schedule s stages 1 micro_batches 2\nroute 0\nrank 0F0 0I0 0F1 0W0 0B1\n");
  EXPECT_EQ(JoinBackward(apart, [](int, const Task& task) { return task.micro_batch == 0; }), apart);
}

TEST(PassesTest, RecomputesBeforeTheBackward) {
  const Schedule schedule = Parse("schedule s stages 1 micro_batches 3\nroute 0\nrank 0F0 0F1 0F2&0B0 0I1 0W1 0B2\n");
  const auto filter = [](int rank, const Task& task) { return rank == 0 && task.micro_batch != 2; };
  const Schedule longer = InsertRecompute(schedule, filter);
  EXPECT_EQ(ToString(longer), "schedule s stages 1 micro_batches 3\nroute 0\nrank 0F0 0F1 0R0 0F2&0B0 0R1 0I1 0W1 0B2\n");
  EXPECT_EQ(Validate(longer), absl::OkStatus());
}

TEST(PassesTest, WhatTheyMakeOfEveryScheduleIsValid) {
  for (const ScheduleShape& shape : SmallShapes(5, 12)) {
    const Schedule schedule = *MakeSchedule(shape);
    const Schedule split = SplitBackward(schedule, All);
    ASSERT_EQ(Validate(split), absl::OkStatus());
    ASSERT_EQ(Validate(JoinBackward(split, All)), absl::OkStatus());
    ASSERT_EQ(Validate(InsertCommunication(InsertRecompute(split, All))), absl::OkStatus());
  }
}

TEST(PassesTest, CommunicationKeepsTheActionsAndTheirOrder) {
  for (const ScheduleShape& shape : SmallShapes(4, 9)) {
    const Schedule bare = *MakeSchedule(shape);
    Schedule schedule = InsertCommunication(bare);
    for (auto& list : schedule.actions) {
      std::erase_if(list, [](const Action& action) { return action.communicates(); });
    }
    ASSERT_EQ(schedule, bare);
  }
}

// What NCCL needs: between two ranks, and in one queue per rank, everything in one order.
TEST(PassesTest, BothEndsOfEveryPairOfRanksAgreeOnTheOrder) {
  for (const ScheduleShape& shape : SmallShapes(6, 12)) {
    const Schedule schedule = InsertCommunication(*MakeSchedule(shape));
    std::map<std::pair<int, int>, std::vector<std::string>> seen;  // (rank, its peer) -> messages, by their sends
    for (int rank = 0; rank < schedule.ranks(); ++rank) {
      for (const Action& action : schedule.actions[rank]) {
        if (!action.communicates()) continue;
        const Task task = action.first(), peer = PeerOf(task);
        const bool send = task.kind == TaskKind::kSendForward || task.kind == TaskKind::kSendBackward;
        seen[{rank, schedule.RankOf(peer.stage, peer.micro_batch)}].push_back(ToString(send ? task : peer));
      }
    }
    for (const auto& [ranks, messages] : seen) {
      ASSERT_EQ(messages, (seen[{ranks.second, ranks.first}])) << ranks.first << " and " << ranks.second;
    }
  }
}

// When the last W or B of the stage is over, what others wait for goes first; and no higher stage is left.
TEST(PassesTest, ReducesAStageAsSoonAsItIsDone) {
  EXPECT_EQ(ToString(InsertReductions(Parse("schedule s stages 2 micro_batches 2\nroute 0 0\n"
                                            "rank 0F0 1F0 0F1 1F1 1B0 1I1 0I0 1W1 0W0 0B1\n"))),
            "schedule s stages 2 micro_batches 2\nroute 0 0\n"
            "rank 0F0 1F0 0F1 1F1 1B0 1I1 0I0 1W1 1G0 0W0 0B1 0G0\n");
  EXPECT_EQ(ToString(InsertReductions(Parse("schedule s stages 2 micro_batches 1\nroute 0 0\nrank 0F0 1F0 1I0 0B0 1W0\n"))),
            "schedule s stages 2 micro_batches 1\nroute 0 0\nrank 0F0 1F0 1I0 0B0 1W0 1G0 0G0\n")
      << "stage 0 is done first, but its turn is second";
  EXPECT_EQ(ToString(InsertReductions(
                Parse("schedule s stages 2 micro_batches 1\nroute 0 1\nrank 0F0 0SF0 0RB0 0B0\nrank 1RF0 1F0 1B0 1SB0\n"))),
            "schedule s stages 2 micro_batches 1\nroute 0 1\nrank 0F0 0SF0 0RB0 0B0 0G0\nrank 1RF0 1F0 1B0 1SB0 1G0\n");
}

TEST(PassesTest, ReductionsOfEveryScheduleAreValid) {
  for (const ScheduleShape& shape : SmallShapes(4, 9)) {
    for (const Schedule& before : {*MakeSchedule(shape), InsertCommunication(*MakeSchedule(shape))}) {
      Schedule schedule = InsertReductions(before);
      ASSERT_EQ(Validate(schedule), absl::OkStatus());
      ASSERT_TRUE(schedule.reduces());
      ASSERT_FALSE(ForwardOnly(schedule).reduces());
      for (auto& list : schedule.actions)
        std::erase_if(list, [](const Action& action) { return action.first().kind == TaskKind::kReduce; });
      ASSERT_EQ(schedule, before);
    }
  }
}

// A rank that holds both ends goes on with the early stage when the late one is done.
TEST(PassesTest, SomethingIsLeftToComputeBesideTheFirstReduction) {
  for (const ScheduleKind kind : {ScheduleKind::kInterleaved, ScheduleKind::kDualPipe, ScheduleKind::kDualPipeV}) {
    const Schedule schedule = InsertReductions(Make(kind, 4, 8, kind == ScheduleKind::kInterleaved ? 2 : 1));
    for (const auto& list : schedule.actions) {
      const auto reduces = [](const Action& action) { return action.first().kind == TaskKind::kReduce; };
      const auto first = std::find_if(list.begin(), list.end(), reduces), second = std::find_if(first + 1, list.end(), reduces);
      EXPECT_GT(second - first, 1) << ToString(schedule);
      EXPECT_EQ(second, list.end() - 1);
    }
  }
}

TEST(PassesDeathTest, CommunicationComesLast) {
  const Schedule schedule = InsertCommunication(Make(ScheduleKind::k1F1B, 2, 2));
  const Schedule reduces = InsertReductions(Make(ScheduleKind::k1F1B, 2, 2));
  for (const Schedule& late : {schedule, reduces}) {
    EXPECT_DEATH(SplitBackward(late, All), "communication and reductions are inserted last");
    EXPECT_DEATH(InsertCommunication(late), "communication and reductions are inserted last");
  }
}

}  // namespace
}  // namespace jevons
