// The published formulas for bubbles and activations against the simulator, for uniform durations. Durations
// are small integers, so that sums of doubles are exact.
#include <algorithm>
#include <functional>

#include "gtest/gtest.h"
#include "parallel/pipeline/simulate.h"
#include "tests/parallel/pipeline/pipeline_cases.h"

namespace jevons {
namespace {

using Kind = ScheduleKind;

struct Durations {
  int f, i, w, pair;
  int b() const { return i + w; }
};

std::vector<double> Bubbles(const Schedule& schedule, const Durations& d) {
  const StageCosts stage = {.forward = 1.0 * d.f, .input = 1.0 * d.i, .weight = 1.0 * d.w};
  const auto timeline = Simulate(schedule, PipelineCosts::Uniform(schedule.stages, stage, d.pair));
  JEVONS_CHECK(timeline.ok());
  std::vector<double> idle;
  for (const RankTimeline& rank : timeline->ranks) idle.push_back(rank.idle);
  return idle;
}

// Every F, I, W of 1..4; F&B = F + B where `pairs` is false, else from B to F + B.
void ForAllDurations(bool pairs, const std::function<void(const Durations&)>& check) {
  for (int f = 1; f <= 4; ++f) {
    for (int i = 1; i <= 4; ++i) {
      for (int w = 1; w <= 4; ++w) {
        for (int pair = pairs ? i + w : f + i + w; pair <= f + i + w; ++pair) check({f, i, w, pair});
      }
    }
  }
}

std::vector<double> Everywhere(int ranks, double bubble) { return std::vector<double>(ranks, bubble); }

TEST(BubbleTest, GPipeAnd1F1BForAllDurations) {
  for (const auto& [pp, m] : {std::pair{1, 3}, {2, 1}, {4, 2}, {4, 4}, {5, 7}, {8, 20}}) {
    for (const Kind kind : {Kind::kGPipe, Kind::k1F1B}) {
      const Schedule schedule = Make(kind, pp, m);
      ForAllDurations(
          false, [&, pp = pp](const Durations& d) { ASSERT_EQ(Bubbles(schedule, d), Everywhere(pp, (pp - 1) * (d.f + d.b()))); });
    }
  }
}

// (PP-1)(F+B)/v with the F and B of a rank, v times those of a stage.
TEST(BubbleTest, InterleavedForAllDurations) {
  for (const auto& [pp, m, v] : {std::tuple{1, 3, 2}, {2, 2, 2}, {2, 6, 3}, {4, 4, 2}, {4, 8, 2}, {4, 12, 4}}) {
    const Schedule schedule = Make(Kind::kInterleaved, pp, m, v);
    ForAllDurations(
        false, [&, pp = pp](const Durations& d) { ASSERT_EQ(Bubbles(schedule, d), Everywhere(pp, (pp - 1) * (d.f + d.b()))); });
  }
}

// Exactly where W is no longer than F and than I, with at least PP micro-batches.
TEST(BubbleTest, ZeroBubbleH1WhereWeightPartIsShortest) {
  for (const auto& [pp, m] : {std::pair{2, 2}, {2, 5}, {4, 4}, {4, 8}, {5, 13}, {8, 16}}) {
    const Schedule schedule = Make(Kind::kZBH1, pp, m);
    ForAllDurations(false, [&, pp = pp](const Durations& d) {
      const auto formula = Everywhere(pp, (pp - 1) * (d.f + d.b() - 2 * d.w));
      ASSERT_EQ(Bubbles(schedule, d) == formula, d.w <= std::min(d.f, d.i)) << d.f << " " << d.i << " " << d.w;
    });
  }
}

// With F = I >= W and B <= F&B <= F+B: exactly on the ranks in the middle, which idle most; on all where F&B
// = F+B. Ranks further out have fewer pairs: they lose what the overlap saves, and idle less.
void ExpectBidirectional(const Schedule& schedule, int half, int middle) {
  ForAllDurations(true, [&](const Durations& d) {
    if (d.f != d.i || d.w > d.f) return;
    const double formula = (half - 1) * (d.pair + d.b() - 3 * d.w);
    const auto idle = Bubbles(schedule, d);
    ASSERT_EQ(idle[middle], formula) << d.f << " " << d.w << " " << d.pair;
    ASSERT_EQ(*std::max_element(idle.begin(), idle.end()), formula);
    if (d.pair == d.f + d.b()) {
      ASSERT_EQ(idle, Everywhere(schedule.ranks(), formula));
    }
  });
}

TEST(BubbleTest, DualPipeWhereForwardEqualsInputPart) {
  for (const auto& [pp, m] : {std::pair{2, 4}, {4, 8}, {6, 14}, {8, 16}, {8, 20}, {16, 120}}) {
    const Schedule schedule = Make(Kind::kDualPipe, pp, m);
    ExpectBidirectional(schedule, pp / 2, pp / 2 - 1);
    ExpectBidirectional(schedule, pp / 2, pp / 2);
  }
}

TEST(BubbleTest, DualPipeVWhereForwardEqualsInputPart) {
  for (const auto& [pp, m] : {std::pair{1, 2}, {2, 4}, {3, 7}, {4, 10}, {8, 60}}) {
    ExpectBidirectional(Make(Kind::kDualPipeV, pp, m), pp, pp - 1);
  }
}

// Elsewhere the formula is an estimate: here it says 12, and 3 more of F - I are lost on each rank but one.
TEST(BubbleTest, DualPipeFormulaIsNoBoundForLongForwards) {
  EXPECT_EQ(Bubbles(Make(Kind::kDualPipe, 8, 20), {3, 1, 1, 5}), Everywhere(8, 18));
}

struct Counts {
  std::vector<int> in_flight, held;  // [ranks]
};

Counts CountsOf(const Schedule& schedule) {
  const auto timeline = Simulate(schedule, PipelineCosts::Uniform(schedule.stages, {}));
  JEVONS_CHECK(timeline.ok());
  Counts counts;
  for (const RankTimeline& rank : timeline->ranks) {
    counts.in_flight.push_back(rank.peak_in_flight);
    counts.held.push_back(rank.peak_held);
  }
  return counts;
}

TEST(ActivationTest, AsManyMicroBatchesAsPublished) {
  const auto all = [](int ranks, int count) { return std::vector<int>(ranks, count); };
  EXPECT_EQ(CountsOf(Make(Kind::kGPipe, 4, 9)).held, all(4, 9));
  EXPECT_EQ(CountsOf(Make(Kind::k1F1B, 4, 9)).held, (std::vector{4, 3, 2, 1}));
  EXPECT_EQ(CountsOf(Make(Kind::k1F1B, 4, 2)).held, (std::vector{2, 2, 2, 1}));
  EXPECT_EQ(CountsOf(Make(Kind::kZBH1, 4, 9)).held, all(4, 4));  // the weight parts put off make up for it
  EXPECT_EQ(CountsOf(Make(Kind::kZBH1, 4, 9)).in_flight, (std::vector{4, 3, 2, 1}));
  for (const int pp : {2, 4, 8, 16}) {
    EXPECT_EQ(CountsOf(Make(Kind::kDualPipe, pp, 4 * pp)).held, all(pp, pp + 1));
    EXPECT_EQ(CountsOf(Make(Kind::kDualPipe, pp, 4 * pp)).in_flight, all(pp, pp + 1));
    EXPECT_EQ(CountsOf(Make(Kind::kDualPipeV, pp, 4 * pp)).held, all(pp, 2 * pp + 1));  // stages: half a rank each
  }
  // PP + (PP-1)/v of a rank's share, counted in stages.
  for (const auto& [pp, v] : {std::pair{2, 2}, {4, 2}, {4, 3}, {8, 4}}) {
    EXPECT_EQ(CountsOf(Make(Kind::kInterleaved, pp, 4 * pp, v)).held[0], v * pp + pp - 1);
  }
}

}  // namespace
}  // namespace jevons
