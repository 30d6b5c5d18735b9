#include "parallel/pipeline/validate.h"

#include <algorithm>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/pipeline/passes.h"
#include "parallel/pipeline/walk.h"
#include "tests/parallel/pipeline/pipeline_cases.h"

namespace jevons {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string Refusal(const Schedule& schedule) {
  const absl::Status status = Validate(schedule);
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kUsage) << ToString(schedule);
  return std::string(status.message());
}
std::string Refusal(const std::string& text) { return Refusal(Parse(text)); }

// Two ranks, two micro-batches.
std::string Two(const std::string& rank0, const std::string& rank1) {
  return "schedule two stages 2 micro_batches 2\nroute 0 1\nrank " + rank0 + "\nrank " + rank1 + "\n";
}
constexpr char kRank0[] = "0F0 0F1 0B0 0B1", kRank1[] = "1F0 1B0 1F1 1B1";

TEST(ValidateTest, TakesAStepAndItsVariants) {
  for (const std::string& text :
       {Two(kRank0, kRank1), Two("0F0 0F1 0I0 0W0 0R1 0B1", "1F0 1I0 1F1 1W0 1B1"), Two("0F0 0F1 0B1 0B0", "1F1 1B1 1F0 1B0"),
        Two("0F0 0F1&0B0 0B1", kRank1), Two("0F0 0SF0 0F1 0RB0 0SF1 0B0 0RB1 0B1", "1RF0 1F0 1B0 1SB0 1RF1 1F1 1B1 1SB1")}) {
    EXPECT_EQ(Validate(Parse(text)), absl::OkStatus()) << text;
  }
}

TEST(ValidateTest, ShowsTheGridWithTheWrongCell) {
  EXPECT_EQ(Refusal(Two(kRank0, "1B0 1F0 1F1 1B1")),
            "rank 1 runs 1B0 before 1F0, whose result it needs\n"
            "  rank  0 | 0F0      0F1      0B0      0B1     \n"
            "  rank  1 | >>1B0<<  1F0      1F1      1B1     \n");
}

TEST(ValidateTest, EveryStageOfEveryMicroBatchOnce) {
  EXPECT_THAT(Refusal(Two("0F0 0F1 0B0 0F1", kRank1)), AllOf(HasSubstr("0F1 twice: already at place 1"), HasSubstr(">>0F1<<")));
  EXPECT_THAT(Refusal(Two("0F0 0F1 0B0", kRank1)), AllOf(HasSubstr("rank 0 never runs 0B1"), HasSubstr(">>end<<")));
  EXPECT_THAT(Refusal(Two("0F0 0F1 0I0 0B1", kRank1)), HasSubstr("rank 0 never runs 0W0"));
  EXPECT_THAT(Refusal(Two("0F0 0F1 0B0 0B1 0W1", kRank1)), AllOf(HasSubstr("full backward"), HasSubstr(">>0W1<<")));
  EXPECT_THAT(Refusal(Two("0F0 0F1 0I0 0B0 0W0 0B1", kRank1)), AllOf(HasSubstr("though a backward"), HasSubstr(">>0B0<<")));
}

TEST(ValidateTest, OnItsRankInRange) {
  EXPECT_THAT(Refusal(Two("0F0 1F1 0B0 0B1", kRank1)), AllOf(HasSubstr("belongs on rank 1"), HasSubstr(">>1F1<<")));
  EXPECT_THAT(Refusal(Two("0F0 0F1 0B0 2B1", kRank1)), AllOf(HasSubstr("there are 2 stages"), HasSubstr(">>2B1<<")));
  EXPECT_THAT(Refusal(Two("0F0 0F1 0B0 0B2", kRank1)), AllOf(HasSubstr("of micro-batch 2"), HasSubstr(">>0B2<<")));
}

TEST(ValidateTest, AfterWhatItNeeds) {
  EXPECT_THAT(Refusal(Two("0F0 0W0 0I0 0F1 0B1", kRank1)), AllOf(HasSubstr("0W0 before 0I0"), HasSubstr(">>0W0<<")));
  EXPECT_THAT(Refusal(Two("0R0 0F0 0F1 0B0 0B1", kRank1)), HasSubstr(">>0R0<<"));
  EXPECT_THAT(Refusal(Two("0F0 0F1 0B0 0R0 0B1", kRank1)), AllOf(HasSubstr("after the backward"), HasSubstr(">>0R0<<")));
  EXPECT_THAT(Refusal(Two("0F0&0B0 0F1 0B1", kRank1)), AllOf(HasSubstr("0B0 before 0F0"), HasSubstr(">>0F0&0B0<<")));
}

