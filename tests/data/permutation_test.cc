#include "data/permutation.h"

#include <algorithm>
#include <map>
#include <vector>

#include "gtest/gtest.h"

namespace jevons {
namespace {

TEST(PermutationTest, IsABijectionWithInverseAtEverySize) {
  std::vector<int64_t> sizes = {255, 256, 257, 1000, 4095, 4096, 4097, 65537, 100003};
  for (int64_t size = 1; size <= 130; ++size) sizes.push_back(size);
  for (const int64_t size : sizes) {
    for (uint64_t key = 0; key < 3; ++key) {
      const Permutation permutation(size, key);
      std::vector<bool> seen(static_cast<size_t>(size));
      for (int64_t i = 0; i < size; ++i) {
        const int64_t value = permutation.At(i);
        ASSERT_TRUE(value >= 0 && value < size) << size;
        ASSERT_FALSE(seen[static_cast<size_t>(value)]) << size << " " << i;
        seen[static_cast<size_t>(value)] = true;
        ASSERT_EQ(permutation.PositionOf(value), i);
      }
    }
  }
}

TEST(PermutationTest, HugeSizesInvertToo) {
  for (const int64_t size : {(int64_t{1} << 40) + 1, int64_t{1} << 62, (int64_t{1} << 62) - 57}) {
    const Permutation permutation(size, 5);
    for (int64_t i = size - 100; i < size; ++i) {
      const int64_t value = permutation.At(i);
      ASSERT_TRUE(value >= 0 && value < size);
      ASSERT_EQ(permutation.PositionOf(value), i);
    }
  }
}

TEST(PermutationTest, WithoutKeyIsTheIdentity) {
  const Permutation identity(10);
  for (int64_t i = 0; i < 10; ++i) EXPECT_TRUE(identity.At(i) == i && identity.PositionOf(i) == i);
}

TEST(PermutationTest, EveryOrderOfFourIsAsLikely) {
  std::map<std::vector<int64_t>, int> orders;
  constexpr int kKeys = 24000;
  for (uint64_t key = 0; key < kKeys; ++key) {
    const Permutation permutation(4, key);
    ++orders[{permutation.At(0), permutation.At(1), permutation.At(2), permutation.At(3)}];
  }
  EXPECT_EQ(orders.size(), 24u);
  for (const auto& [order, count] : orders) EXPECT_NEAR(count, kKeys / 24, 160);  // 5 standard deviations
}

TEST(PermutationTest, ManyElementsGoEverywhereAlike) {
  constexpr int64_t kSize = 37;
  std::vector<int> hits(kSize * kSize);
  constexpr int kKeys = 37 * 400;
  for (uint64_t key = 0; key < kKeys; ++key) {
    const Permutation permutation(kSize, key);
    for (int64_t i = 0; i < kSize; ++i) ++hits[static_cast<size_t>(i * kSize + permutation.At(i))];
  }
  const auto [least, most] = std::minmax_element(hits.begin(), hits.end());
  EXPECT_GT(*least, 300);  // 400 expected, standard deviation 20, the most extreme of 1369 cells
  EXPECT_LT(*most, 500);
}

TEST(PermutationTest, NeighboursPartAndKeysDiffer) {
  const Permutation one(1 << 20, 1), two(1 << 20, 2);
  int adjacent = 0, same = 0;
  for (int64_t i = 0; i + 1 < 1 << 20; ++i) {
    adjacent += std::abs(one.At(i + 1) - one.At(i)) == 1;
    same += one.At(i) == two.At(i);
  }
  EXPECT_LT(adjacent, 15);  // 2 expected
  EXPECT_LT(same, 12);      // 1 expected
}

}  // namespace
}  // namespace jevons
