// A ladder whose losses are known: what it says of itself must be what they were made of.
#include "trainer/ladder/analysis.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "kernels/base/philox.h"
#include "trainer/ladder/forecast.h"
#include "trainer/ladder/report.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;

// The experts come to a loss with half of the FLOPs, and take 1.6 times the time for a FLOP.
constexpr double kLeverage = 2, kSlowdown = 1.6, kAsymptote = 1.5;
double DenseLoss(double flops) { return kAsymptote + 40 * std::pow(flops, -0.1); }

// Four sizes of both variants, and each of the first three with twice its tokens; the second size has three seeds.
class LadderAnalysis : public testing::Test {
 protected:
  LadderAnalysis() {
    state_.ladder.set_name("synthetic");
    state_.ladder.set_asymptote(kAsymptote);
    state_.ladder.mutable_law()->set_name(STEP_LAW);
    state_.ladder.mutable_machine()->set_price_per_device_hour(3.6);
    for (const char* variant : {"dense", "moe"}) state_.ladder.add_variant()->set_name(variant);
    for (int size = 0; size < 4; ++size) {
      state_.ladder.add_size();
      for (const char* variant : {"dense", "moe"})
        for (const double factor : {1.0, 2.0})
          for (uint64_t seed = 1; seed <= (size == 1 && factor == 1 ? 3 : 1); ++seed)
            if (size < 3 || factor == 1) Add(variant, size, factor, seed);
    }
  }

  void Add(const std::string& variant, int size, double factor, uint64_t seed) {
    Rung rung{.name = "",
              .group = absl::StrCat(variant, "-s", size, factor == 1 ? "" : "-x2"),
              .variant = variant,
              .size = absl::StrCat("s", size),
              .seed = seed,
              .tokens_factor = factor,
              .held_out = size == 3,
              .config = {}};
    rung.name = absl::StrCat(rung.group, "-seed", seed);
    rung.parameters = 1e5 * std::pow(3, size);
    rung.flops_per_token = 6 * rung.parameters;
    rung.tokens = 20 * factor * rung.parameters;
    const bool moe = variant == "moe";
    const double noise = std::exp(0.002 * RandomNormal(3, 1, state_.rungs.size()));
    RungResult result{.tokens = rung.tokens, .loss = DenseLoss(rung.flops() * (moe ? kLeverage : 1)) * noise};
    result.seconds = rung.flops() * (moe ? kSlowdown : 1) / 1e9;
    result.dollars = result.seconds / 1000;
    state_.rungs.push_back(rung);
    state_.results.push_back(result);
  }

  std::vector<LadderPoint> Points() const { return PointsOf(state_.rungs, state_.results); }

  LadderState state_;
  const std::vector<std::string> variants_ = {"dense", "moe"};
};

TEST_F(LadderAnalysis, PointsAreGroupsOfSeeds) {
  const std::vector<LadderPoint> points = Points();
  EXPECT_EQ(points.size(), 14);
  const auto middle =
      std::find_if(points.begin(), points.end(), [](const LadderPoint& point) { return point.group == "dense-s1"; });
  ASSERT_NE(middle, points.end());
  ASSERT_EQ(middle->losses.size(), 3);
  EXPECT_NEAR(std::log(middle->loss),
              (std::log(middle->losses[0]) + std::log(middle->losses[1]) + std::log(middle->losses[2])) / 3, 1e-12);
  EXPECT_NEAR(middle->seconds, middle->flops / 1e9, 1e-9);
  const auto noise = NoiseOf(points);
  ASSERT_TRUE(noise.has_value());
  EXPECT_EQ(noise->degrees, 4);
  EXPECT_GT(noise->deviation, 0.0005);
  EXPECT_LT(noise->deviation, 0.005);
}

TEST_F(LadderAnalysis, LeverageIsWhatTheLossesWereMadeWith) {
  const std::vector<LadderPoint> points = Points();
  const std::vector<Leverage> leverages = LeveragesOf(points, variants_, kAsymptote, NoiseOf(points));
  EXPECT_EQ(leverages.size(), 3 * 4);
  for (const Leverage& leverage : leverages) {
    const double truth = leverage.axis == LadderAxis::kFlops ? kLeverage : kLeverage / kSlowdown;
    ASSERT_TRUE(leverage.ratio && leverage.interval) << leverage.group;
    EXPECT_NEAR(*leverage.ratio / truth, 1, 0.15) << leverage.group;
    EXPECT_LT(leverage.interval->low, *leverage.ratio);
    EXPECT_GT(leverage.interval->high, *leverage.ratio);
    EXPECT_EQ(leverage.extrapolated, leverage.group == "moe-s3") << leverage.group;
  }
}