TEST(ValidateTest, DeadlockNamesTheCircle) {
  const std::string message = Refusal(Two("0F0 0B0 0F1 0B1", "1F1 1B1 1F0 1B0"));
  EXPECT_THAT(message, HasSubstr("deadlock: rank 0 at 0B0 waits for 1B0 of rank 1, rank 1 at 1F1 waits for 0F1 of rank 0\n"));
  EXPECT_THAT(message, AllOf(HasSubstr(">>0B0<<"), HasSubstr(">>1F1<<"), Not(HasSubstr(">>1B1<<"))));
  // One rank that holds both stages.
  EXPECT_THAT(Refusal("schedule s stages 2 micro_batches 1\nroute 0 0\nrank 1F0 0F0 1B0 0B0\n"),
              AllOf(HasSubstr("rank 0 at 1F0 waits for 0F0 of rank 0"), HasSubstr(">>1F0<<")));
}

TEST(ValidateTest, SendsMatchReceives) {
  const auto two = [](const std::string& rank0, const std::string& rank1) { return Refusal(Two(rank0, rank1)); };
  const std::string good0 = "0F0 0SF0 0F1 0RB0 0SF1 0B0 0RB1 0B1", good1 = "1RF0 1F0 1B0 1SB0 1RF1 1F1 1B1 1SB1";
  EXPECT_THAT(two("0F0 0SF0 0F1 0RB0 0B0 0RB1 0B1", good1), HasSubstr("rank 0 never runs 0SF1"));
  EXPECT_THAT(two(good0, "1RF0 1F0 1B0 1SB0 1F1 1B1 1SB1"), HasSubstr("rank 1 never runs 1RF1"));
  EXPECT_THAT(two("0SF0 0F0 0F1 0RB0 0SF1 0B0 0RB1 0B1", good1), AllOf(HasSubstr("anything to send"), HasSubstr(">>0SF0<<")));
  EXPECT_THAT(two(good0, "1F0 1RF0 1B0 1SB0 1RF1 1F1 1B1 1SB1"), AllOf(HasSubstr("after the task"), HasSubstr(">>1RF0<<")));
  EXPECT_THAT(two(good0, good1 + " 1SF1"), AllOf(HasSubstr("past the end"), HasSubstr(">>1SF1<<")));
  EXPECT_THAT(two(good0 + " 0SF1", good1), AllOf(HasSubstr("twice"), HasSubstr(">>0SF1<<")));
  // Both send first: each would wait for the other to receive.
  EXPECT_THAT(two("0F0 0SF0 0F1 0SF1 0RB0 0B0 0RB1 0B1", good1),
              HasSubstr("deadlock: rank 0 at 0SF1 waits for 1RF1 of rank 1, rank 1 at 1SB0 waits for 0RB0 of rank 0"));
  EXPECT_THAT(Refusal("schedule s stages 2 micro_batches 1\nroute 0 0\nrank 0F0 0SF0 1RF0 1F0 1B0 0B0\n"),
              AllOf(HasSubstr("to itself"), HasSubstr(">>0SF0<<")));
}

TEST(ValidateTest, ReducesEveryStageOnceWhenItIsDone) {
  EXPECT_EQ(Validate(Parse(Two("0F0 0F1 0B0 0B1 0G0", "1F0 1I0 1F1 1B1 1W0 1G0"))), absl::OkStatus());
  EXPECT_THAT(Refusal(Two("0F0 0F1 0B0 0B1 0G0", kRank1)), AllOf(HasSubstr("rank 1 never runs 1G0"), HasSubstr(">>end<<")));
  EXPECT_THAT(Refusal(Two("0F0 0F1 0B0 0G0 0B1", "1F0 1B0 1F1 1B1 1G0")),
              AllOf(HasSubstr("0B1 after the gradients of stage 0 were reduced"), HasSubstr(">>0B1<<")));
  EXPECT_THAT(Refusal(Two("0F0 0F1 0B0 0I1 0G0 0W1", "1F0 1B0 1F1 1B1 1G0")), HasSubstr(">>0W1<<"));
  EXPECT_THAT(Refusal(Two("0F0 0F1 0B0 0B1 0G0 0G0", kRank1)), HasSubstr("0G0 twice"));
  EXPECT_THAT(Refusal(Two("0F0 0F1 0B0 0B1 0G1", kRank1)), HasSubstr("0G1 where it is called 0G0"));
  EXPECT_THAT(Refusal(Two("0F0 0F1 0B0 0B1 1G0", kRank1)), HasSubstr("belongs on rank 1"));
  // Both copies of a stage, and both ranks in one order.
  const auto both = [](const std::string& rank0, const std::string& rank1) {
    return Parse("schedule both stages 2 micro_batches 2\nroute 0 1\nroute 1 0\nrank " + rank0 + "\nrank " + rank1 + "\n");
  };
  EXPECT_EQ(Validate(both("0F0 1F1 1B1 0B0 1G1 0G0", "0F1 1F0 1B0 1G0 0B1 0G1")), absl::OkStatus());
  EXPECT_THAT(Refusal(both("0F0 1F1 1B1 0B0 0G0 1G1", "0F1 1F0 1B0 1G0 0B1 0G1")),
              HasSubstr("rank 0 runs 1G1 after stage 0: all ranks reduce the higher stage first"));
  EXPECT_THAT(Refusal(both("0F0 1F1 1B1 0B0 1G1", "0F1 1F0 1B0 1G0 0B1 0G1")), HasSubstr("rank 0 never runs 0G0"));
  EXPECT_THAT(Refusal("schedule s stages 1 micro_batches 1 forward_only\nroute 0\nrank 0F0 0G0\n"),
              HasSubstr("0G0 in a forward-only schedule"));
}

