// What kernels and their launches compute about places, on the host.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "kernels/base/philox.h"
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/grid.h"
#include "kernels/cuda/jobs.h"
#include "kernels/cuda/quantize_columns.h"
#include "kernels/cuda/rank.h"
#include "kernels/cuda/softmax_xent_plan.h"
#include "kernels/cuda/sort.h"

namespace jevons::cuda {
namespace {

TEST(RowGrid, GivesEveryPackToOneThread) {
  for (int64_t rows : {1, 2, 127, 128, 129, 300}) {
    for (int64_t packs : {1, 2, 3, 16, 31, 32, 33, 200, 896, 1025, 5000}) {
      const RowGrid grid = PlanRows(rows, packs);
      ASSERT_EQ(grid.threads_x * grid.threads_y, kBlockThreads);
      std::vector<int> times(static_cast<size_t>(rows * packs));
      for (int64_t block = 0; block < grid.blocks(); ++block) {
        for (int y = 0; y < grid.threads_y; ++y) {
          const int64_t row = grid.RowOf(block, y);
          if (row >= rows) continue;
          for (int x = 0; x < grid.threads_x; ++x)
            for (int j = 0; j < RowGrid::kPacks; ++j)
              if (const int64_t pack = grid.PackOf(block, x, j); pack < packs) ++times[static_cast<size_t>(row * packs + pack)];
        }
      }
      for (int t : times) ASSERT_EQ(t, 1) << rows << " x " << packs;
    }
  }
}

// Neighbouring threads touch neighbouring packs, a warp's worth where the row has them.
TEST(RowGrid, KeepsWarpsOnOneStretchOfARow) {
  for (int64_t packs : {32, 33, 896, 1792, 16160}) EXPECT_EQ(PlanRows(1000, packs).threads_x % 32, 0);
  EXPECT_EQ(PlanRows(4096, 896).chunks, 1);     // H = 7168 in BF16: one block a row
  EXPECT_EQ(PlanRows(4096, 256).threads_y, 4);  // I = 2048: four rows a block
  EXPECT_EQ(PlanRows(100000, 1).threads_x, 1);
}

TEST(RowGrid, FitsALaunchAtProductionSizes) {
  EXPECT_LE(PlanRows(1, int64_t{129280} * 7168 / 4).blocks(), INT32_MAX);
  EXPECT_LE(PlanRows(32768, 129280 / 4).blocks(), INT32_MAX);
}

// Every block of every launch has one job, its own, and jobs without blocks have none.
TEST(JobTable, GivesEveryJobItsBlocks) {
  constexpr int kCapacity = 5;
  for (const std::vector<int64_t>& sizes : std::vector<std::vector<int64_t>>{
           {}, {0}, {1}, {3, 0, 0, 2}, {0, 0, 1, 0}, {1, 2, 3, 4, 5}, {0, 7, 1, 1, 0, 1, 2, 0, 9, 1, 1, 1, 4, 0}}) {
    std::vector<SizedJob<size_t>> jobs;
    for (size_t i = 0; i < sizes.size(); ++i) jobs.push_back({i, sizes[i]});
    std::vector<int64_t> times(sizes.size());
    for (std::span<const SizedJob<size_t>> list = jobs; !list.empty();) {
      JobTable<size_t, kCapacity> table;
      const int64_t blocks = FillTable(list, table);
      EXPECT_EQ(table.count, list.empty() ? table.count : kCapacity) << "a launch that is not full";
      for (int64_t block = 0; block < blocks; ++block) {
        const int index = table.IndexOf(static_cast<unsigned>(block));
        ASSERT_LT(index, table.count);
        EXPECT_EQ(block - table.first[index], times[table.jobs[index]]++);
      }
    }
    EXPECT_EQ(times, sizes);
  }
}

TEST(JobTable, FitsInTheParametersOfALaunch) {
  struct Wide {
    void* pointers[20];
  };
  EXPECT_LE(sizeof(JobTable<Wide, kManyJobs<Wide>>), 32764u - 240u);
  EXPECT_LE(sizeof(JobTable<char, kManyJobs<char>>), 32764u - 240u);
  EXPECT_GE(kManyJobs<Wide>, 190);
}

TEST(Words, AreAsWideAsEveryAddressAllows) {
  EXPECT_EQ(WordOf(0), 16);
  EXPECT_EQ(WordOf(32), 16);
  EXPECT_EQ(WordOf(48 | 8), 8);
  EXPECT_EQ(WordOf(4), 4);
  EXPECT_EQ(WordOf(6), 2);
  EXPECT_EQ(WordOf(7), 1);
}

TEST(RowThreads, AreWholeWarpsWithinTheLimit) {
  EXPECT_EQ(RowThreads(1, 4, 1024), 32);
  EXPECT_EQ(RowThreads(896, 4, 512), 224);
  EXPECT_EQ(RowThreads(100000, 4, 512), 512);
}

TEST(XentPlan, CoversTheVocabulary) {
  for (int64_t vocab : {1, 4, 5, 300, 18432, 18433, 129280, 450560, 450561, 1000000}) {
    const XentPlan plan = PlanXent(vocab);
    EXPECT_EQ(plan.slice % 4, 0);
    EXPECT_GE(plan.slice * plan.blocks, vocab);
    EXPECT_TRUE(plan.blocks == 1 || plan.blocks == 2 || plan.blocks == 4 || plan.blocks == 8);
    EXPECT_LE(plan.shared_bytes(), 227 << 10);
    EXPECT_EQ(plan.keeps, vocab <= 8 * kSharedForOne / 4);
  }
  EXPECT_EQ(PlanXent(129280).blocks, 8);
  EXPECT_LE(3 * (PlanXent(129280).shared_bytes() + 1024), 227 << 10);  // three blocks of a multiprocessor
}

TEST(Rank, OrdersAsNumbersDo) {
  const float inf = std::numeric_limits<float>::infinity();
  const float rising[] = {-inf, -3e38f, -1.0f, -1e-45f, 0.0f, 1e-45f, 0.5f, 1.0f, 3e38f, inf};
  for (size_t i = 0; i + 1 < std::size(rising); ++i) EXPECT_LT(RankOf(rising[i]), RankOf(rising[i + 1]));
  EXPECT_EQ(RankOf(-0.0f), RankOf(0.0f));
  EXPECT_GT(RankOf(NAN), RankOf(inf));
  EXPECT_EQ(RankOf(-NAN), RankOf(NAN));
  EXPECT_GT(RankOf(-inf), kTaken);
}

TEST(ChunkPlace, IsOneToOneAndWithoutConflicts) {
  std::set<int> places;
  for (int column = 0; column < 128; ++column)
    for (int chunk = 0; chunk < 16; ++chunk) places.insert(ChunkPlace(column, chunk));
  EXPECT_EQ(places.size(), 128u * 16u);
  EXPECT_EQ(*places.rbegin(), 128 * 16 - 1);
  for (int chunk = 0; chunk < 16; ++chunk) {
    for (int i = 0; i < 8; ++i) {
      std::set<int> written, read;  // pairs of banks: a place is 8 bytes
      for (int tx = 0; tx < 16; ++tx) written.insert(ChunkPlace(tx * 8 + i, chunk) % 16);
      for (int lane = 0; lane < 16; ++lane) read.insert(ChunkPlace(chunk * 8 + i, lane) % 16);
      EXPECT_EQ(written.size(), 16u);
      EXPECT_EQ(read.size(), 16u);
    }
  }
}

TEST(Sort, KnowsTheBitsOfAKey) {
  EXPECT_EQ(BitsOf(1), 0);
  EXPECT_EQ(BitsOf(2), 1);
  EXPECT_EQ(BitsOf(512), 9);
  EXPECT_EQ(BitsOf(513), 10);
  EXPECT_EQ(BitsOf(129280), 17);
}

// Of attention with documents in 4,096 tokens, 192 and 128 numbers of 128 heads.
AttentionDesc OfDocuments(int64_t documents, int64_t longest) {
  static char room[16];
  AttentionDesc d;
  d.heads = 128;
  d.nope_dim = d.value_dim = 128;
  d.rope_dim = 64;
  d.sequence_length = 4096;
  d.q = Tensor(room, DType::kBF16, {4096, 128 * 192});
  if (documents > 0) d.document_start = Tensor(room, DType::kI32, {4096});
  d.documents = documents;
  d.longest_document = longest;
  return d;
}

// One long document among short ones does not take the memory of as many long ones from the other heads.
TEST(AttentionPlan, LongDocumentsGoApartInTheBackward) {
  const CallPlan plan = PlanOf(OfDocuments(20, 4000), true);
  ASSERT_EQ(plan.parts.size(), 2u);
  const auto &longer = plan.parts[0], &rest = plan.parts[1];
  EXPECT_EQ(longer.shape.length, 4096);
  EXPECT_EQ(longer.above, 1024);
  EXPECT_EQ(longer.documents, 4);  // there are three at most
  EXPECT_EQ(rest.shape.length, 1024);
  EXPECT_EQ(rest.above, 0);
  EXPECT_EQ(rest.documents, 32);
  EXPECT_EQ(plan.heads(), 8);  // together all documents would let one head go at a time
  EXPECT_EQ(longer.shape.heads, rest.shape.heads);
}

TEST(AttentionPlan, OthersGoTogether) {
  EXPECT_EQ(PlanOf(OfDocuments(20, 4000), false).parts.size(), 1u);       // forward keeps no scores
  EXPECT_EQ(PlanOf(OfDocuments(20, 4000), true, true).parts.size(), 1u);  // none may have length zero
  EXPECT_EQ(PlanOf(OfDocuments(0, 0), true).parts.size(), 1u);
  EXPECT_EQ(PlanOf(OfDocuments(16, 256), true).parts.size(), 1u);
  EXPECT_EQ(PlanOf(OfDocuments(16, 256), true).heads(), 128);
  EXPECT_EQ(PlanOf(OfDocuments(1, 4096), true).parts.size(), 1u);
}

void ExpectPartsFor(const std::vector<int64_t>& lengths, int64_t longest) {
  const AttentionDesc desc = OfDocuments(static_cast<int64_t>(lengths.size()), longest);
  const CallPlan plan = PlanOf(desc, true);
  size_t served = 0;
  for (const PartPlan& part : plan.parts) {
    const auto count =
        std::count_if(lengths.begin(), lengths.end(), [&](int64_t n) { return n > part.above && n <= part.shape.length; });
    EXPECT_LE(count, part.documents);
    EXPECT_EQ(part.documents % part.shape.batch, 0);
    EXPECT_LE(ScoreBytes(part.shape) * part.shape.heads, kMostScoreBytes);
    served += static_cast<size_t>(count);
  }
  EXPECT_EQ(served, lengths.size());
}

// Whatever documents there are, each is in one part, which has room for it.
TEST(AttentionPlan, EveryDocumentHasItsPart) {
  for (int64_t n = 1; n < 4096; ++n) {  // as many as there can be of a length, and tokens alone
    for (const int64_t longest : {n + 1, int64_t{4096}}) {
      std::vector<int64_t> lengths(static_cast<size_t>(4096 / (n + 1)), n + 1);
      lengths.resize(lengths.size() + static_cast<size_t>(4096 % (n + 1)), 1);
      ExpectPartsFor(lengths, longest);
    }
  }
  for (uint64_t seed = 0; seed < 300; ++seed) {
    std::vector<int64_t> lengths;
    int64_t rows = 4096;
    for (uint64_t i = 0; rows > 0; ++i) {
      const int64_t most = int64_t{1} << RandomBits(seed, 0, i) % 13;
      lengths.push_back(std::min(rows, 1 + static_cast<int64_t>(RandomBits(seed, 1, i) % static_cast<uint64_t>(most))));
      rows -= lengths.back();
    }
    const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
    ExpectPartsFor(lengths, longest);
  }
}

}  // namespace
}  // namespace jevons::cuda
