#include "parallel/comm/loopback.h"

#include <atomic>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "parallel/comm/bandwidth.h"
#include "tests/parallel/collective_checks.h"

namespace jevons {
namespace {

class LoopbackTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, LoopbackTest, testing::Values(1, 2, 3, 4, 5, 6, 8));

TEST_P(LoopbackTest, EveryCollectiveMatchesAPlainComputation) { RunLoopback(GetParam(), CheckEverything); }

TEST_P(LoopbackTest, DataArrivesOnTheHost) {
  RunLoopback(GetParam(), [](Communicator& world) { CheckDataPlane(world, {}); });
}

TEST_P(LoopbackTest, RanksAreNumberedAndRunAtOnce) {
  std::atomic<int> seen{0};
  RunLoopback(GetParam(), [&](Communicator& world) {
    EXPECT_EQ(world.size(), GetParam());
    EXPECT_EQ(world.name(), "world");
    seen += 1 << world.rank();
  });
  EXPECT_EQ(seen, (1 << GetParam()) - 1);
}

TEST_P(LoopbackTest, NobodyPassesABarrierBeforeTheLastHasCome) {
  std::atomic<int> arrived{0};
  RunLoopback(GetParam(), [&](Communicator& world) {
    for (int round = 1; round <= 100; ++round) {
      if ((round + world.rank()) % 3 == 0) std::this_thread::yield();
      ++arrived;
      world.Barrier();
      EXPECT_GE(arrived, round * world.size());
    }
  });
}

TEST_P(LoopbackTest, BandwidthIsTheSameOnEveryRank) {
  std::vector<AllToAllResult> results(GetParam());
  RunLoopback(GetParam(),
              [&](Communicator& world) { results[world.rank()] = MeasureAllToAll(world, 1000, 5); });
  for (const AllToAllResult& result : results) {
    EXPECT_EQ(result.bytes_per_peer, 1000);
    EXPECT_GT(result.seconds, 0);
    EXPECT_EQ(result.seconds, results[0].seconds);
    EXPECT_EQ(result.gigabytes_per_second > 0, GetParam() > 1);
  }
}

}  // namespace
}  // namespace jevons
