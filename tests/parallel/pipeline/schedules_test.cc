#include "parallel/pipeline/schedules.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/pipeline/passes.h"
#include "parallel/pipeline/validate.h"
#include "tests/parallel/pipeline/pipeline_cases.h"

namespace jevons {
namespace {

using testing::AllOf;
using testing::HasSubstr;

using Kind = ScheduleKind;

void ExpectGolden(const std::string& name, const Schedule& schedule) {
  EXPECT_EQ(ToString(schedule), ToString(Parse(GoldenText(name))));
}

TEST(SchedulesTest, EqualTheGoldens) {
  ExpectGolden("gpipe_pp4_m4", Make(Kind::kGPipe, 4, 4));
  ExpectGolden("1f1b_pp4_m8", Make(Kind::k1F1B, 4, 8));
  ExpectGolden("interleaved_pp2_m4_v2", Make(Kind::kInterleaved, 2, 4, 2));
  ExpectGolden("zb-h1_pp4_m8", Make(Kind::kZBH1, 4, 8));
  ExpectGolden("dualpipe_pp4_m8", Make(Kind::kDualPipe, 4, 8));
  ExpectGolden("dualpipe_pp8_m20", Make(Kind::kDualPipe, 8, 20));
  ExpectGolden("dualpipev_pp4_m10", Make(Kind::kDualPipeV, 4, 10));
  ExpectGolden("1f1b_pp4_m6_communication", InsertCommunication(Make(Kind::k1F1B, 4, 6)));
  ExpectGolden("dualpipe_pp4_m8_communication", InsertCommunication(Make(Kind::kDualPipe, 4, 8)));
}

// The counts of the eight steps, from the published description: 2(half-h-1) F, (h+1) pairs of F, ...
TEST(SchedulesTest, DualPipeHasAsManyActionsOfEachKindAsItsStepsSay) {
  const int pp = 8, micro_batches = 20, half = pp / 2;
  const Schedule schedule = Make(Kind::kDualPipe, pp, micro_batches);
  for (int rank = 0; rank < pp; ++rank) {
    const int h = std::min(rank, pp - 1 - rank), outside = half - h - 1, main = micro_batches / 2 - pp + h + 1;
    const int unpaired = rank == half - 1 || rank == half;
    int pairs = 0, forward = 0, full = 0, input = 0, weight = 0;
    for (const Action& action : schedule.actions[rank]) {
      pairs += action.overlapped();
      forward += !action.overlapped() && action.first().kind == TaskKind::kForward;
      full += action.first().kind == TaskKind::kBackward;
      input += action.first().kind == TaskKind::kBackwardInput;
      weight += action.first().kind == TaskKind::kBackwardWeight;
    }
    EXPECT_EQ(pairs, 2 * main + outside - unpaired) << rank;
    EXPECT_EQ(forward, 2 * outside + 2 * (h + 1) + outside + unpaired) << rank;
    EXPECT_EQ(full, outside + (h + 1) + unpaired) << rank;
    EXPECT_EQ(input, outside + (h + 1) + outside) << rank;
    EXPECT_EQ(weight, input) << rank;
  }
}

TEST(SchedulesTest, UpperHalfOfDualPipeMirrorsTheLower) {
  const Schedule schedule = Make(Kind::kDualPipe, 6, 14);
  for (int rank = 0; rank < 3; ++rank) {
    const auto &lower = schedule.actions[rank], &upper = schedule.actions[5 - rank];
    ASSERT_EQ(lower.size(), upper.size());
    for (size_t i = 0; i < lower.size(); ++i) {
      ASSERT_EQ(lower[i].tasks().size(), upper[i].tasks().size());
      for (size_t half = 0; half < lower[i].tasks().size(); ++half) {
        Task mirrored = lower[i].tasks()[half];
        mirrored.micro_batch = (mirrored.micro_batch + 7) % 14;
        EXPECT_EQ(upper[i].tasks()[half], mirrored);
      }
    }
  }
}

TEST(SchedulesTest, AllValidateWithAndWithoutCommunication) {
  int count = 0;
  for (const ScheduleShape& shape : SmallShapes(6, 16)) {
    const Schedule schedule = *MakeSchedule(shape);
    ASSERT_EQ(Validate(schedule), absl::OkStatus()) << ToString(schedule);
    ASSERT_EQ(Validate(InsertCommunication(schedule)), absl::OkStatus()) << ToString(schedule);
    ++count;
  }
  EXPECT_GT(count, 300);
}

TEST(SchedulesTest, LargeOnesValidate) {
  for (const ScheduleShape& shape :
       {ScheduleShape{Kind::k1F1B, 64, 256}, ScheduleShape{Kind::kInterleaved, 16, 128, 4}, ScheduleShape{Kind::kZBH1, 33, 200},
        ScheduleShape{Kind::kDualPipe, 16, 120}, ScheduleShape{Kind::kDualPipeV, 16, 121}}) {
    EXPECT_EQ(Validate(InsertCommunication(*MakeSchedule(shape))), absl::OkStatus());
  }
}

std::string Refusal(const ScheduleShape& shape) {
  const auto schedule = MakeSchedule(shape);
  EXPECT_EQ(ExitCodeOf(schedule.status()), ExitCode::kUsage);
  return std::string(schedule.status().message());
}

TEST(SchedulesTest, RefusalsNameFieldValueRuleAndNearest) {
  EXPECT_EQ(Refusal({Kind::kDualPipe, 5, 20}),
            "pp = 5: schedule dualpipe pairs each rank with one of the other half: even; nearest: 4 or 6");
  EXPECT_THAT(Refusal({Kind::kDualPipe, 1, 20}), AllOf(HasSubstr("pp = 1"), HasSubstr("nearest: 2")));
  EXPECT_EQ(Refusal({Kind::kDualPipe, 8, 17}),
            "micro_batches = 17: schedule dualpipe sends half of them in from each end: even, at least 2 pp = 16; "
            "nearest: 16 or 18");
  EXPECT_THAT(Refusal({Kind::kDualPipe, 8, 10}), HasSubstr("nearest: 16"));
  EXPECT_THAT(Refusal({Kind::kDualPipeV, 4, 7}), AllOf(HasSubstr("micro_batches = 7"), HasSubstr("nearest: 8")));
  EXPECT_THAT(Refusal({Kind::kInterleaved, 4, 6, 2}),
              AllOf(HasSubstr("micro_batches = 6"), HasSubstr("groups of pp = 4"), HasSubstr("nearest: 4 or 8")));
  EXPECT_THAT(Refusal({Kind::kInterleaved, 4, 3, 2}), HasSubstr("nearest: 4"));
  EXPECT_THAT(Refusal({Kind::kInterleaved, 4, 8, 1}), AllOf(HasSubstr("virtual_stages = 1"), HasSubstr("nearest: 2")));
  EXPECT_THAT(Refusal({Kind::k1F1B, 4, 8, 2}), AllOf(HasSubstr("virtual_stages = 2"), HasSubstr("nearest: 1")));
  EXPECT_THAT(Refusal({Kind::k1F1B, 0, 8}), AllOf(HasSubstr("pp = 0"), HasSubstr("nearest: 1")));
  EXPECT_THAT(Refusal({Kind::kGPipe, 2, 0}), AllOf(HasSubstr("micro_batches = 0"), HasSubstr("nearest: 1")));
}

TEST(SchedulesTest, RefusesAbsurdSizesBeforeAllocating) {
  constexpr int kHuge = std::numeric_limits<int>::max();
  EXPECT_THAT(Refusal({Kind::k1F1B, kHuge, 1}), AllOf(HasSubstr("pp = 2147483647"), HasSubstr("nearest: 4096")));
  EXPECT_THAT(Refusal({Kind::kDualPipeV, kHuge, kHuge}), HasSubstr("nearest: 2048"));
  EXPECT_THAT(Refusal({Kind::kInterleaved, 16, 16, kHuge}), AllOf(HasSubstr("virtual_stages"), HasSubstr("nearest: 256")));
  EXPECT_THAT(Refusal({Kind::kDualPipe, 16, kHuge - 1}), AllOf(HasSubstr("micro_batches"), HasSubstr("nearest: 262144")));
}

TEST(SchedulesTest, NamesParse) {
  for (const Kind kind : kAllScheduleKinds) EXPECT_EQ(*ParseScheduleKind(Name(kind)), kind);
  const auto unknown = ParseScheduleKind("dualpip");
  EXPECT_EQ(ExitCodeOf(unknown.status()), ExitCode::kUsage);
  EXPECT_THAT(std::string(unknown.status().message()),
              HasSubstr("'dualpip' is no pipeline schedule; known: gpipe, 1f1b, interleaved, zb-h1, dualpipe, dualpipev"));
}

}  // namespace
}  // namespace jevons
