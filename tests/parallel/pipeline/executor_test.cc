#include "parallel/pipeline/executor.h"

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <latch>
#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/comm/loopback.h"
#include "parallel/comm/watchdog.h"
#include "parallel/mesh.h"
#include "parallel/pipeline/passes.h"
#include "parallel/pipeline/validate.h"
#include "parallel/zero/background_reduction.h"
#include "parallel/zero/ownership.h"
#include "tests/parallel/pipeline/executor_checks.h"
#include "tests/parallel/pipeline/pipeline_cases.h"
#include "tests/support/slow_transport.h"

namespace jevons {
namespace {

using testing::HasSubstr;

Schedule Executable(const ScheduleShape& shape, bool recompute = false) {
  const auto schedule = ExecutableSchedule(shape, recompute);
  EXPECT_TRUE(schedule.ok()) << schedule.status().ToString();
  return *schedule;
}

void RunOverLoopback(const Schedule& schedule) {
  RunLoopback(schedule.ranks(), [&](Communicator& pp) { CheckExecutor(pp, schedule); });
}
void RunOverSlowTransport(const Schedule& schedule) {
  RunLoopback(
      schedule.ranks(), [&](Communicator& pp) { CheckExecutor(pp, schedule); }, Slow());
}

class ExecutorTest : public testing::TestWithParam<int> {
 protected:
  // A circle of waits ends the test soon.
  void SetUp() override { SetWatchdogDeadline(20); }
  void TearDown() override { SetWatchdogDeadline(300); }
};
INSTANTIATE_TEST_SUITE_P(Ranks, ExecutorTest, testing::Values(1, 2, 4, 8));

TEST_P(ExecutorTest, EveryScheduleGivesWhatASerialRunGives) {
  for (const Schedule& schedule : ExecutableSchedules(GetParam())) RunOverLoopback(schedule);
}

TEST_P(ExecutorTest, NoScheduleNeedsMessagesToBeBuffered) {
  for (const Schedule& schedule : ExecutableSchedules(GetParam())) RunOverSlowTransport(schedule);
}

TEST_P(ExecutorTest, ForwardsAloneGiveTheSameLoss) {
  for (const Schedule& schedule : ExecutableSchedules(GetParam())) {
    const Schedule forwards = ForwardOnly(schedule);
    ASSERT_TRUE(Validate(forwards).ok()) << Validate(forwards).ToString();
    RunOverSlowTransport(forwards);
  }
}

TEST_P(ExecutorTest, AnyValidListRuns) {
  std::mt19937 random(GetParam());
  for (int round = 0; round < 60; ++round) {
    const Schedule bare = RandomSchedule(random, GetParam());
    ASSERT_TRUE(Validate(bare).ok()) << Validate(bare).ToString();
    const Schedule schedule = InsertCommunication(bare);
    RunOverLoopback(schedule);
    RunOverLoopback(InsertReductions(schedule));
    RunOverSlowTransport(ForwardOnly(schedule));
  }
}

// Two pipelines whose stages meet in every task, as ranks of an ep group do: nobody waits in a circle through both.
TEST(ExecutorFuzzTest, PipelinesSideBySideWhoseStagesMeet) {
  SetWatchdogDeadline(20);
  for (int seed = 0; seed < 100; ++seed) {
    std::mt19937 random(seed);
    const int ranks = 2 + seed % 3;
    const Schedule schedule = InsertCommunication(RandomSchedule(random, ranks));
    SCOPED_TRACE("seed " + std::to_string(seed));
    const auto body = [&](Communicator& world) {
      Mesh mesh(world, {.world = 2 * ranks, .pp = ranks, .ep = 2});
      CheckExecutor(mesh.pp(), schedule, {.before = [&](const Task&) { mesh.ep().Barrier(); }});
    };
    RunLoopback(2 * ranks, body, seed % 2 == 0 ? Slow() : SlowAndRandom(seed));
  }
  SetWatchdogDeadline(300);
}

TEST(ExecutorFuzzTest, DelaysChangeNothing) {
  SetWatchdogDeadline(20);
  const char* asked = std::getenv("JEVONS_FUZZ_SEEDS");
  const int seeds = asked != nullptr ? std::atoi(asked) : 300;
  for (int seed = 0; seed < seeds; ++seed) {
    std::mt19937 random(seed);
    const int ranks = 2 + seed % 3;
    Schedule schedule = InsertCommunication(RandomSchedule(random, ranks));
    if (seed % 2 == 0) {
      const std::vector<Schedule> known = ExecutableSchedules(ranks);
      schedule = known[random() % known.size()];
    }
    SCOPED_TRACE("seed " + std::to_string(seed));
    RunLoopback(
        ranks,
        [&](Communicator& pp) {
          std::mt19937 delays(seed * 64 + 32 + pp.rank());
          CheckExecutor(pp, schedule, {.before = [&](const Task&) {
                          if (delays() % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(delays() % 200));
                        }});
        },
        SlowAndRandom(seed));
  }
  SetWatchdogDeadline(300);
}

TEST(ExecutableScheduleTest, OneRankTakesMicroBatchesOneByOne) {
  EXPECT_THAT(ToString(Executable({.kind = ScheduleKind::k1F1B, .pp = 1, .micro_batches = 3})),
              HasSubstr("\nrank 0F0 0B0 0F1 0B1 0F2 0B2 0G0\n"));
  EXPECT_THAT(ToString(Executable({.kind = ScheduleKind::k1F1B, .pp = 1, .micro_batches = 2}, true)),
              HasSubstr("\nrank 0F0 0R0 0B0 0F1 0R1 0B1 0G0\n"));
  EXPECT_EQ(ExitCodeOf(ExecutableSchedule({.kind = ScheduleKind::kDualPipe, .pp = 3}, false).status()), ExitCode::kUsage);
}

TEST(ForwardOnlyTest, KeepsTheForwardsAndTheirMessages) {
  const Schedule schedule = ForwardOnly(Executable({.kind = ScheduleKind::kDualPipeV, .pp = 2, .micro_batches = 4}));
  const std::string text = ToString(schedule);
  EXPECT_THAT(text, HasSubstr("schedule dualpipev stages 4 micro_batches 4 forward_only\n"));
  EXPECT_EQ(text.find_first_of("BIWG&", text.find("rank")), std::string::npos) << text;
  EXPECT_THAT(text, HasSubstr("1RF3"));
  const auto parsed = ParseSchedule(text);
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(*parsed, schedule);
}

TEST(ForwardOnlyTest, IsValidatedByTheSameRules) {
  const auto message = [](const std::string& lists) {
    return std::string(Validate(Parse("schedule test stages 2 micro_batches 2 forward_only\nroute 0 1\n" + lists)).message());
  };
  EXPECT_EQ(message("rank 0F0 0SF0 0F1 0SF1\nrank 1RF0 1F0 1RF1 1F1\n"), "");
  EXPECT_EQ(message("rank 0F0 0F1\nrank 1F0 1F1\n"), "");
  EXPECT_THAT(message("rank 0F0 0F1 0B0\nrank 1F0 1F1\n"), HasSubstr("runs 0B0 in a forward-only schedule"));
  EXPECT_THAT(message("rank 0F0 0SF0 0F1 0SF1\nrank 1RF0 1F0 1RF1\n"), HasSubstr("rank 1 never runs 1F1"));
  EXPECT_THAT(message("rank 0F0 0SF0 0F1\nrank 1RF0 1F0 1F1\n"), HasSubstr("rank 1 never runs 1RF1"));
  EXPECT_THAT(message("rank 0F0 0SF0 0F1 0SF1\nrank 1RF1 1F1 1RF0 1F0\n"), HasSubstr("deadlock"));
}

// Two pipelines whose ranks hold the same two stages. The ranks of the second come to a reduction when those of the first have run their lists to
// the end: so nothing in these has waited for a reduction.
TEST(ExecutorReductionTest, StopsNobody) {
  SetWatchdogDeadline(20);
  const Schedule schedule = Executable({.kind = ScheduleKind::kDualPipeV, .pp = 2, .micro_batches = 4});
  std::latch first_is_over(schedule.ranks());
  RunLoopback(2 * schedule.ranks(), [&](Communicator& world) {
    Mesh mesh(world, {.world = 2 * schedule.ranks(), .pp = schedule.ranks(), .ep = 1});
    const int pipeline = mesh.rank().dp;
    std::vector<int64_t> gradients(schedule.stages, 1 + pipeline);
    BackgroundReduction reduction({}, world.size());
    const ToyOptions options{.before = [&](const Task& task) {
      if (task.kind != TaskKind::kReduce) return;
      if (pipeline == 1) first_is_over.wait();
      reduction.Begin({}, {{&mesh.dp(), {Tensor::Of(&gradients[task.stage], {1})}}});
    }};
    ToyMemory memory;
    std::vector<std::unique_ptr<ToyStage>> stages(schedule.stages);
    std::vector<Stage*> given(schedule.stages);
    for (const int stage : schedule.StagesOf(mesh.rank().pp)) {
      stages[stage] = std::make_unique<ToyStage>(schedule, stage, options, memory);
      given[stage] = stages[stage].get();
    }
    Executor(schedule, mesh.pp(), {}, given).Run();
    if (pipeline == 0) first_is_over.count_down();
    reduction.Finish({});
    EXPECT_EQ(reduction.spans().size(), 2u);
    if (OwnedSlices(std::vector<int64_t>{1}, 2, pipeline).empty()) return;
    for (const int stage : schedule.StagesOf(mesh.rank().pp)) EXPECT_EQ(gradients[stage], 3);
  });
  SetWatchdogDeadline(300);
}

class ExecutorDeathTest : public testing::Test {
 protected:
  void SetUp() override { testing::FLAGS_gtest_death_test_style = "threadsafe"; }
};
const auto kLostPeer = testing::ExitedWithCode(static_cast<int>(ExitCode::kPeerLost));

// 2 stages on 2 ranks; every rank runs its own idea of the schedule.
void RunLists(double deadline, const std::string& of_rank_0, const std::string& of_rank_1, const ToyOptions& options = {}) {
  SetWatchdogDeadline(deadline);
  RunLoopback(2, [&](Communicator& world) {
    const auto pp = world.Split(0, "pp");
    const Schedule schedule =
        Parse("schedule test stages 2 micro_batches 4\nroute 0 1\n" + (world.rank() == 0 ? of_rank_0 : of_rank_1));
    CheckExecutor(*pp, schedule, options);
  });
}
// GPipe, micro-batches in order or not: they have 1, 0, 3 and 2 rows.
const char kOrder[] =
    "rank 0F0 0SF0 0F1 0SF1 0F2 0SF2 0F3 0SF3 0RB0 0B0 0RB1 0B1 0RB2 0B2 0RB3 0B3\n"
    "rank 1RF0 1F0 1RF1 1F1 1RF2 1F2 1RF3 1F3 1B0 1SB0 1B1 1SB1 1B2 1SB2 1B3 1SB3\n";
const char kOtherOrder[] =
    "rank 0F0 0SF0 0F1 0SF1 0F3 0SF3 0F2 0SF2 0RB0 0B0 0RB1 0B1 0RB2 0B2 0RB3 0B3\n"
    "rank 1RF0 1F0 1RF1 1F1 1RF3 1F3 1RF2 1F2 1B0 1SB0 1B1 1SB1 1B2 1SB2 1B3 1SB3\n";

TEST_F(ExecutorDeathTest, RanksThatRunDifferentSchedules) {
  EXPECT_EXIT(RunLists(20, kOrder, kOtherOrder), kLostPeer,
              "rank 1 of 2, pp.Receive, call 2 of the group.*rank 0 sent 0SF2 of 24 bytes, this rank expects "
              "0SF3 of 16 in 1RF3");
}

TEST_F(ExecutorDeathTest, ARankThatStopsIsNamedWithItsAction) {
  const auto stop_at = [](const Task& task) {
    return ToyOptions{.before = [task](const Task& now) {
      if (now == task) pause();
    }};
  };
  // In its own work, so that its message does not come.
  EXPECT_EXIT(RunLists(0.3, kOrder, kOrder, stop_at({TaskKind::kForward, 0, 2})), kLostPeer,
              "rank 1 of 2, pp.Receive, call 2 of the group.*waited 0.3 s in 1RF2 for rank 0, which has not come to "
              "0SF2; last calls: .*pp.Receive 2 in 1RF2 .open");
  // Before it takes what is sent to it: too many are under way.
  EXPECT_EXIT(RunLists(0.3, kOrder, kOrder, stop_at({TaskKind::kForward, 1, 0})), kLostPeer,
              "rank 0 of 2, pp.Send, call 1 of the group.*waited 0.3 s in 0SF1 for rank 1, which has not "
              "come to 1RF1");
  EXPECT_EXIT(RunLists(0.3, kOrder, kOrder, stop_at({TaskKind::kBackwardInput, 1, 1})), kLostPeer,
              "waited 0.3 s in 0RB1 for rank 1, which has not come to 1SB1");
}

TEST_F(ExecutorDeathTest, TakesOnlyWhatItCanRun) {
  const auto run = [](const std::string& text, std::vector<int> stages_of_rank_0) {
    RunLoopback(2, [&](Communicator& pp) {
      const Schedule schedule = Parse("schedule test stages 2 micro_batches 1\n" + text);
      ToyMemory memory;
      ToyStage stage(schedule, 0, {}, memory);
      std::vector<Stage*> given(2);
      for (const int at : stages_of_rank_0) given[at] = &stage;
      if (pp.rank() == 0) Executor(schedule, pp, {}, given);
    });
  };
  EXPECT_DEATH(run("route 0 1\nrank 0F0 0SF0 0RB0 0B0\nrank 1F0 1RF0 1B0 1SB0\n", {0}), "rank 1 runs 1RF0 after");
  EXPECT_DEATH(run("route 0 1\nrank 0F0 0B0\nrank 1F0 1B0\n", {0}), "test has no communication inserted");
  EXPECT_DEATH(run("route 0 0\nrank 0F0 1F0 1B0 0B0\n", {0, 1}), "schedule test of 1 ranks on 2");
  const std::string good = "route 0 1\nrank 0F0 0SF0 0RB0 0B0\nrank 1RF0 1F0 1B0 1SB0\n";
  EXPECT_DEATH(run(good, {}), "rank 0 was not given exactly its stages");
  EXPECT_DEATH(run(good, {0, 1}), "rank 0 was not given exactly its stages");
}

}  // namespace
}  // namespace jevons
