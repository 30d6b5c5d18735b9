// The arithmetic of the kernel for FP8 products on tensor cores.
#include <gtest/gtest.h>

#include <set>
#include <utility>
#include <vector>

#include "kernels/base/philox.h"
#include "kernels/cuda/gemm_wgmma_plan.h"

namespace jevons::cuda {
namespace {

TEST(WgmmaPlan, EveryTileComesOnce) {
  for (const auto& [rows, pairs] : {std::pair{1, 1}, {3, 2}, {8, 5}, {9, 4}, {31, 7}, {64, 16}}) {
    std::set<std::pair<int, int>> seen;
    for (int i = 0; i < rows * pairs; ++i) {
      const TilePlace place = PlaceOf(i, rows, pairs);
      ASSERT_TRUE(place.row >= 0 && place.row < rows && place.pair >= 0 && place.pair < pairs) << i;
      seen.insert({place.row, place.pair});
    }
    EXPECT_EQ(seen.size(), static_cast<size_t>(rows * pairs));
  }
}

// What 66 clusters read at a time is far less than all.
TEST(WgmmaPlan, NeighboursShareOperands) {
  std::set<int> rows, pairs;
  for (int i = 0; i < 66; ++i) {
    const TilePlace place = PlaceOf(i, 32, 16);
    rows.insert(place.row);
    pairs.insert(place.pair);
  }
  EXPECT_LE(rows.size(), 16u);
  EXPECT_LE(pairs.size(), 16u);
  EXPECT_LE(rows.size() + 2 * pairs.size(), 34u);
}

TEST(WgmmaPlan, TheSwizzleIsAPermutationWithoutBankConflicts) {
  std::set<int> bytes;
  for (int row = 0; row < 128; ++row)
    for (int byte = 0; byte < 128; ++byte) bytes.insert(SwizzledByte(row, byte));
  EXPECT_EQ(bytes.size(), 128u * 128u);
  EXPECT_EQ(*bytes.rbegin(), 128 * 128 - 1);
  for (int chunk = 0; chunk < 8; ++chunk) {
    std::set<int> banks;
    for (int row = 0; row < 8; ++row) banks.insert(SwizzledByte(row, chunk * 16) % 128 / 16);
    EXPECT_EQ(banks.size(), 8u);
  }
}

// As PTX has it: bits 4 to 6 of an address are exclusive-ored with bits 7 to 9.
TEST(WgmmaPlan, TheSwizzleIsOneOfAddresses) {
  for (int row = 0; row < 128; ++row)
    for (int byte = 0; byte < 128; ++byte) {
      const int plain = row * 128 + byte;
      ASSERT_EQ(SwizzledByte(row, byte), plain ^ ((plain >> 7 & 7) << 4));
    }
}

TEST(WgmmaPlan, DescriptorsHaveTheirFields) {
  const uint64_t d = MatrixDescriptor(0x2C400);
  EXPECT_EQ((d & 0x3FFF) * 16, 0x2C400u);
  EXPECT_EQ(d >> 16 & 0x3FFF, 1u);
  EXPECT_EQ((d >> 32 & 0x3FFF) * 16, 1024u);
  EXPECT_EQ(d >> 49 & 7, 0u);  // tiles begin where the swizzle's pattern does
  EXPECT_EQ(d >> 62, 1u);
  EXPECT_EQ(((d + 3 * kNextTerms) & 0x3FFF) * 16, 0x2C400u + 96);
}

template <int kWidth>
struct Width {
  static constexpr int kColumns = kWidth;
  using Shared = WgmmaShared<kWidth>;
};
template <class W>
struct WgmmaPlanOf : testing::Test {};
using Widths = testing::Types<Width<64>, Width<128>, Width<192>>;
TYPED_TEST_SUITE(WgmmaPlanOf, Widths);

TYPED_TEST(WgmmaPlanOf, SharedMemoryDoesNotOverlap) {
  using S = typename TypeParam::Shared;
  std::set<int> begins;
  for (int warp = 0; warp < 8; ++warp)
    for (int box = 0; box < S::kBoxes; ++box) {
      EXPECT_EQ(S::Box(warp, box) % 1024, 0);
      EXPECT_TRUE(begins.insert(S::Box(warp, box)).second);
      EXPECT_LE(S::Box(warp, box) + 16 * 128, S::A(0));
    }
  for (int stage = 0; stage < S::kStages; ++stage) {
    EXPECT_EQ(S::A(stage) % S::kAlignment, 0);
    EXPECT_EQ(S::B(stage) % S::kAlignment, 0);
    EXPECT_EQ(S::B(stage), S::A(stage) + 128 * 128);
    EXPECT_EQ(S::A(stage + 1), S::B(stage) + TypeParam::kColumns * 128);
    EXPECT_EQ(S::Scales(stage) % 16, 0);
    EXPECT_GE(S::Scales(stage), S::A(S::kStages));
    EXPECT_LE(S::Scales(stage) + TypeParam::kColumns * 4, S::kBarriers);
    for (const int barrier : {S::Full(stage), S::Empty(stage)}) {
      EXPECT_EQ(barrier % 8, 0);
      EXPECT_TRUE(begins.insert(barrier).second);
      EXPECT_LE(barrier + 8, S::kNumberBarriers);
    }
  }
  for (int number = 0; number < S::kNumbers; ++number) {
    EXPECT_EQ(S::Dealt(number), S::kNumberBarriers + 8 * number);
    EXPECT_EQ(S::Dealt(number) % 8, 0);
    EXPECT_LE(S::Dealt(number) + 8, S::kTileNumbers);
    EXPECT_EQ(S::TileNumber(number), S::kTileNumbers + 4 * number);
    EXPECT_LE(S::TileNumber(number) + 4, S::kBytes);
  }
  EXPECT_LE(S::kBytes + S::kAlignment, 227 * 1024);
  EXPECT_GE(S::kStages, 4);
}

TYPED_TEST(WgmmaPlanOf, ThreadsHoldEverySumOnce) {
  std::set<std::pair<int, int>> seen;
  for (int thread = 0; thread < 128; ++thread)
    for (int i = 0; i < WgmmaTile::Sums(TypeParam::kColumns); ++i) seen.insert({RowOfSum(thread, i), ColumnOfSum(thread, i)});
  EXPECT_EQ(seen.size(), 64u * TypeParam::kColumns);
  EXPECT_EQ(*seen.rbegin(), std::pair(63, TypeParam::kColumns - 1));
}

// A warp's lanes that store pairs of BF16 at a time find all banks; every place of a box is written once.
TEST(WgmmaPlan, BoxesAreFilledWithoutBankConflicts) {
  std::set<int> places;
  for (int i = 0; i < WgmmaTile::Sums(64); i += 4)
    for (const int below : {0, 8}) {
      std::set<int> banks;
      for (int lane = 0; lane < 32; ++lane) {
        const int place = SwizzledByte(lane / 4 + below, ColumnOfSum(lane, i) * 2);
        banks.insert(place / 4 % 32);
        places.insert(place);
      }
      EXPECT_EQ(banks.size(), 32u);
    }
  EXPECT_EQ(places.size(), 16u * 128 / 4);
}

// Wherever a tile begins, the columns of a chunk share a scale: that of the tile's first block of columns, or of the next.
TYPED_TEST(WgmmaPlanOf, AChunkOfColumnsHasOneScale) {
  using Chunks = WgmmaChunks<TypeParam::kColumns>;
  EXPECT_EQ(Chunks::kColumns % 8, 0);  // a thread's sums 4 i to 4 i + 3 are in one chunk
  EXPECT_EQ(Chunks::kCount * Chunks::kColumns, TypeParam::kColumns);
  for (int tile = 0; tile < 12; ++tile) {
    const int begin = tile * TypeParam::kColumns;
    for (int chunk = 0; chunk < Chunks::kCount; ++chunk) {
      const int first = begin + chunk * Chunks::kColumns, last = first + Chunks::kColumns - 1;
      EXPECT_EQ(first / 128, last / 128);
      EXPECT_LE(last / 128, begin / 128 + Chunks::kCross);
    }
  }
}

TEST(WgmmaPlan, TheRingGoesRound) {
  constexpr int kPlaces = 6;
  RingPlace<kPlaces> place;
  for (int i = 0; i < 5 * kPlaces; ++i, place.Next()) {
    ASSERT_EQ(place.at, i % kPlaces);
    ASSERT_EQ(place.parity, static_cast<uint32_t>(i / kPlaces % 2));
  }
}

// Narrow where wide tiles would leave clusters without work, wide where there is enough for all.
TEST(WgmmaPlan, TheWidthFitsTheProducts) {
  constexpr int kClusters = 66;
  const auto width = [](std::vector<WgmmaSides> sides) { return WidthFor(sides, kClusters); };
  EXPECT_EQ(width({{4096, 24576}}), 192);  // queries of DeepSeek-V3
  EXPECT_EQ(width({{4096, 576}}), 192);    // its latents: three tiles across, one round
  EXPECT_EQ(width({{4096, 1024}}), 128);   // two rounds, as with 192
  EXPECT_EQ(width(std::vector<WgmmaSides>(64, {128, 4096})), 192);
  EXPECT_EQ(width(std::vector<WgmmaSides>(8, {100, 1024})), 64);  // 64 pairs: one round of all clusters
  EXPECT_EQ(width({{1, 1}}), 64);
  EXPECT_EQ(width({{0, 8}, {128, 64 * 132}}), 64);
}

// By trying all: no width takes fewer rounds of fewer cycles.
TEST(WgmmaPlan, NoOtherWidthIsFaster) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    std::vector<WgmmaSides> sides;
    for (uint64_t i = 0; i <= RandomBits(seed, 0, 0) % 5; ++i)
      sides.push_back(
          {1 + static_cast<int64_t>(RandomBits(seed, 1, i) % 5000), 1 + static_cast<int64_t>(RandomBits(seed, 2, i) % 9000)});
    const auto cycles = [&](int width) {
      int64_t tiles = 0;
      for (const auto& [m, n] : sides)
        for (int64_t row = 0; row < m; row += 128)
          for (int64_t col = 0; col < n; col += 2 * width) ++tiles;
      return static_cast<double>((tiles + 65) / 66) * (256 + 3 * width);
    };
    const int chosen = WidthFor(sides, 66);
    for (const int width : kWgmmaWidths) ASSERT_LE(cycles(chosen), cycles(width));
  }
}

// Whatever the tiles' lengths, a number is overwritten only when the warps that read it have consumed a stage that comes after it.
TYPED_TEST(WgmmaPlanOf, NumbersOfTilesOutliveTheirReaders) {
  using S = typename TypeParam::Shared;
  constexpr int kStages = S::kStages, kNumbers = S::kNumbers;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    std::vector<int> first = {0};  // stage of each tile, counted from the beginning
    for (uint64_t i = 0; i < 40; ++i) {
      const int length = seed == 0 ? 1 : 1 + static_cast<int>(RandomBits(seed, 0, i) % (seed % 2 ? 3 : 20));
      const int tile = static_cast<int>(i), begin = first.back(), filled = begin + S::DealingBlock(length);
      ASSERT_LT(S::DealingBlock(length), length);
      ASSERT_GE(S::DealingBlock(length),
                length - kStages);  // the tile is not taken from others sooner than it must
      if (tile + 1 >= kNumbers) {
        ASSERT_LE(first[static_cast<size_t>(tile + 1 - kNumbers)], filled - kStages);
      }
      first.push_back(begin + length);
    }
  }
}

}  // namespace
}  // namespace jevons::cuda
