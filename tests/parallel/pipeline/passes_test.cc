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
  const Schedule whole =
      Parse("schedule s stages 2 micro_batches 2\nroute 0 0\nrank 0F0 1F0 0F1 1F1&1B0 0B0 1B1 0B1\n");
  const Schedule split = SplitBackward(whole, All);
  EXPECT_EQ(ToString(split),
            "schedule s stages 2 micro_batches 2\nroute 0 0\n"
            "rank 0F0 1F0 0F1 1F1&1I0 1W0 0I0 0W0 1I1 1W1 0I1 0W1\n");
  EXPECT_EQ(JoinBackward(split, All), whole);
  const Schedule some = SplitBackward(whole, [](int, const Task& task) { return task.stage == 0; });
  EXPECT_EQ(ToString(some),
            "schedule s stages 2 micro_batches 2\nroute 0 0\nrank 0F0 1F0 0F1 1F1&1B0 0I0 0W0 1B1 0I1 0W1\n");
}

TEST(PassesTest, JoinsOnlyWhatStandsTogether) {
  const Schedule apart =
      Parse("schedule s stages 1 micro_batches 2\nroute 0\nrank 0F0 0I0 0F1 0W0 0I1 0W1\n");
  EXPECT_EQ(ToString(JoinBackward(apart, All)),
            "schedule s stages 1 micro_batches 2\nroute 0\nrank 0F0 0I0 0F1 0W0 0B1\n");
  EXPECT_EQ(JoinBackward(apart, [](int, const Task& task) { return task.micro_batch == 0; }), apart);
}

TEST(PassesTest, RecomputesBeforeTheBackward) {
  const Schedule schedule =
      Parse("schedule s stages 1 micro_batches 3\nroute 0\nrank 0F0 0F1 0F2&0B0 0I1 0W1 0B2\n");
  const auto filter = [](int rank, const Task& task) { return rank == 0 && task.micro_batch != 2; };
  const Schedule longer = InsertRecompute(schedule, filter);
  EXPECT_EQ(ToString(longer),
            "schedule s stages 1 micro_batches 3\nroute 0\nrank 0F0 0F1 0R0 0F2&0B0 0R1 0I1 0W1 0B2\n");
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
    std::map<std::pair<int, int>, std::vector<std::string>>
        seen;  // (rank, its peer) -> messages, by their sends
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

TEST(PassesDeathTest, CommunicationComesLast) {
  const Schedule schedule = InsertCommunication(Make(ScheduleKind::k1F1B, 2, 2));
  EXPECT_DEATH(SplitBackward(schedule, All), "communication is inserted last");
  EXPECT_DEATH(InsertCommunication(schedule), "communication is inserted last");
}

}  // namespace
}  // namespace jevons
