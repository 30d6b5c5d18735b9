#include "parallel/ep/balance.h"

#include <vector>

#include "gtest/gtest.h"

namespace jevons {
namespace {

TEST(BalanceTest, OverloadedExpertsAreLoweredAndStarvedOnesRaised) {
  std::vector<float> bias = {0.5f, 0.5f, 0.5f, 0.5f};
  UpdateGateBias(std::vector<int64_t>{10, 0, 5, 5}, 0.25f, bias);
  EXPECT_EQ(bias, (std::vector<float>{0.25f, 0.75f, 0.5f, 0.5f}));
}

TEST(BalanceTest, TheMeanIsExact) {
  // Mean 10/3: no count equals it, and rounding it to 3 would leave two experts alone.
  std::vector<float> bias(3, 0.0f);
  UpdateGateBias(std::vector<int64_t>{3, 3, 4}, 1.0f, bias);
  EXPECT_EQ(bias, (std::vector<float>{1, 1, -1}));
  const int64_t large = int64_t{1} << 53;
  std::vector<float> two(2, 0.0f);
  UpdateGateBias(std::vector<int64_t>{large + 1, large}, 1.0f,
                 two);  // the difference is below a double's resolution
  EXPECT_EQ(two, (std::vector<float>{-1, 1}));
}

TEST(BalanceTest, NothingRoutedChangesNothing) {
  std::vector<float> bias = {1, -1};
  UpdateGateBias(std::vector<int64_t>{0, 0}, 1.0f, bias);
  EXPECT_EQ(bias, (std::vector<float>{1, -1}));
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
