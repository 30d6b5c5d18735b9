#include "data/mixture.h"

#include <cmath>
#include <limits>
#include <numeric>

#include "gmock/gmock.h"
#include "tests/data/test_data.h"

namespace jevons {
namespace {

// Every dataset's samples in order and without gaps, Counts agreeing with At, and the shares kept at every n.
void ExpectFaithful(const std::vector<double>& weights, uint64_t seed, int64_t samples) {
  const auto mixture = Mixture::Create(weights, seed);
  ASSERT_TRUE(mixture.ok()) << mixture.status();
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  const double bound = 2 + std::log(static_cast<double>(weights.size()));
  std::vector<int64_t> next(weights.size(), 0);
  for (int64_t n = 0; n < samples; ++n) {
    ASSERT_EQ(mixture->Counts(n), next);
    const Mixture::Place place = mixture->At(n);
    ASSERT_EQ(place.local, next[static_cast<size_t>(place.dataset)]++) << n;
    for (size_t i = 0; i < weights.size(); ++i) {
      const double wanted = static_cast<double>(n + 1) * weights[i] / sum;
      ASSERT_NEAR(static_cast<double>(next[i]), wanted, bound) << "dataset " << i << " after " << n + 1;
    }
  }
}

TEST(MixtureTest, IsFaithfulForRandomWeights) {
  std::mt19937_64 random(11);
  for (int trial = 0; trial < 60; ++trial) {
    std::vector<double> weights(1 + random() % 12);
    for (double& weight : weights) weight = std::exp(static_cast<double>(random() % 1000) / 100.0);
    if (trial % 3 == 0) weights[random() % weights.size()] = 0;
    if (std::accumulate(weights.begin(), weights.end(), 0.0) == 0) weights[0] = 1;
    ExpectFaithful(weights, random(), 400);
  }
}

TEST(MixtureTest, IsFaithfulForManyEqualDatasets) { ExpectFaithful(std::vector<double>(100, 1.0), 3, 2000); }

TEST(MixtureTest, ManyLightDatasetsDoNotDisturbTheHeavyOnes) {
  std::vector<double> weights(120, 1e-5);
  weights[60] = weights[119] = 1;
  for (uint64_t seed = 0; seed < 5; ++seed) ExpectFaithful(weights, seed, 1000);
}

TEST(MixtureTest, ZeroWeightIsNeverDrawn) {
  const auto mixture = Mixture::Create(std::vector{0.0, 2.0, 0.0, 1.0, 0.0}, 1);
  ASSERT_TRUE(mixture.ok());
  const std::vector<int64_t> counts = mixture->Counts(int64_t{3} << 40);
  EXPECT_EQ(counts[0] + counts[2] + counts[4], 0);
  EXPECT_NEAR(static_cast<double>(counts[1]), std::ldexp(2, 40), 2);
}

TEST(MixtureTest, ATinyWeightGetsItsShareInTheEnd) {
  for (const std::vector<double>& weights : {std::vector{1e-9, 1.0}, std::vector{1.0, 1e-9}}) {
    const auto mixture = Mixture::Create(weights, 5);
    ASSERT_TRUE(mixture.ok());
    const size_t rare = weights[0] < 1 ? 0 : 1;
    EXPECT_LE(mixture->Counts(100'000)[rare], 1);
    EXPECT_NEAR(static_cast<double>(mixture->Counts(10'000'000'000'000)[rare]), 10'000, 2);
  }
}

TEST(MixtureTest, HugeIndicesStayExact) {
  const auto mixture = Mixture::Create(std::vector{0.3, 0.5, 0.2}, 9);
  ASSERT_TRUE(mixture.ok());
  const int64_t from = (int64_t{1} << 61) - 1000;
  std::vector<int64_t> next = mixture->Counts(from);
  for (int64_t n = from; n < from + 1000; ++n) {
    const Mixture::Place place = mixture->At(n);
    ASSERT_EQ(place.local, next[static_cast<size_t>(place.dataset)]++);
  }
  EXPECT_EQ(mixture->Counts(from + 1000), next);
}

TEST(MixtureTest, TheSeedShiftsTheOrder) {
  const std::vector<double> weights = {1.0, 1.0, 1.0};
  std::set<std::vector<int64_t>> orders;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    std::vector<int64_t> order;
    for (int64_t n = 0; n < 12; ++n) order.push_back(Mixture::Create(weights, seed)->At(n).dataset);
    orders.insert(order);
  }
  EXPECT_GT(orders.size(), 3u);
}

TEST(MixtureTest, RefusesImpossibleWeights) {
  const auto refuse = [](std::vector<double> weights, const std::string& text) {
    EXPECT_TRUE(Fails(Mixture::Create(weights, 1).status(), ExitCode::kUsage, text));
  };
  constexpr double kMax = std::numeric_limits<double>::max();
  refuse({}, "add up to 0");
  refuse({0, 0}, "add up to 0");
  refuse({1, -1}, "datasets[1].weight is -1");
  refuse({std::nan(""), 1}, "datasets[0].weight is nan");
  refuse({1, HUGE_VAL}, "datasets[1].weight is inf");
  refuse({kMax, kMax}, "add up to inf");
  refuse({1, 1e-13}, "datasets[1].weight is 1e-13");
}

}  // namespace
}  // namespace jevons
