#include "trainer/report/curve.h"

#include <gtest/gtest.h>

#include <cmath>

namespace jevons {
namespace {

TEST(Curve, IsStraightBetweenPointsAndNothingOutsideOfThem) {
  const Curve curve{.x = {10, 20, 40}, .y = {5, 3, 2}};
  EXPECT_EQ(curve.At(10), 5);
  EXPECT_EQ(curve.At(15), 4);
  EXPECT_EQ(curve.At(20), 3);
  EXPECT_EQ(curve.At(30), 2.5);
  EXPECT_EQ(curve.At(40), 2);
  EXPECT_FALSE(curve.At(9.99) || curve.At(40.01) || curve.At(std::nan("")) || Curve{}.At(0));
}

TEST(Curve, ReachesALevelWhereTheLineFirstComesDownToIt) {
  const Curve curve{.x = {10, 20, 30, 40}, .y = {5, 3, 4, 1}};
  EXPECT_EQ(curve.Reaches(6), 10);
  EXPECT_EQ(curve.Reaches(4), 15);
  EXPECT_EQ(curve.Reaches(3), 20);
  EXPECT_EQ(curve.Reaches(2.5), 35);
  EXPECT_FALSE(curve.Reaches(0.99));
}

// Two points at one place, as after a step that cost nothing: no division by nothing.
TEST(Curve, StandsAtOnePlaceTwice) {
  const Curve curve{.x = {10, 10, 20}, .y = {5, 3, 1}};
  EXPECT_EQ(curve.At(10), 5);
  EXPECT_EQ(curve.At(15), 2);
  EXPECT_EQ(curve.Reaches(3), 10);
}

TEST(Curve, ThinnedKeepsItsEndsItsOrderAndItsMean) {
  Curve curve;
  for (int i = 0; i < 1000; ++i) curve.Add(i, 1000 - i);
  const Curve thin = curve.Thinned(50);
  ASSERT_EQ(thin.x.size(), 50u);
  EXPECT_EQ(thin.x.front(), 0);
  EXPECT_EQ(thin.x.back(), 999);
  for (size_t i = 0; i < thin.x.size(); ++i) {
    EXPECT_NEAR(thin.y[i], 1000 - thin.x[i], 1e-9);  // on the line that it was
    EXPECT_GT(thin.x[i], i > 0 ? thin.x[i - 1] : -1);
  }
  EXPECT_EQ(curve.Thinned(1000).x, curve.x);
}

TEST(Curve, SmoothsByNineTenths) {
  const std::vector<double> smoothed = SmoothedLosses({10, 0, 10});
  EXPECT_DOUBLE_EQ(smoothed[0], 10);
  EXPECT_DOUBLE_EQ(smoothed[1], 9);
  EXPECT_DOUBLE_EQ(smoothed[2], 9.1);
  EXPECT_TRUE(SmoothedLosses({}).empty());
}

}  // namespace
}  // namespace jevons
