#include "parallel/zero/ownership.h"

#include <vector>

#include "gtest/gtest.h"

namespace jevons {
namespace {

TEST(OwnershipTest, EveryElementHasOneOwnerInChunksFromTheParametersBeginning) {
  const std::vector<std::vector<int64_t>> tables = {
      {}, {0}, {1}, {kChunk}, {kChunk + 1}, {10, 20, 30}, {3 * kChunk + 5, 0, 7, kChunk, 2 * kChunk - 1, 0}};
  for (const std::vector<int64_t>& sizes : tables) {
    for (int ranks = 1; ranks <= 9; ++ranks) {
      std::vector<int64_t> next(sizes.size(),
                                0);  // first element of each parameter that nobody has owned yet
      int last = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        int64_t chunks = 0;
        for (const OwnedSlice& slice : OwnedSlices(sizes, ranks, rank)) {
          ASSERT_GE(slice.param, last);  // in table order
          last = slice.param;
          ASSERT_FALSE(slice.elements.empty());
          EXPECT_EQ(slice.elements.begin, next[slice.param]);
          EXPECT_EQ(slice.elements.begin % kChunk, 0);
          EXPECT_TRUE(slice.elements.end % kChunk == 0 || slice.elements.end == sizes[slice.param]);
          next[slice.param] = slice.elements.end;
          chunks += ChunksOf(slice.elements.size());
        }
        int64_t all = 0;
        for (const int64_t size : sizes) all += ChunksOf(size);
        EXPECT_EQ(chunks, BlockOf(all, ranks, rank).size());
      }
      EXPECT_EQ(next, sizes);
    }
  }
}

}  // namespace
}  // namespace jevons
