#include "parallel/comm/watchdog.h"

#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/status.h"
#include "parallel/comm/loopback.h"
#include "parallel/ep/dispatcher.h"

namespace jevons {
namespace {

constexpr int kPeerLost = static_cast<int>(ExitCode::kPeerLost);

class WatchdogDeathTest : public testing::Test {
 protected:
  void SetUp() override { testing::FLAGS_gtest_death_test_style = "threadsafe"; }
};

TEST_F(WatchdogDeathTest, AMissingPeerEndsTheJobWithItsName) {
  EXPECT_EXIT(RunLoopback(3,
                          [](Communicator& world) {
                            SetWatchdogDeadline(0.2);
                            SetWatchdogStep(41);
                            const auto group = world.Split(0, "ep");
                            std::vector<std::byte> send(8), recv(24);
                            if (group->rank() != 1) group->AllGather(send, recv);
                          }),
              testing::ExitedWithCode(kPeerLost),
              "rank [02] of 3, ep.AllGather, call 0 of the group, step 42, 8 bytes sent: waited 0.2 s for rank "
              "1; last calls: world.AllGather 0 .left., ep.AllGather 0 .open.");
}

TEST_F(WatchdogDeathTest, AMissingPeerOfEachCall) {
  const auto absent = [](void (*call)(Communicator&)) {
    RunLoopback(2, [&](Communicator& world) {
      SetWatchdogDeadline(0.1);
      if (world.rank() == 0) call(world);
    });
  };
  const auto exits = testing::ExitedWithCode(kPeerLost);
  EXPECT_EXIT(absent([](Communicator& world) { world.Barrier(); }), exits, "world.Barrier.*for rank 1;");
  EXPECT_EXIT(absent([](Communicator& world) {
                std::vector<int64_t> values(3);
                world.AllReduceSum(values);
              }),
              exits, "world.AllReduceSum.*for rank 1;");
  EXPECT_EXIT(absent([](Communicator& world) {
                std::vector<int64_t> values(2);
                world.ReduceScatterSum(values, std::span(values).first(1));
              }),
              exits, "world.ReduceScatterSum.*16 bytes sent: .*for rank 1;");
  EXPECT_EXIT(absent([](Communicator& world) {
                std::vector<std::byte> data(5);
                world.Broadcast(data, 1);
              }),
              exits, "world.Broadcast.*for rank 1;");
  EXPECT_EXIT(absent([](Communicator& world) { world.Split(0, "late"); }), exits, "world.AllGather.*for rank 1;");
}

TEST_F(WatchdogDeathTest, SizesThatDisagreeAreFoundAtOnce) {
  EXPECT_EXIT(RunLoopback(2,
                          [](Communicator& world) {
                            std::vector<std::byte> send(8 + world.rank()), recv(16);
                            std::vector<int64_t> sent = {0, 0}, expected = {0, 0};
                            sent[1 - world.rank()] = static_cast<int64_t>(send.size());
                            expected[1 - world.rank()] = 16;
                            world.AllToAllV(send, sent, recv, expected);
                          }),
              testing::ExitedWithCode(kPeerLost), "rank . (sent|expects) (8|9|16) bytes, this rank");
}

TEST_F(WatchdogDeathTest, NamesThatDisagreeAreFoundByTheReceiver) {
  const auto exchange = [](const MessageNames& sent, size_t bytes) {
    RunLoopback(2, [&](Communicator& world) {
      SetWatchdogDeadline(20);
      std::vector<std::byte> data(world.rank() == 0 ? bytes : 8);
      world.Wait(world.rank() == 0 ? world.BeginSend({}, data, 1, sent) : world.BeginReceive({}, data, 0, {"2RF7", "1SF7"}));
      world.Barrier();
    });
  };
  const auto exits = testing::ExitedWithCode(kPeerLost);
  exchange({"1SF7", "2RF7"}, 8);
  SetWatchdogDeadline(300);
  EXPECT_EXIT(exchange({"1SF8", "2RF8"}, 8), exits,
              "rank 1 of 2, world.Receive, .*: rank 0 sent 1SF8 of 8 bytes, this rank expects 1SF7 of 8 in 2RF7");
  EXPECT_EXIT(exchange({"1SF7", "2RF7"}, 0), exits, "rank 0 sent 1SF7 of 0 bytes, this rank expects 1SF7 of 8");
  EXPECT_DEATH(exchange({"a name of 24 characters.", "b"}, 8), "a message of name 'a name");
}

TEST_F(WatchdogDeathTest, RanksThatDisagreeOnTheNumberOfExperts) {
  EXPECT_EXIT(RunLoopback(2,
                          [](Communicator& world) {
                            const int64_t experts = 4 + 2 * world.rank();
                            Arena memory("memory", 1 << 20);
                            Dispatcher dispatcher(world, {.experts = experts});
                            std::vector<int64_t> counts(static_cast<size_t>(experts), 1);
                            std::vector<int32_t> indices(counts.size());
                            for (size_t e = 0; e < indices.size(); ++e) indices[e] = static_cast<int32_t>(e);
                            dispatcher.BeginPlan({.stream = {}, .scratch = &memory}, Tensor::Of(indices.data(), {experts, 1}),
                                                 Tensor::Of(counts.data(), {experts}), memory);
                            dispatcher.FinishPlan(memory);
                          }),
              testing::ExitedWithCode(kPeerLost), "world.AllToAllV.*this rank");
}

TEST(WatchdogTest, ALateRankInTimeIsNoHang) {
  SetWatchdogDeadline(20);
  RunLoopback(2, [](Communicator& world) {
    if (world.rank() == 1) {
      PatientWait wait;
      while (wait.seconds() < 0.05) EXPECT_TRUE(wait.Pause());
    }
    world.Barrier();
  });
  SetWatchdogDeadline(300);
}

TEST_F(WatchdogDeathTest, APhaseIsNamedAndHasADeadlineOfItsOwn) {
  EXPECT_EXIT(RunLoopback(2,
                          [](Communicator& world) {
                            SetWatchdogDeadline(0.1);
                            if (world.rank() == 1) return;
                            const WatchdogPhase phase("saving", 3);
                            { const WatchdogPhase inner("looking", 30); }
                            world.Barrier();
                          }),
              testing::ExitedWithCode(kPeerLost), "step, saving, 0 bytes sent: waited 0.3 s for rank 1");
}

TEST(WatchdogTest, PauseEndsAtTheDeadline) {
  SetWatchdogDeadline(0.02);
  PatientWait wait;
  while (wait.Pause()) EXPECT_LE(wait.seconds(), 0.02);
  EXPECT_GT(wait.seconds(), 0.02);
  SetWatchdogDeadline(300);
}

}  // namespace
}  // namespace jevons
