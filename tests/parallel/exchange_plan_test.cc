#include "parallel/comm/exchange_plan.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/philox.h"

namespace jevons {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(ExchangePlanTest, PartsLieInRankOrderAndNeighboursComeFirst) {
  const std::vector<int64_t> send = {3, 5, 0, 7}, recv = {2, 5, 4, 0};
  const ExchangePlan plan = PlanAllToAllV(1, send, 15, recv, 11);
  EXPECT_THAT(plan.sends, ElementsAre(Part{3, 8, 7}, Part{0, 0, 3}));  // nothing to rank 2
  EXPECT_THAT(plan.receives, ElementsAre(Part{0, 0, 2}, Part{2, 7, 4}));
  EXPECT_EQ(plan.own_send, (Part{1, 3, 5}));
  EXPECT_EQ(plan.own_receive, (Part{1, 2, 5}));
  EXPECT_EQ(plan.Peers(), (std::set<int>{0, 2, 3}));
}

TEST(ExchangePlanTest, NothingAndOneRank) {
  const std::vector<int64_t> nothing(3), all = {9};
  EXPECT_FALSE(PlanAllToAllV(2, nothing, 0, nothing, 0).travels());
  const ExchangePlan alone = PlanAllToAllV(0, all, 9, all, 9);
  EXPECT_FALSE(alone.travels());
  EXPECT_EQ(alone.own_send.bytes, 9);
  EXPECT_TRUE(alone.Peers().empty());
}

TEST(ExchangePlanTest, PartsBeyond2To31) {
  const std::vector<int64_t> bytes = {int64_t{3} << 31, 0, int64_t{5} << 31};
  const ExchangePlan plan = PlanAllToAllV(1, bytes, size_t{8} << 31, bytes, size_t{8} << 31);
  EXPECT_THAT(plan.sends, ElementsAre(Part{2, int64_t{3} << 31, int64_t{5} << 31}, Part{0, 0, int64_t{3} << 31}));
}

TEST(ExchangePlanTest, AGatherSendsAllToEveryone) {
  const std::vector<int64_t> recv = {4, 0, 6};
  const ExchangePlan plan = PlanAllGatherV(0, 4, recv, 10);
  EXPECT_THAT(plan.sends, ElementsAre(Part{1, 0, 4}, Part{2, 0, 4}));
  EXPECT_THAT(plan.receives, ElementsAre(Part{2, 4, 6}));
  EXPECT_EQ(plan.own_receive, (Part{0, 0, 4}));
  const ExchangePlan silent = PlanAllGatherV(1, 0, recv, 10);
  EXPECT_THAT(silent.sends, IsEmpty());
  EXPECT_THAT(silent.receives, ElementsAre(Part{0, 0, 4}, Part{2, 4, 6}));
}

// What one rank sends, the other receives, whatever the sizes: no send without its receive, none of zero bytes.
TEST(ExchangePlanTest, BothEndsAgree) {
  for (int ranks = 1; ranks <= 9; ++ranks) {
    for (uint64_t round = 0; round < 20; ++round) {
      const auto bytes = [&](int from, int to) {
        const uint64_t bits = RandomBits(round, from, to);
        return bits % 2 == 0 ? int64_t{0} : static_cast<int64_t>(bits / 2 % 100);
      };
      std::vector<ExchangePlan> plans;
      for (int rank = 0; rank < ranks; ++rank) {
        std::vector<int64_t> send, recv;
        size_t sent = 0, received = 0;
        for (int peer = 0; peer < ranks; ++peer) {
          sent += send.emplace_back(bytes(rank, peer));
          received += recv.emplace_back(bytes(peer, rank));
        }
        plans.push_back(PlanAllToAllV(rank, send, sent, recv, received));
      }
      size_t sends = 0, receives = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        receives += plans[rank].receives.size();
        for (const Part& part : plans[rank].sends) {
          ++sends;
          EXPECT_GT(part.bytes, 0);
          const auto& others = plans[part.peer].receives;
          EXPECT_EQ(
              std::count_if(others.begin(), others.end(), [&](const Part& p) { return p.peer == rank && p.bytes == part.bytes; }),
              1);
        }
      }
      EXPECT_EQ(sends, receives);
    }
  }
}

TEST(ExchangePlanDeathTest, SizesThatCannotBe) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const std::vector<int64_t> two = {1, 2}, other = {2, 1}, negative = {-1, 4}, three = {1, 1, 1};
  EXPECT_DEATH(PlanAllToAllV(0, two, 4, two, 3), "AllToAllV send sizes add up to 3 bytes, the buffer has 4");
  EXPECT_DEATH(PlanAllToAllV(0, two, 3, two, 2), "AllToAllV receive sizes add up to 3");
  EXPECT_DEATH(PlanAllToAllV(0, negative, 3, two, 3), "send size -1");
  EXPECT_DEATH(PlanAllToAllV(0, two, 3, other, 3), "a rank's part for itself: sends 1 bytes, expects 2");
  EXPECT_DEATH(PlanAllToAllV(0, two, 3, three, 3), "sizes to 2 ranks, from 3");
  EXPECT_DEATH(PlanAllToAllV(2, two, 3, two, 3), "rank 2 of 2");
  EXPECT_DEATH(PlanAllGatherV(0, 2, two, 3), "a rank's part for itself: sends 2 bytes, expects 1");
}

}  // namespace
}  // namespace jevons