TEST_F(LadderAnalysis, EqualBudgetsAreWhatAllHaveSpent) {
  const std::vector<LadderPoint> points = Points();
  for (const EqualBudget& row : EqualBudgetsOf(points, variants_, kAsymptote, NoiseOf(points))) {
    const double flops = 6 * 20 * std::pow(1e5 * 27, 2);
    const double budget = row.axis == LadderAxis::kFlops ? flops : row.axis == LadderAxis::kSeconds ? flops / 1e9 : flops / 1e12;
    EXPECT_NEAR(row.budget / budget, 1, 1e-12);
    const double spent = row.variant == "dense" ? 1 : row.axis == LadderAxis::kFlops ? kLeverage : kLeverage / kSlowdown;
    EXPECT_NEAR(row.loss / DenseLoss(flops * spent), 1, 0.004) << row.variant;
    ASSERT_TRUE(row.interval.has_value());
  }
}

TEST_F(LadderAnalysis, TheHeldOutSizeIsForetoldFromTheOthers) {
  std::vector<LadderPoint> points = Points();
  std::erase_if(points, [](const LadderPoint& point) { return point.held_out; });
  const std::vector<Forecast> forecasts = ForecastsOf(state_.rungs, points, kAsymptote);
  ASSERT_EQ(forecasts.size(), 2 * 4);  // of each variant by four laws
  const LadderPoint dense = Points()[12], moe = Points()[13];
  for (const Forecast& forecast : forecasts) {
    ASSERT_TRUE(forecast.loss && forecast.interval) << forecast.law << ": " << forecast.refusal;
    EXPECT_EQ(forecast.resampling, Resampling::kSeeds);
    const double measured = forecast.group == "dense-s3" ? dense.loss : moe.loss;
    // L(N, D) is not what these losses were made with, but comes near.
    EXPECT_NEAR(*forecast.loss / measured, 1, 0.03) << forecast.group << " by " << forecast.law;
    if (forecast.law != "L(C), pinned") continue;
    EXPECT_LE(forecast.interval->low, measured) << forecast.group;
    EXPECT_GE(forecast.interval->high, measured) << forecast.group;
  }
  const auto again = ParseForecasts(ForecastsJson(forecasts), "prediction.json");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(ForecastsJson(*again), ForecastsJson(forecasts));
  EXPECT_THAT(std::string(ParseForecasts("{\"group\"", "prediction.json").status().message()),
              HasSubstr("prediction.json: is not what a ladder has foretold"));
  EXPECT_FALSE(ParseForecasts(R"([{"group": "x", "law": "y", "interval": [1]}])", "prediction.json").ok());
}

TEST_F(LadderAnalysis, ReportsTellTheSame) {
  std::vector<LadderPoint> points = Points();
  std::erase_if(points, [](const LadderPoint& point) { return point.held_out; });
  state_.forecasts = ForecastsOf(state_.rungs, points, kAsymptote);
  const std::string plan = LadderPlanText(state_), text = LadderResultsText(state_);
  EXPECT_THAT(plan, HasSubstr("synthetic: 18 rungs, 4 sizes of dense, moe; rates and batches by STEP_LAW"));
  for (const char* part : {"noise of seeds: 0.", "dense        L(C), pinned   1.5 + ", "; intervals from seeds", "best at C = ",
                           "held out, as foretold", ", measured ", ", inside", "how many times as much dense takes",
                           "moe-s3        flops ", "(extrapolated)", "loss at equal budgets", "dollars "})
    EXPECT_THAT(text, HasSubstr(part));
  const nlohmann::ordered_json json = LadderJson(state_);
  EXPECT_EQ(json["rungs"].size(), 18);
  EXPECT_EQ(json["laws"].size(), 8);
  EXPECT_NEAR(json["laws"][0]["terms"][0]["exponent"].get<double>(), 0.1, 0.01);
  EXPECT_EQ(json["forecasts"].size(), 8);
  EXPECT_LT(std::abs(json["forecasts"][0]["miss"].get<double>()), 0.01);
  EXPECT_EQ(json["leverage"].size(), 12);
  EXPECT_EQ(json["left_hours"], 0);
  const std::string csv = LadderCsv(state_);
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 19);
  EXPECT_THAT(csv, HasSubstr("\nmoe-s1-x2-seed1,moe,s1,1,2,0,300000,0,12000000,"));
}

// A plan before anything is run, and laws that cannot be fitted yet: said in words.
TEST_F(LadderAnalysis, WhatIsMissingIsSaid) {
  for (size_t i = 2; i < state_.results.size(); ++i) state_.results[i].reset();
  EXPECT_THAT(LadderPlanText(state_), HasSubstr("left ~"));
  const std::string text = LadderResultsText(state_);
  EXPECT_THAT(text, HasSubstr("noise of seeds: not known"));
  EXPECT_THAT(text, HasSubstr("not fitted: 1 different rungs are too few to fit 2 numbers"));
  EXPECT_THAT(text, HasSubstr("moe          L(C), pinned   not fitted: no rung to fit a law to"));
  state_.results.assign(state_.results.size(), std::nullopt);
  EXPECT_FALSE(LadderJson(state_).contains("laws"));
}

}  // namespace
}  // namespace jevons
