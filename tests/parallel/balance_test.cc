#include "parallel/ep/balance.h"

#include <vector>

#include "gtest/gtest.h"

namespace jevons {
namespace {

TEST(BalanceTest, OverloadedExpertsAreLoweredAndStarvedOnesRaised) {
  EXPECT_EQ(GateBiasSteps(std::vector<int64_t>{10, 0, 5, 5}, 0.25f), (std::vector<float>{-0.25f, 0.25f, 0, 0}));
}

TEST(BalanceTest, TheMeanIsExact) {
  // Mean 10/3: no count equals it, and rounding it to 3 would leave two experts alone.
  EXPECT_EQ(GateBiasSteps(std::vector<int64_t>{3, 3, 4}, 1.0f), (std::vector<float>{1, 1, -1}));
  const int64_t large = int64_t{1} << 53;  // the difference is below a double's resolution
  EXPECT_EQ(GateBiasSteps(std::vector<int64_t>{large + 1, large}, 1.0f), (std::vector<float>{-1, 1}));
}

TEST(BalanceTest, NothingRoutedChangesNothing) {
  EXPECT_EQ(GateBiasSteps(std::vector<int64_t>{0, 0}, 1.0f), (std::vector<float>{0, 0}));
}

TEST(BalanceTest, LoadSummary) {
  const LoadSummary uneven = SummarizeLoad(std::vector<int64_t>{6, 0, 2, 0});
  EXPECT_EQ(uneven.max_over_mean, 3.0);
  EXPECT_EQ(uneven.dead, 2);
  EXPECT_EQ(SummarizeLoad(std::vector<int64_t>{4, 4}).max_over_mean, 1.0);
  EXPECT_EQ(SummarizeLoad(std::vector<int64_t>{0, 0}).max_over_mean, 0.0);
  EXPECT_EQ(SummarizeLoad(std::vector<int64_t>{0, 0}).dead, 2);
}

}  // namespace
}  // namespace jevons
