#include "data/prepare/split.h"

#include "gtest/gtest.h"

namespace jevons {
namespace {

int64_t Count(const ValidationSplit& split, int64_t documents) {
  int64_t count = 0;
  for (int64_t d = 0; d < documents; ++d) count += split.IsValidation(d);
  return count;
}

TEST(ValidationSplitTest, NeitherSideIsEmptyFromTwoDocumentsOn) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    for (const int64_t documents : {2, 3, 66}) {
      for (const double fraction : {1e-9, 0.05, 0.5, 0.999999}) {
        const ValidationSplit split(documents, fraction, seed);
        EXPECT_TRUE(split.has_validation());
        EXPECT_GE(Count(split, documents), 1);
        EXPECT_LE(Count(split, documents), documents - 1);
      }
    }
  }
}

TEST(ValidationSplitTest, NothingToSplit) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    EXPECT_EQ(Count(ValidationSplit(1, 0.9, seed), 1), 0);
    EXPECT_EQ(Count(ValidationSplit(100, 0, seed), 100), 0);
  }
  EXPECT_FALSE(ValidationSplit(1, 0.9, 1).has_validation());
  EXPECT_FALSE(ValidationSplit(100, 0, 1).has_validation());
  EXPECT_FALSE(ValidationSplit(0, 0.5, 1).has_validation());
}

TEST(ValidationSplitTest, HitsTheFractionAndFollowsTheSeed) {
  const ValidationSplit split(100000, 0.05, 1), other(100000, 0.05, 2), longer(200000, 0.05, 1);
  EXPECT_NEAR(static_cast<double>(Count(split, 100000)), 5000, 350);  // five standard deviations
  int64_t both = 0;
  for (int64_t d = 0; d < 100000; ++d) {
    both += split.IsValidation(d) && other.IsValidation(d);
    ASSERT_EQ(split.IsValidation(d),
              longer.IsValidation(d));  // a document's side does not depend on the others
  }
  EXPECT_NEAR(static_cast<double>(both), 250, 80);
}

}  // namespace
}  // namespace jevons
