// Fits of losses whose law is known; intervals that hold what they promise; and what is refused.
#include "trainer/ladder/loss_law.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/base/philox.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;

// Besiroglu et al. 2024, the refit of Chinchilla's third approach; marin's law of compute.
const LossLaw kSizes{.asymptote = 1.8172, .terms = {{482.01, 0.3478}, {2085.43, 0.3658}}};
const LossLaw kCompute{.asymptote = 1.6, .terms = {{81.68, 0.0912}}};

std::vector<LossSample> ComputeSamples(const LossLaw& law, int rungs = 5) {
  std::vector<LossSample> samples;
  for (int i = 0; i < rungs; ++i) {
    const double compute = 1e16 * std::pow(4, i);
    samples.push_back({.x = {compute}, .loss = law.At(std::vector{compute})});
  }
  return samples;
}

std::vector<LossSample> SizeSamples(const LossLaw& law) {
  std::vector<LossSample> samples;
  for (const double parameters : {1e7, 3e7, 1e8, 3e8})
    for (const double ratio : {5.0, 20.0, 80.0})
      samples.push_back({.x = {parameters, ratio * parameters}, .loss = law.At(std::vector{parameters, ratio * parameters})});
  return samples;
}

double NormalAt(uint64_t index) { return RandomNormal(7, 1, index); }

TEST(LossLaw, PublishedValues) {
  for (const auto& [compute, loss] :
       {std::pair(2.19e17, 3.741), {1.70e18, 3.376}, {9.0e18, 3.126}, {2.83e19, 2.974}, {1e23, 2.252}})
    EXPECT_NEAR(kCompute.At(std::vector{compute}), loss, 0.0015);
  const BestSplit small = BestSplitAt(kSizes, 1e18), large = BestSplitAt(kSizes, 1e20);
  EXPECT_NEAR(small.parameters / 80.5e6, 1, 0.005);
  EXPECT_NEAR(small.tokens / 2.07e9, 1, 0.005);
  EXPECT_NEAR(small.loss, 3.490, 0.001);
  EXPECT_NEAR(large.parameters / 853e6, 1, 0.005);
  EXPECT_NEAR(large.tokens / large.parameters, 22.9, 0.1);
  EXPECT_NEAR(large.loss, 2.553, 0.001);
  EXPECT_NEAR(*ScaleAt(kCompute, kCompute.At(std::vector{3e18})) / 3e18, 1, 1e-9);
  EXPECT_FALSE(ScaleAt(kCompute, 1.6).has_value());
}

TEST(LossLaw, FitsRecoverTheLawThatLossesComeFrom) {
  for (const auto asymptote : {std::optional(1.6), std::optional<double>()}) {
    const auto law = FitLossLaw(ComputeSamples(kCompute), asymptote);
    ASSERT_TRUE(law.ok()) << law.status();
    EXPECT_NEAR(law->asymptote, 1.6, 1e-6);
    EXPECT_NEAR(law->terms[0].factor / 81.68, 1, 1e-5);
    EXPECT_NEAR(law->terms[0].exponent, 0.0912, 1e-7);
  }
  for (const auto asymptote : {std::optional(1.8172), std::optional<double>()}) {
    const auto law = FitLossLaw(SizeSamples(kSizes), asymptote);
    ASSERT_TRUE(law.ok()) << law.status();
    EXPECT_NEAR(law->asymptote, 1.8172, 1e-6);
    EXPECT_NEAR(law->terms[0].factor / 482.01, 1, 1e-5);
    EXPECT_NEAR(law->terms[0].exponent, 0.3478, 1e-7);
    EXPECT_NEAR(law->terms[1].factor / 2085.43, 1, 1e-5);
    EXPECT_NEAR(law->terms[1].exponent, 0.3658, 1e-7);
  }
}

// Huber's loss: one rung that went wrong hardly moves the law.
TEST(LossLaw, OneBadRungDoesNotDecide) {
  std::vector<LossSample> samples = ComputeSamples(kCompute, 8);
  samples[3].loss *= 1.1;
  const auto law = FitLossLaw(samples, 1.6);
  ASSERT_TRUE(law.ok());
  EXPECT_NEAR(law->At(std::vector{1e22}) / kCompute.At(std::vector{1e22}), 1, 2e-3);
}

// Ladders with three seeds on each of five rungs, noise of 0.5%: the intervals hold the truth about as often as they say, 90%.
TEST(LossLaw, IntervalsFromSeedsHoldTheTruth) {
  constexpr int kLadders = 100, kSeeds = 3;
  const std::vector<double> target = {1e20};
  int exponent = 0, loss = 0;
  uint64_t draw = 0;
  for (int ladder = 0; ladder < kLadders; ++ladder) {
    std::vector<LossSample> samples = ComputeSamples(kCompute);
    std::vector<std::vector<double>> groups;
    for (LossSample& sample : samples) {
      double sum = 0;
      auto& group = groups.emplace_back();
      for (int seed = 0; seed < kSeeds; ++seed) {
        group.push_back(sample.loss * std::exp(0.005 * NormalAt(draw++)));
        sum += std::log(group.back());
      }
      sample.loss = std::exp(sum / kSeeds);
      sample.runs = kSeeds;
    }
    const auto noise = PooledNoise(groups);
    ASSERT_TRUE(noise.has_value());
    EXPECT_EQ(noise->degrees, 10);
    const auto fit = FitWithDraws(samples, 1.6, noise);
    ASSERT_TRUE(fit.ok()) << fit.status();
    EXPECT_EQ(fit->resampling, Resampling::kSeeds);
    const auto exponents = IntervalOf(*fit, [](const LossLaw& law) { return std::optional(law.terms[0].exponent); });
    exponent += exponents->low <= 0.0912 && 0.0912 <= exponents->high;
    const double run = kCompute.At(target) * std::exp(0.005 * NormalAt(draw++));
    const auto runs = IntervalOfRuns(*fit, target, 1);
    loss += runs->low <= run && run <= runs->high;
  }
  EXPECT_GE(exponent, 80);
  EXPECT_LE(exponent, 98);
  EXPECT_GE(loss, 80);
  EXPECT_LE(loss, 98);
}