TEST(ValidateTest, CountsAndRoutes) {
  EXPECT_THAT(Refusal("schedule s stages 0 micro_batches 1\nroute\nrank 0F0\n"), HasSubstr("0 stages"));
  EXPECT_THAT(Refusal("schedule s stages 1 micro_batches 1\nrank 0F0 0B0\n"), HasSubstr("0 routes"));
  EXPECT_THAT(Refusal("schedule s stages 1 micro_batches 1\nroute 0\nroute 0\nrank 0F0 0B0\n"), HasSubstr("2 routes"));
  EXPECT_THAT(Refusal("schedule s stages 1 micro_batches 1\nroute 1\nrank 0F0 0B0\n"), HasSubstr("a rank below 1"));
  EXPECT_THAT(Refusal("schedule s stages 2 micro_batches 1\nroute 0\nrank 0F0 0B0\n"), HasSubstr("each of the 2 stages"));
  EXPECT_THAT(Refusal("schedule s stages 1 micro_batches 2000000000\nroute 0\nrank 0F0 0B0\n"), HasSubstr("need more"));
  EXPECT_THAT(Refusal(Schedule()), HasSubstr("at least 1 of each"));
}

// --- Mutations: one change to a valid schedule, at random.

struct Mutant {
  Schedule schedule;
  std::string action;  // what the change concerns
  int rank;
};

class MutationTest : public testing::TestWithParam<int> {
 protected:
  int Pick(size_t below) { return static_cast<int>(random_() % below); }
  Mutant Random() {
    static const auto* shapes = [] {
      auto* several_ranks = new std::vector<ScheduleShape>(SmallShapes(5, 12));
      std::erase_if(*several_ranks, [](const ScheduleShape& shape) { return shape.pp == 1; });
      return several_ranks;
    }();
    Mutant mutant = {*MakeSchedule((*shapes)[Pick(shapes->size())]), "", 0};
    mutant.rank = Pick(mutant.schedule.ranks());
    return mutant;
  }
  std::mt19937 random_{static_cast<uint32_t>(GetParam())};
};

TEST_P(MutationTest, DroppedActionIsMissed) {
  Mutant m = Random();
  auto& list = m.schedule.actions[m.rank];
  const int at = Pick(list.size());
  const std::string dropped = ToString(list[at].first());
  list.erase(list.begin() + at);
  const std::string message = Refusal(m.schedule);
  EXPECT_THAT(message, HasSubstr(dropped));
  EXPECT_THAT(message, HasSubstr("rank " + std::to_string(m.rank)));
  EXPECT_THAT(message, HasSubstr(">>"));
}

TEST_P(MutationTest, RepeatedActionIsMarked) {
  Mutant m = Random();
  auto& list = m.schedule.actions[m.rank];
  const Action repeated = list[Pick(list.size())];
  list.push_back(repeated);
  EXPECT_THAT(Refusal(m.schedule),
              AllOf(HasSubstr("rank " + std::to_string(m.rank)), HasSubstr(">>" + ToString(repeated) + "<<")));
}

TEST_P(MutationTest, ActionOnAnotherRankIsMarked) {
  Mutant m = Random();
  auto& list = m.schedule.actions[m.rank];
  const int at = Pick(list.size());
  const Action moved = list[at];
  list.erase(list.begin() + at);
  const int other = (m.rank + 1) % m.schedule.ranks();
  auto& target = m.schedule.actions[other];
  target.insert(target.begin() + Pick(target.size() + 1), moved);
  const std::string message = Refusal(m.schedule);
  // Ranks are read in order, so what the first one lacks may be named before the stranger on the second.
  if (other < m.rank) {
    EXPECT_THAT(message, AllOf(HasSubstr("belongs on rank " + std::to_string(m.rank)), HasSubstr(">>" + ToString(moved) + "<<")));
  } else {
    EXPECT_THAT(message, HasSubstr(ToString(moved.first())));
  }
}

