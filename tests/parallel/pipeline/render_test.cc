#include "parallel/pipeline/render.h"

#include "gtest/gtest.h"
#include "tests/parallel/pipeline/pipeline_cases.h"

namespace jevons {
namespace {

std::string Line(const Schedule& schedule, int columns_per_unit) {
  const auto timeline = Simulate(schedule, PipelineCosts::Uniform(schedule.stages, {}));
  JEVONS_CHECK(timeline.ok());
  return RenderTimeline(schedule, *timeline, static_cast<int>(timeline->makespan) * columns_per_unit);
}

TEST(RenderTest, TimelinesEqualTheGoldens) {
  EXPECT_EQ(Line(Make(ScheduleKind::k1F1B, 4, 8), 3), GoldenText("1f1b_pp4_m8_timeline"));
  EXPECT_EQ(Line(Make(ScheduleKind::kZBH1, 4, 8), 3), GoldenText("zb-h1_pp4_m8_timeline"));
  EXPECT_EQ(Line(Make(ScheduleKind::kDualPipe, 8, 20), 4), GoldenText("dualpipe_pp8_m20_timeline"));
}

TEST(RenderTest, NarrowLinesKeepTheLetter) {
  EXPECT_EQ(Line(Make(ScheduleKind::k1F1B, 2, 2), 1), "rank  0 |FF..B .B \nrank  1 |.FB FB ..\n");
  EXPECT_EQ(Line(Make(ScheduleKind::kInterleaved, 2, 2, 2), 2),
            "rank  0 |F F F F ....2B0 ..2B1 0B0 0B1 \nrank  1 |..F F F 3B0 F 3B1 1B0 1B1 ....\n");
}

TEST(RenderTest, NothingToDrawIsEmpty) {
  const Schedule schedule = Make(ScheduleKind::k1F1B, 1, 1);
  const auto timeline = Simulate(schedule, PipelineCosts::Uniform(1, {.forward = 0, .input = 0, .weight = 0}));
  EXPECT_EQ(RenderTimeline(schedule, *timeline, 4), "rank  0 |....\n");
}

TEST(RenderTest, GridShowsTheSurroundingsOfTheMark) {
  const Schedule schedule = Make(ScheduleKind::k1F1B, 12, 12);
  EXPECT_EQ(RenderGrid(schedule, {{11, 5}}),
            "  rank  8 | ... 8F2      8F3      8B0      8F4      8B1      8F5      8B2      ...\n"
            "  rank  9 | ... 9F2      9B0      9F3      9B1      9F4      9B2      9F5      ...\n"
            "  rank 10 | ... 10B0     10F2     10B1     10F3     10B2     10F4     10B3     ...\n"
            "  rank 11 | ... 11F1     11B1     11F2     >>11B2<< 11F3     11B3     11F4     ...\n");
}

}  // namespace
}  // namespace jevons
