#include "parallel/comm/pairs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <mutex>
#include <set>
#include <thread>

#include "parallel/comm/loopback.h"

namespace jevons {
namespace {

TEST(Pairs, InATournamentAllMeetOnceAndNobodyTwiceInARound) {
  for (int size = 2; size <= 9; ++size) {
    std::vector<std::vector<int>> partners;
    for (int rank = 0; rank < size; ++rank) partners.push_back(TournamentPartners(rank, size));
    std::set<std::pair<int, int>> met;
    for (int rank = 0; rank < size; ++rank) {
      ASSERT_EQ(partners[rank].size(), static_cast<size_t>(size + size % 2 - 1));
      for (size_t round = 0; round < partners[rank].size(); ++round) {
        const int partner = partners[rank][round];
        if (partner < 0) continue;
        EXPECT_EQ(partners[partner][round], rank) << "round " << round << " of " << size;
        EXPECT_TRUE(met.insert({rank, partner}).second) << rank << " meets " << partner << " twice";
      }
    }
    EXPECT_EQ(met.size(), static_cast<size_t>(size) * (size - 1));
  }
}

TEST(Pairs, EachPairIsMeasuredOnceAndKnownToAll) {
  for (int size : {1, 2, 5}) {
    std::vector<std::vector<PairSpeed>> results(size);
    RunLoopback(size, [&](Communicator& world) { results[world.rank()] = MeasurePairs(world, 1e-4); });
    ASSERT_EQ(results[0].size(), static_cast<size_t>(size) * (size - 1) / 2);
    auto pair = results[0].begin();
    for (int first = 0; first < size; ++first)
      for (int second = first + 1; second < size; ++second, ++pair) {
        EXPECT_EQ(pair->first, first);
        EXPECT_EQ(pair->second, second);
        EXPECT_GT(pair->latency, 0);
        EXPECT_GT(pair->there, 0);
        EXPECT_GT(pair->back, 0);
        EXPECT_EQ(pair->slower(), std::min(pair->there, pair->back));
      }
    for (const auto& others : results)
      for (size_t i = 0; i < others.size(); ++i) {
        EXPECT_EQ(others[i].there, results[0][i].there);
        EXPECT_EQ(others[i].back, results[0][i].back);
      }
  }
}

// Each way of a pair has its own speed: what goes to rank 2 here is late, by 200 ms for each message.
class LateTo : public Transport {
 public:
  LateTo(std::unique_ptr<Transport> transport, int late) : transport_(std::move(transport)), late_(late) {}
  int rank() const override { return transport_->rank(); }
  int size() const override { return transport_->size(); }
  int WorldRank(int rank) const override { return transport_->WorldRank(rank); }
  int NodeOf(int rank) const override { return transport_->NodeOf(rank); }
  std::unique_ptr<Transfer> Start(std::span<const Outgoing> sends, std::span<const Incoming> receives, int64_t tag) override {
    for (const Outgoing& message : sends)
      if (message.peer == late_ && message.data.size() > 8) std::this_thread::sleep_for(std::chrono::milliseconds(200));
    return transport_->Start(sends, receives, tag);
  }
  std::unique_ptr<Transport> MakeGroup(std::span<const int> members) override { return transport_->MakeGroup(members); }

 private:
  std::unique_ptr<Transport> transport_;
  int late_;
};

TEST(Pairs, ASlowWayIsToldFromTheWayBack) {
  std::vector<PairSpeed> pairs;
  RunLoopback(
      3,
      [&](Communicator& world) {
        const auto mine = MeasurePairs(world, 1e-3);
        if (world.rank() == 0) pairs = mine;
      },
      [](std::unique_ptr<Transport> transport) { return std::make_unique<LateTo>(std::move(transport), 2); });
  ASSERT_EQ(pairs.size(), 3u);
  // The first message of 64 KiB already lasts longer than asked for.
  const double most = (int64_t{64} << 10) / 200e-3;
  EXPECT_LE(pairs[1].there, most);
  EXPECT_LE(pairs[2].there, most);
  EXPECT_GT(pairs[1].back, most);
  EXPECT_GT(pairs[2].back, most);
}

TEST(Pairs, ClocksThatDifferAreSeen) {
  std::vector<std::vector<double>> results(4);
  RunLoopback(4, [&](Communicator& world) {
    const int64_t wrong = std::array<int64_t, 4>{0, 3600, -50, 0}[static_cast<size_t>(world.rank())];
    results[world.rank()] = MeasureClockOffsets(world, [&] {
      return std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count() + wrong * 1'000'000'000;
    });
  });
  for (const auto& offsets : results) {
    ASSERT_EQ(offsets.size(), 4u);
    EXPECT_EQ(offsets[0], 0);
    EXPECT_NEAR(offsets[1], 3600, 10);  // a loaded machine may hold a round trip up for seconds, not for ten
    EXPECT_NEAR(offsets[2], -50, 10);
    EXPECT_NEAR(offsets[3], 0, 10);
  }
}

}  // namespace
}  // namespace jevons
