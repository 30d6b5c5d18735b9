#include "parallel/comm/loopback.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "parallel/comm/bandwidth.h"
#include "tests/parallel/collective_checks.h"
#include "tests/support/slow_transport.h"

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

// Of a transport that moves nothing unless it is asked, a transfer arrives though its rank does not ask.
TEST(LoopbackBackgroundTest, TransfersArriveWhileARankComputes) {
  RunLoopback(
      2,
      [](Communicator& world) {
        const auto group = world.Split(0, "background");
        group->MoveInBackground();
        const int64_t sent = 7;
        std::atomic<int64_t> arrived{0};
        const std::vector<int64_t> out = world.rank() == 0 ? std::vector<int64_t>{0, 8} : std::vector<int64_t>{0, 0};
        const std::vector<int64_t> in = world.rank() == 1 ? std::vector<int64_t>{8, 0} : std::vector<int64_t>{0, 0};
        const CommRequest request =
            group->BeginAllToAllV(std::as_bytes(std::span(&sent, world.rank() == 0 ? 1 : 0)), out,
                                  std::span(reinterpret_cast<std::byte*>(&arrived), world.rank() == 1 ? 8 : 0), in);
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (world.rank() == 1 && arrived != sent && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
        if (world.rank() == 1) {
          EXPECT_EQ(arrived, sent);
        }
        group->Wait(request);
      },
      Slow());
}

TEST_P(LoopbackTest, BandwidthIsTheSameOnEveryRank) {
  std::vector<AllToAllResult> results(GetParam());
  RunLoopback(GetParam(), [&](Communicator& world) {
    results[world.rank()] = MeasureAllToAll(world, 1000, 5);
    EXPECT_EQ(MeasureAllToAll(world, 1000, 1, Peers::kSameNode).gigabytes_per_second > 0, GetParam() > 1);
    EXPECT_EQ(MeasureAllToAll(world, 1000, 1, Peers::kOtherNodes).gigabytes_per_second, 0) << "there is one node";
  });
  for (const AllToAllResult& result : results) {
    EXPECT_EQ(result.bytes_per_peer, 1000);
    EXPECT_GT(result.seconds, 0);
    EXPECT_EQ(result.seconds, results[0].seconds);
    EXPECT_EQ(result.gigabytes_per_second > 0, GetParam() > 1);
  }
}

}  // namespace
}  // namespace jevons