TEST_P(MutationTest, BackwardBeforeItsForwardIsMarked) {
  Mutant m = Random();
  auto& list = m.schedule.actions[m.rank];
  const auto forward = std::find_if(list.begin(), list.end(), [](const Action& a) { return !a.overlapped(); });
  const auto backward = std::find_if(forward, list.end(), [&](const Action& a) {
    const Task& task = a.tasks().back();
    return MakesInputGradient(task.kind) && task.stage == forward->first().stage &&
           task.micro_batch == forward->first().micro_batch;
  });
  ASSERT_NE(backward, list.end());
  const Action early = *backward;
  std::rotate(forward, backward, backward + 1);
  EXPECT_THAT(Refusal(m.schedule),
              AllOf(HasSubstr(ToString(early.tasks().back()) + " before"), HasSubstr(">>" + ToString(early) + "<<")));
}

TEST_P(MutationTest, DroppedReductionIsMissed) {
  Mutant m = Random();
  m.schedule = InsertReductions(m.schedule);
  auto& list = m.schedule.actions[m.rank];
  std::vector<size_t> reductions;
  for (size_t i = 0; i < list.size(); ++i)
    if (list[i].first().kind == TaskKind::kReduce) reductions.push_back(i);
  const size_t at = reductions[static_cast<size_t>(Pick(reductions.size()))];
  const std::string dropped = ToString(list[at]);
  list.erase(list.begin() + static_cast<std::ptrdiff_t>(at));
  EXPECT_THAT(Refusal(m.schedule), HasSubstr("rank " + std::to_string(m.rank) + " never runs " + dropped));
}

TEST_P(MutationTest, DroppedMessageIsMissed) {
  Mutant m = Random();
  m.schedule = InsertCommunication(m.schedule);
  auto& list = m.schedule.actions[m.rank];
  std::vector<int> messages;
  for (size_t i = 0; i < list.size(); ++i) {
    if (list[i].communicates()) messages.push_back(static_cast<int>(i));
  }
  const int at = messages[Pick(messages.size())];
  const std::string dropped = ToString(list[at]);
  list.erase(list.begin() + at);
  EXPECT_THAT(Refusal(m.schedule), HasSubstr("rank " + std::to_string(m.rank) + " never runs " + dropped));
}

// Any cells at all, in and out of range: refused in words or right, never a crash or a hang.
TEST_P(MutationTest, RandomCellsGetAnAnswer) {
  for (int round = 0; round < 50; ++round) {
    Mutant m = Random();
    if (round % 2 == 0) m.schedule = InsertCommunication(m.schedule);
    if (round % 3 == 0) m.schedule = InsertReductions(m.schedule);
    for (int changes = 1 + Pick(4); changes > 0; --changes) {
      auto& list = m.schedule.actions[Pick(m.schedule.ranks())];
      if (list.empty()) continue;
      const Task task = {static_cast<TaskKind>(Pick(10)), Pick(m.schedule.stages + 2) - 1,
                         Pick(m.schedule.micro_batches + 2) - 1};
      Action& cell = list[Pick(list.size())];
      cell = Pick(3) == 0 ? Action::Overlap(cell.first(), task) : Action(task);
      std::swap(list[Pick(list.size())], list[Pick(list.size())]);
    }
    const absl::Status status = Validate(m.schedule);
    EXPECT_TRUE(status.ok() || ExitCodeOf(status) == ExitCode::kUsage);
  }
}

// Two neighbours change places: valid still, or refused; and what is valid runs to its end.
TEST_P(MutationTest, SwappedNeighboursAreRefusedOrRun) {
  for (int round = 0; round < 20; ++round) {
    Mutant m = Random();
    if (round % 2 == 0) m.schedule = InsertCommunication(m.schedule);
    if (round % 3 == 0) m.schedule = InsertReductions(m.schedule);
    auto& list = m.schedule.actions[m.rank];
    const int at = Pick(list.size() - 1);
    std::swap(list[at], list[at + 1]);
    const absl::Status status = Validate(m.schedule);
    if (status.ok()) {
      EXPECT_EQ(WalkGrid(m.schedule).order.size(), static_cast<size_t>(m.schedule.action_count()));
    } else {
      EXPECT_THAT(std::string(status.message()), HasSubstr(">>"));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, MutationTest, testing::Range(0, 60));

}  // namespace
}  // namespace jevons
