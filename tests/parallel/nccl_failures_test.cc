// What becomes of jobs whose devices lose each other: exit code 5, one line, the communicator aborted, never a hang.
#include <unistd.h>

#include <thread>

#include "gtest/gtest.h"
#include "kernels/base/status.h"
#include "parallel/comm/nccl.h"
#include "parallel/comm/watchdog.h"
#include "tests/parallel/fake_nccl_job.h"
#include "tests/parallel/stream_memory.h"

namespace jevons {
namespace {

constexpr int kPeerLost = static_cast<int>(ExitCode::kPeerLost);
using Script = FakeNccl::Script;

// Says that the communicator was aborted, after the verdict.
void AnnounceAbort(FakeRank& rank) {
  rank.nccl.script.on_abort = [] {
    const char text[] = "aborted\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) std::abort();
  };
}

void ExchangeBytes(Communicator& group, FakeRank& rank) {
  StreamMemory memory(rank.compute);
  const std::vector<int64_t> bytes(group.size(), 4);
  const auto send = memory.PutBytes(std::vector<std::byte>(4 * group.size()));
  const auto recv = memory.PutBytes(std::vector<std::byte>(4 * group.size()));
  group.AllToAllV(rank.compute, send, bytes, recv, bytes);
  Synchronize(rank.compute);  // forever, where a peer does not come
}

// Both ranks connect by the script; in the second exchange only rank 0 goes by one, the other does what it should.
void RunScripted(double deadline, const std::function<void(Script&)>& at_connect,
                 const std::function<void(Script&)>& at_exchange) {
  SetWatchdogDeadline(deadline);
  SetWatchdogStep(41);
  RunFakeNccl(2, [&](FakeRank& rank) {
    AnnounceAbort(rank);
    if (at_connect) at_connect(rank.nccl.script);
    const auto group = rank.Connect();
    ExchangeBytes(*group, rank);
    if (at_exchange && rank.host.rank() == 0) at_exchange(rank.nccl.script);
    rank.host.Barrier();
    ExchangeBytes(*group, rank);
    std::this_thread::sleep_for(std::chrono::seconds(20));
  });
}

class NcclDeathTest : public testing::Test {
 protected:
  void SetUp() override { testing::FLAGS_gtest_death_test_style = "threadsafe"; }
  const testing::ExitedWithCode exits_{kPeerLost};
};

TEST_F(NcclDeathTest, ARendezvousThatFails) {
  EXPECT_EXIT(RunScripted(60, [](Script& script) { script.init = FakeNccl::kRemoteError; }, {}), exits_,
              "lost peer: rank [01] of 2, ep.Connect, call 0 of the group, step 42, 0 bytes sent: "
              "ncclCommInitRankConfig: remote process exited or there was a network error; socket closed; last "
              "calls: .*\naborted");
  EXPECT_EXIT(RunScripted(60, [](Script& script) { script.unique_id = 2; }, {}), exits_,
              "ep.Connect, .*: ncclGetUniqueId: error 2");
  EXPECT_EXIT(RunScripted(60, [](Script& script) { script.async_error = FakeNccl::kRemoteError; }, {}), exits_,
              "ep.Connect, .*: ncclCommInitRankConfig: remote process exited.*\naborted");
}

TEST_F(NcclDeathTest, ARendezvousThatNeverEnds) {
  EXPECT_EXIT(RunScripted(0.2, [](Script& script) { script.never_settles = true; }, {}), exits_,
              "ep.Connect, .*: ncclCommInitRankConfig: waited 0.2 s for the ranks of the group; .*\naborted");
}

TEST_F(NcclDeathTest, ACallThatFailsAtOnce) {
  EXPECT_EXIT(RunScripted(60, {}, [](Script& script) { script.send = 4; }), exits_,
              "ep.AllToAllV, call 2 of the group, step 42, 8 bytes sent: ncclSend: error 4; last calls: "
              ".*ep.AllToAllV 2 .open..*\naborted");
  EXPECT_EXIT(RunScripted(60, {}, [](Script& script) { script.group_end = 1; }), exits_,
              "ep.AllToAllV, .*: ncclGroupEnd: error 1; .*\naborted");
}

TEST_F(NcclDeathTest, AGroupThatNcclNeverTakesOn) {
  EXPECT_EXIT(
      {
        SetWatchdogDeadline(0.3);
        RunFakeNccl(2, [](FakeRank& rank) {
          AnnounceAbort(rank);
          const auto group = rank.Connect();
          rank.nccl.script.never_settles = true;
          if (rank.host.rank() == 0) ExchangeBytes(*group, rank);
          std::this_thread::sleep_for(std::chrono::seconds(20));
        });
      },
      exits_, "ep.AllToAllV, .*: ncclGroupEnd: waited 0.3 s for the ranks of the group; .*\naborted");
}

// The host of rank 0 waits for its device, forever; the watch sees both.
TEST_F(NcclDeathTest, APeerThatDoesNotCome) {
  EXPECT_EXIT(
      {
        SetWatchdogDeadline(0.2);
        SetWatchdogStep(7);
        RunFakeNccl(3, [](FakeRank& rank) {
          AnnounceAbort(rank);
          const auto group = rank.Connect();
          ExchangeBytes(*group, rank);
          if (rank.host.rank() != 2) ExchangeBytes(*group, rank);
          std::this_thread::sleep_for(std::chrono::seconds(20));
        });
      },
      exits_,
      "lost peer: rank [01] of 3, ep.AllToAllV, call 2 of the group, step 8, 12 bytes sent: waited 0.2 s on "
      "the "
      "device for rank [01], 2 of the group; last calls: .*ep.AllToAllV 1 .left., ep.AllToAllV 2 .open.");
}

TEST_F(NcclDeathTest, AnErrorBetweenCallsAndDuringOne) {
  EXPECT_EXIT(
      {
        RunFakeNccl(2, [](FakeRank& rank) {
          AnnounceAbort(rank);
          const auto group = rank.Connect();
          ExchangeBytes(*group, rank);
          if (rank.host.rank() == 1) rank.nccl.script.async_error = FakeNccl::kRemoteError;
          std::this_thread::sleep_for(std::chrono::seconds(20));
        });
      },
      exits_, "rank 1 of 2, ep.no call, .*: NCCL: remote process exited.*\naborted");
  EXPECT_EXIT(
      {
        RunFakeNccl(2, [](FakeRank& rank) {
          const auto group = rank.Connect();
          if (rank.host.rank() == 1) std::this_thread::sleep_for(std::chrono::seconds(20));
          std::thread later([&] {
            std::this_thread::sleep_for(std::chrono::milliseconds(200));
            rank.nccl.script.async_error = FakeNccl::kRemoteError;
          });
          ExchangeBytes(*group, rank);
          later.join();
        });
      },
      exits_, "rank 0 of 2, ep.AllToAllV, call 1 .*: NCCL: remote process exited");
}

TEST_F(NcclDeathTest, AnAbortThatHangsHoldsNobody) {
  EXPECT_EXIT(RunScripted(60, {},
                          [](Script& script) {
                            script.abort_hangs = true;
                            script.async_error = FakeNccl::kRemoteError;
                          }),
              exits_, "rank 0 of 2.*: (NCCL|ncclGroupEnd): remote process exited.*\naborted");
}

TEST_F(NcclDeathTest, ANamedMessageThatDoesNotCome) {
  EXPECT_EXIT(RunFakeNccl(2,
                          [](FakeRank& rank) {
                            SetWatchdogDeadline(0.2);
                            const auto group = rank.Connect();
                            StreamMemory memory(rank.compute);
                            const auto data = memory.PutBytes(std::vector<std::byte>(4));
                            if (group->rank() == 1) group->BeginReceive(rank.compute, data, 0, {"1RF3", "0SF3"});
                            std::this_thread::sleep_for(std::chrono::seconds(20));
                          }),
              exits_,
              "rank 1 of 2, ep.Receive, .* waited 0.2 s on the device in 1RF3 for rank 0 of the group, which has "
              "not come to 0SF3; last calls: .*ep.Receive 0 in 1RF3 .open");
}

TEST_F(NcclDeathTest, CallsThatCannotBe) {
  const auto run = [](const std::function<void(Communicator&, const Stream&)>& call) {
    RunFakeNccl(2, [&](FakeRank& rank) {
      const auto group = rank.Connect();
      call(*group, rank.compute);
    });
  };
  EXPECT_DEATH(run([](Communicator& group, const Stream& stream) { group.BeginSend(stream, {}, group.rank()); }),
               "a message between rank . and . of 2");
  EXPECT_DEATH(run([](Communicator& group, const Stream& stream) { group.Wait(stream, {5}); }),
               "no transfer 5 is under way on the device");
  EXPECT_DEATH(run([](Communicator& group, const Stream& stream) { group.Broadcast(stream, {}, 2); }),
               "broadcast from rank 2 of 2");
  EXPECT_DEATH(run([](Communicator& group, const Stream& stream) {
                 const std::vector<int64_t> nothing(2);
                 group.BeginAllToAllV(stream, {}, nothing, {}, nothing);
               }),
               "group ep ends with 1 transfers under way");
  EXPECT_DEATH(RunFakeNccl(1, [](FakeRank& rank) { rank.host.Broadcast(rank.compute, {}, 0); }),
               "group world carries the host's memory only");
}

}  // namespace
}  // namespace jevons
