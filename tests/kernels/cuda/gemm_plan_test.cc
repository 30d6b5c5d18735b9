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

TEST(WgmmaPlan, SharedMemoryDoesNotOverlap) {
  using S = WgmmaShared;
  std::set<int> begins;
  for (int stage = 0; stage < S::kStages; ++stage) {
    EXPECT_EQ(S::A(stage) % S::kAlignment, 0);
    EXPECT_EQ(S::B(stage) % S::kAlignment, 0);
    EXPECT_EQ(S::B(stage), S::A(stage) + S::kOperandBytes);
    EXPECT_EQ(S::A(stage + 1), S::B(stage) + S::kOperandBytes);
    EXPECT_EQ(S::Scales(stage) % 16, 0);
    EXPECT_GE(S::Scales(stage), S::A(S::kStages));
    EXPECT_LE(S::Scales(stage) + S::kScaleBytes, S::kBarriers);
    for (const int barrier : {S::Full(stage), S::Empty(stage)}) {
      EXPECT_EQ(barrier % 8, 0);
      EXPECT_TRUE(begins.insert(barrier).second);
      EXPECT_LE(barrier + 8, S::kNumberBarriers);
    }
  }
  for (int number = 0; number < S::kNumbers; ++number) {
    EXPECT_EQ(S::Dealt(number), S::kNumberBarriers + 8 * number);
    EXPECT_LE(S::Dealt(number) + 8, S::kTileNumbers);
    EXPECT_EQ(S::TileNumber(number), S::kTileNumbers + 4 * number);
    EXPECT_LE(S::TileNumber(number) + 4, S::kBytes);
  }
}

TEST(WgmmaPlan, ThreadsHoldEverySumOnce) {
  std::set<std::pair<int, int>> seen;
  for (int thread = 0; thread < 128; ++thread)
    for (int i = 0; i < WgmmaTile::kSums; ++i) seen.insert({RowOfSum(thread, i), ColumnOfSum(thread, i)});
  EXPECT_EQ(seen.size(), 64u * 128u);
  EXPECT_EQ(*seen.rbegin(), std::pair(63, 127));
}

TEST(WgmmaPlan, TheRingGoesRound) {
  RingPlace<WgmmaShared::kStages> place;
  for (int i = 0; i < 5 * WgmmaShared::kStages; ++i, place.Next()) {
    ASSERT_EQ(place.at, i % WgmmaShared::kStages);
    ASSERT_EQ(place.parity, static_cast<uint32_t>(i / WgmmaShared::kStages % 2));
  }
}

// Whatever the tiles' lengths, a number is overwritten only when the warps that read it have consumed a stage that comes after it.
TEST(WgmmaPlan, NumbersOfTilesOutliveTheirReaders) {
  constexpr int kStages = WgmmaShared::kStages, kNumbers = WgmmaShared::kNumbers;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    std::vector<int> first = {0};  // stage of each tile, counted from the beginning
    for (uint64_t i = 0; i < 40; ++i) {
      const int length = seed == 0 ? 1 : 1 + static_cast<int>(RandomBits(seed, 0, i) % (seed % 2 ? 3 : 20));
      const int tile = static_cast<int>(i), begin = first.back(), filled = begin + DealingBlock(length);
      ASSERT_LT(DealingBlock(length), length);
      ASSERT_GE(DealingBlock(length), length - kStages);  // the tile is not taken from others sooner than it must
      if (tile + 1 >= kNumbers) {
        ASSERT_LE(first[static_cast<size_t>(tile + 1 - kNumbers)], filled - kStages);
      }
      first.push_back(begin + length);
    }
  }
}

TEST(WgmmaPlan, FourThreadsTurnTheirWords) {
  uint32_t words[4][4];  // of a thread
  for (uint32_t q = 0; q < 4; ++q)
    for (uint32_t i = 0; i < 4; ++i) words[q][i] = 10 * q + i;
  for (int step = 1; step <= 2; ++step) {
    WordPair sent[4];
    for (int q = 0; q < 4; ++q) sent[q] = QuadSends(q, step, words[q]);
    for (int q = 0; q < 4; ++q) QuadTakes(q, step, sent[q ^ step], words[q]);
  }
  for (uint32_t q = 0; q < 4; ++q)
    for (uint32_t i = 0; i < 4; ++i) EXPECT_EQ(words[q][i], 10 * i + q);
}

}  // namespace
}  // namespace jevons::cuda