TEST(LossLaw, WithoutSeedsIntervalsComeFromRungs) {
  std::vector<LossSample> samples = ComputeSamples(kCompute, 6);
  for (size_t i = 0; i < samples.size(); ++i) samples[i].loss *= std::exp(0.003 * NormalAt(1000 + i));
  const auto fit = FitWithDraws(samples, 1.6, std::nullopt);
  ASSERT_TRUE(fit.ok());
  EXPECT_EQ(fit->resampling, Resampling::kRungs);
  const auto exponents = IntervalOf(*fit, [](const LossLaw& law) { return std::optional(law.terms[0].exponent); });
  EXPECT_LT(exponents->low, 0.0912);
  EXPECT_GT(exponents->high, 0.0912);
  EXPECT_LT(exponents->high - exponents->low, 0.02);
  // As many rungs as numbers: almost every draw lacks one.
  const auto few = FitWithDraws(ComputeSamples(kCompute, 3), std::nullopt, std::nullopt);
  ASSERT_TRUE(few.ok());
  EXPECT_EQ(few->resampling, Resampling::kNone);
  EXPECT_FALSE(IntervalOfRuns(*few, std::vector{1e20}, 1).has_value());
}

TEST(LossLaw, TheSameSamplesGiveTheSameBits) {
  const std::vector<std::vector<double>> groups = {{3.1, 3.12, 3.09}};
  const auto a = FitWithDraws(SizeSamples(kSizes), std::nullopt, PooledNoise(groups)),
             b = FitWithDraws(SizeSamples(kSizes), std::nullopt, PooledNoise(groups));
  ASSERT_TRUE(a.ok() && b.ok());
  ASSERT_EQ(a->draws.size(), b->draws.size());
  for (size_t i = 0; i < a->draws.size(); ++i) EXPECT_EQ(a->draws[i].terms[1].exponent, b->draws[i].terms[1].exponent);
}

TEST(LossLaw, SeedNoiseIsPooled) {
  const std::vector<std::vector<double>> one = {{3.0}, {2.5}};
  EXPECT_FALSE(PooledNoise(one).has_value());
  const std::vector<std::vector<double>> groups = {
      {3.0}, {std::exp(1.0), std::exp(1.2)}, {std::exp(1.0), std::exp(1.1), std::exp(1.2)}};
  EXPECT_NEAR(PooledNoise(groups)->deviation, std::sqrt((2 * 0.01 + 2 * 0.01) / 3), 1e-12);
  EXPECT_EQ(PooledNoise(groups)->degrees, 3);
}

TEST(LossLaw, RefusesWhatCannotBeFitted) {
  const auto problem = [](const std::vector<LossSample>& samples, std::optional<double> asymptote) {
    const auto law = FitLossLaw(samples, asymptote);
    return law.ok() ? "fitted" : std::string(law.status().message());
  };
  std::vector<LossSample> samples = ComputeSamples(kCompute, 2);
  EXPECT_EQ(problem({}, 1.6), "no rung to fit a law to");
  EXPECT_EQ(problem(samples, 1.6), "fitted");
  EXPECT_EQ(problem(samples, std::nullopt), "2 different rungs are too few to fit 3 numbers");
  EXPECT_EQ(problem({samples[0], samples[0], samples[0]}, 1.6), "1 different rungs are too few to fit 2 numbers");
  EXPECT_THAT(problem(samples, 4.2), HasSubstr("is not above the asymptote 4.2: pin it lower"));
  EXPECT_EQ(problem({samples[1], {.x = samples[0].x, .loss = samples[1].loss - 0.2}}, 1.6),
            "the loss does not fall from rung to rung: no power law fits it");
  for (const double bad : {0.0, -1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    EXPECT_THAT(problem({samples[0], {.x = samples[1].x, .loss = bad}}, 1.6), HasSubstr("loss is")) << bad;
    EXPECT_THAT(problem({samples[0], {.x = {bad}, .loss = 3}}, 1.6), HasSubstr("scale is")) << bad;
  }
  std::vector<LossSample> in_step;
  for (const double parameters : {1e7, 2e7, 4e7, 8e7, 16e7})
    in_step.push_back({.x = {parameters, 20 * parameters}, .loss = kSizes.At(std::vector{parameters, 20 * parameters})});
  EXPECT_THAT(problem(in_step, std::nullopt), HasSubstr("give sizes several tokens_factor"));
}

}  // namespace
}  // namespace jevons
