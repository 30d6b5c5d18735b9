#include "parallel/pipeline/action.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/parallel/pipeline/pipeline_cases.h"

namespace jevons {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(ActionTest, PrintsAndParsesEveryKind) {
  for (const char* text : {"2F0", "2B0", "2I0", "2W0", "13R119", "3G0", "0SF7", "1RF7", "1SB7", "0RB7", "0F7&5B1", "3F0&3I1"}) {
    const auto action = ParseAction(text);
    ASSERT_TRUE(action.ok()) << action.status();
    EXPECT_EQ(ToString(*action), text);
  }
  EXPECT_EQ(*ParseAction("2W10"), Action(TaskKind::kBackwardWeight, 2, 10));
  const Action pair = *ParseAction("0F7&5B1");
  EXPECT_THAT(pair.tasks(), ElementsAre(Task{TaskKind::kForward, 0, 7}, Task{TaskKind::kBackward, 5, 1}));
  EXPECT_NE(pair, Action(TaskKind::kForward, 0, 7));
}

TEST(ActionTest, RefusesWhatIsNoAction) {
  for (const char* text :
       {"",     "F",       "2F",      "F0",      "2X0",         "2f0",           "2F0x",     "-2F0",    "2F-1", "2 F0", "2F0&",
        "&2F0", "2B0&2F1", "2F0&2W1", "2F0&2F1", "2F0&2B1&2B2", "2F99999999999", "2SF0&2B1", "2F0&2G1", "2G",   "2SX0"}) {
    const auto action = ParseAction(text);
    ASSERT_FALSE(action.ok()) << text;
    EXPECT_EQ(ExitCodeOf(action.status()), ExitCode::kUsage);
    EXPECT_THAT(std::string(action.status().message()), HasSubstr("'" + std::string(text) + "' is no action"));
  }
}

TEST(ScheduleTest, PrintsAndParsesAllGenerators) {
  for (const ScheduleShape& shape : SmallShapes(4, 8)) {
    const Schedule schedule = *MakeSchedule(shape);
    const auto parsed = ParseSchedule(ToString(schedule));
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, schedule);
  }
}

TEST(ScheduleTest, SkipsCommentsAndBlanks) {
  EXPECT_EQ(Parse("# a comment\n\n schedule s stages 1 micro_batches 1 # more\nroute\t0\r\nrank 0F0  0B0\n"),
            Parse("schedule s stages 1 micro_batches 1\nroute 0\nrank 0F0 0B0"));
}

TEST(ScheduleTest, NamesTheLineThatIsWrong) {
  const auto message = [](const char* text) {
    const auto schedule = ParseSchedule(text);
    EXPECT_EQ(ExitCodeOf(schedule.status()), ExitCode::kUsage);
    return std::string(schedule.status().message());
  };
  EXPECT_THAT(message("schedule s stages 1 micro_batches 1\nroute 0\nrank 0F0 0Q0"),
              AllOf(HasSubstr("line 3"), HasSubstr("'0Q0'")));
  EXPECT_THAT(message("schedule s stages one micro_batches 1"), AllOf(HasSubstr("line 1"), HasSubstr("'schedule NAME")));
  EXPECT_THAT(message("\nroute 0 x"), AllOf(HasSubstr("line 2"), HasSubstr("'x'")));
  EXPECT_THAT(message("ranks 0F0"), HasSubstr("'ranks'"));
}

TEST(ScheduleTest, KnowsWhichRankRunsWhat) {
  const Schedule schedule = Make(ScheduleKind::kDualPipe, 4, 8);
  EXPECT_EQ(schedule.RankOf(0, 3), 0);  // the first half enters at rank 0
  EXPECT_EQ(schedule.RankOf(0, 4), 3);  // the second at rank 3
  EXPECT_EQ(schedule.RankOf(1, 7), 2);
  EXPECT_THAT(schedule.StagesOf(1), ElementsAre(1, 2));
  EXPECT_THAT(Make(ScheduleKind::kInterleaved, 2, 4, 3).StagesOf(1), ElementsAre(1, 3, 5));
  EXPECT_THAT(Make(ScheduleKind::kDualPipeV, 3, 6).StagesOf(2), ElementsAre(2, 3));
  EXPECT_EQ(schedule.FirstOf(0, 0), 0);
  EXPECT_EQ(schedule.FirstOf(0, 3), 4);
}

}  // namespace
}  // namespace jevons
