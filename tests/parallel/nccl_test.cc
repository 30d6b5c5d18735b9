// The communicator over NCCL, the dispatcher and ZeRO's collectives on device tensors, by the checks that the host's
// transports pass too. Streams are threads here, and NCCL is a stand-in: what is tested is ours.
#include <latch>
#include <thread>

#include "gtest/gtest.h"
#include "parallel/ep/dispatcher.h"
#include "parallel/mesh.h"
#include "parallel/pipeline/executor.h"
#include "parallel/pipeline/passes.h"
#include "parallel/zero/background_reduction.h"
#include "parallel/zero/exchange.h"
#include "tests/parallel/collective_checks.h"
#include "tests/parallel/dispatcher_checks.h"
#include "tests/parallel/exchange_checks.h"
#include "tests/parallel/fake_nccl_job.h"
#include "tests/parallel/pipeline/executor_checks.h"
#include "tests/parallel/stream_memory.h"
#include "tests/support/async_device.h"

namespace jevons {
namespace {

class NcclTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, NcclTest, testing::Values(1, 2, 3, 4, 5));

TEST_P(NcclTest, DataArrivesInStreamOrder) {
  RunFakeNccl(GetParam(), [](FakeRank& rank) { CheckDataPlane(*rank.Connect(), rank.compute); });
}

TEST_P(NcclTest, DataArrivesWhereRanksShareAGpu) {
  RunFakeNccl(GetParam(), [](FakeRank& rank) { CheckDataPlane(*rank.Connect({.shared_gpu = true}), rank.compute); });
}

TEST_P(NcclTest, TheHostsCallsGoToTheHostsTransport) {
  RunFakeNccl(GetParam(), [](FakeRank& rank) {
    const auto world = rank.Connect();
    CheckEverything(*world);
    CheckDataPlane(*world, {});
    EXPECT_EQ(rank.nccl.counts.groups, 0);
  });
}

TEST_P(NcclTest, EveryRowReachesItsExpertAndComesBack) {
  RunFakeNccl(GetParam(), [](FakeRank& rank) { CheckDispatchCases(*rank.Connect(), rank.compute); });
}

TEST_P(NcclTest, TheStepsGradientHasTheSameBitsOnEveryLayout) {
  RunFakeNccl(GetParam(), [](FakeRank& rank) { CheckExchangeCases(*rank.Connect(), rank.compute); });
}

// Stages on streams that lag behind the host, which runs through a whole step without waiting.
TEST_P(NcclTest, PipelineSchedulesRunInStreamOrder) {
  std::mt19937 random(GetParam());
  for (int round = 0; round < 10; ++round) {
    const Schedule schedule = InsertCommunication(RandomSchedule(random, GetParam()));
    RunFakeNccl(GetParam(), [&](FakeRank& rank) {
      const auto enqueue = [&](std::function<void()> work) { EnqueueOnStream(rank.compute.handle, std::move(work)); };
      CheckExecutor(*rank.Connect(), schedule, {.stream = rank.compute, .enqueue = enqueue});
    });
  }
}

// However fast the device is: what it has sent is released by the count of later sends, not when the host sees it.
TEST(NcclTest, SentMemoryIsReleasedAtTheSamePlaceOfEveryStep) {
  const Schedule schedule = *ExecutableSchedule({.kind = ScheduleKind::kGPipe, .pp = 2, .micro_batches = 5}, false);
  for (const int milliseconds : {0, 5}) {
    RunFakeNccl(2, [&](FakeRank& rank) {
      const ToyOptions options{
          .stream = rank.compute,
          .enqueue = [&](std::function<void()> work) { EnqueueOnStream(rank.compute.handle, std::move(work)); },
          .before = [&](const Task&) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); }};
      ToyMemory memory;
      ToyStage stage(schedule, rank.host.rank(), options, memory);
      std::vector<Stage*> stages(2);
      stages[rank.host.rank()] = &stage;
      const auto pp = rank.Connect();
      Executor(schedule, *pp, rank.compute, stages).Run();
      EXPECT_EQ(stage.peak_spans(), Executor::kSends + 1);
    });
  }
}

TEST_P(NcclTest, OneCommunicatorPerGroupOfSeveralRanks) {
  RunFakeNccl(GetParam(), [](FakeRank& rank) {
    {
      const auto world = rank.Connect();
      const int ranks = world->size(), several = ranks > 1;
      EXPECT_EQ(rank.nccl.counts.inits, several);
      EXPECT_EQ(world->name(), "ep");
      const auto single = world->Split(world->rank(), "single"), again = world->Split(0, "again");
      EXPECT_EQ(rank.nccl.counts.inits, 2 * several);
      EXPECT_EQ(again->rank(), world->rank());
    }
    EXPECT_EQ(rank.nccl.counts.destroyed, rank.nccl.counts.inits);
    EXPECT_EQ(rank.nccl.counts.aborted, 0);
  });
}

TEST(NcclTest, AMeshOfDevices) {
  RunFakeNccl(4, [](FakeRank& rank) {
    const auto world = rank.Connect();
    Mesh mesh(*world, {.world = 4, .pp = 1, .ep = 2});
    CheckDispatchCases(mesh.ep(), rank.compute);
    EXPECT_EQ(rank.nccl.counts.inits, 4);  // world, dp, ep, edp
  });
}

// Along rails and inside nodes, the lists of who gets what made on the host.
TEST(NcclTest, DevicesForwardTokens) {
  RunFakeNccl(4, [](FakeRank& rank) {
    const auto world = rank.Connect();
    CheckForwardedCases(*world, rank.compute);
  });
}

TEST(NcclTest, NothingIsAskedForWhereNothingTravels) {
  RunFakeNccl(3, [](FakeRank& rank) {
    const auto group = rank.Connect();
    StreamMemory memory(rank.compute);
    // Rank 0 sends to rank 2 alone, and keeps some.
    std::vector<int64_t> send(3), recv(3);
    if (group->rank() == 0) send = {5, 0, 8}, recv = {5, 0, 0};
    if (group->rank() == 2) recv = {8, 0, 0};
    const auto buffer = [&](const std::vector<int64_t>& sizes) {
      return memory.PutBytes(std::vector<std::byte>(sizes[0] + sizes[2], std::byte{7}));
    };
    const auto from = buffer(send), to = buffer(recv);
    group->AllToAllV(rank.compute, from, send, to, recv);
    EXPECT_EQ(rank.nccl.counts.sends, group->rank() == 0);
    EXPECT_EQ(rank.nccl.counts.receives, group->rank() == 2);
    EXPECT_EQ(rank.nccl.counts.groups, group->rank() != 1);
    EXPECT_EQ(memory.GetBytes(to), std::vector<std::byte>(to.size(), std::byte{7}));
  });
}

TEST(NcclTest, EvenPartsAreGatheredInOneCallUnevenOnesByTheirRanks) {
  RunFakeNccl(3, [](FakeRank& rank) {
    const auto group = rank.Connect();
    StreamMemory memory(rank.compute);
    const auto gather = [&](const std::vector<int64_t>& bytes) {
      const auto send = memory.PutBytes(std::vector<std::byte>(bytes[group->rank()]));
      group->AllGatherV(rank.compute, send, memory.PutBytes(std::vector<std::byte>(bytes[0] + bytes[1] + bytes[2])), bytes);
    };
    gather({4, 4, 4});
    EXPECT_EQ(rank.nccl.counts.gathers, 1);
    EXPECT_EQ(rank.nccl.counts.broadcasts, 0);
    gather({4, 0, 5});
    EXPECT_EQ(rank.nccl.counts.gathers, 1);
    EXPECT_EQ(rank.nccl.counts.broadcasts, 2);
    gather({0, 0, 0});
    EXPECT_EQ(rank.nccl.counts.groups, 2);
  });
}

TEST(NcclTest, IntegersAreAddedInOneCallAndNothingWhereThereAreNone) {
  RunFakeNccl(3, [](FakeRank& rank) {
    const auto group = rank.Connect();
    StreamMemory memory(rank.compute);
    int64_t* values = memory.Put(std::vector<int64_t>{1, 2, 3});
    group->ReduceScatterSum(rank.compute, {values, 3}, {values + group->rank(), 1});
    EXPECT_EQ(memory.Get(values + group->rank(), 1)[0], 3 * (group->rank() + 1));
    EXPECT_EQ(rank.nccl.counts.reductions, 1);
    group->ReduceScatterSum(rank.compute, {}, {});
    EXPECT_EQ(rank.nccl.counts.reductions, 1);
    EXPECT_EQ(rank.nccl.counts.groups, 1);
  });
}

// A layer's dispatch makes the host wait for the device once, for the counts; transfers and ZeRO never do.
TEST(NcclTest, TheHostWaitsForCountsAlone) {
  constexpr int kRanks = 2, kLayers = 3;
  for (const bool forwards : {false, true}) {
    const int64_t before = HostSynchronizations();
    RunFakeNccl(kRanks, [&](FakeRank& rank) {
      const int64_t rows[] = {3, 1};
      const float value = 1;
      const auto group = rank.Connect();
      Arena memory("memory", 1 << 20, Device::kCuda);
      Arena scratch("scratch", int64_t{1} << 29, Device::kCuda);
      const OpContext ops{.stream = rank.compute, .scratch = &scratch};
      const auto rail = group->Split(0, "ep_rail"), local = group->Split(group->rank(), "ep_local");
      Dispatcher dispatcher(forwards ? EpGroups(*group, kRanks, rail.get(), local.get()) : EpGroups(*group, kRanks),
                            {.experts = 2, .groups = 2}, {.stream = rank.compute});
      const Tensor indices = memory.Allocate("indices", DType::kI32, {4, 1});
      const int32_t experts[] = {0, 1, 0, 0};
      CopyBytes(rank.compute, experts, indices.data, indices.bytes());
      const Tensor counts = memory.Allocate("counts", DType::kI64, {2});
      CopyBytes(rank.compute, rows, counts.data, counts.bytes());
      for (int layer = 0; layer < kLayers; ++layer) {
        dispatcher.BeginPlan(ops, indices, counts, memory);
        const DispatchHandle handle = dispatcher.FinishPlan(memory);
        const Tensor x = memory.Allocate("x", DType::kF32, {4, 2}), y = memory.Allocate("y", DType::kF32, {4, 2});
        const Tensor at_experts = memory.Allocate("rows", DType::kF32, {handle.receive_rows, 2});
        RowTransfer transfer;
        const Tensor scales = memory.Allocate("x", DType::kF32, {4, 1}),
                     scales_there = memory.Allocate("rows", DType::kF32, {handle.receive_rows, 1});
        const Tensor values = memory.Allocate("x", DType::kF32, {4, 1}),
                     values_there = memory.Allocate("rows", DType::kF32, {handle.receive_rows, 1});
        dispatcher.BeginDispatch(ops, handle,
                                 {.rows = {{x, at_experts}, {scales, scales_there}}, .values = {values, values_there}}, transfer);
        dispatcher.FinishDispatch(ops, handle, transfer);
        dispatcher.BeginCombine(ops, handle, at_experts, Tensor(), transfer);
        dispatcher.FinishCombine(ops, handle, transfer, y, Tensor());
      }
      EXPECT_EQ(dispatcher.count_reads(), kLayers);
      EXPECT_EQ(rank.nccl.counts.groups, 2 * kLayers);  // one there, one back
      const Tensor chain = memory.Allocate("gradient", DType::kF32, {1}), exact = memory.Allocate("gradient", DType::kI64, {1});
      CopyBytes(rank.compute, &value, chain.data, 4);
      Zero(rank.compute, exact);
      ReduceScatterOwned(*group, {&chain, 1}, ops);
      ReduceScatterOwned(*group, {&exact, 1}, ops);
      const std::vector<int64_t> sizes = {1};
      void* param = chain.data;
      AllGatherOwned(*group, {&param, 1}, sizes, 4, ops);
      Synchronize(rank.compute);  // once more, before the dispatcher goes
    });
    EXPECT_EQ(HostSynchronizations() - before, kRanks * (kLayers + 1));
  }
}

// On a stream of its own: what the compute stream is given after Begin does not wait for it, what it is given after Finish does; nor does
// the host wait.
TEST(NcclTest, AReductionRunsBesideTheComputeStream) {
  SetWatchdogDeadline(20);
  std::latch beside(1);
  const int64_t waits = HostSynchronizations();
  int64_t total = 0;
  RunFakeNccl(2, [&](FakeRank& rank) {
    const auto group = rank.Connect();
    Arena memory("memory", 1 << 20, Device::kCuda);
    const Tensor sum = memory.Allocate("gradient", DType::kI64, {1});
    const int64_t mine = 1 + group->rank();
    BackgroundReduction reduction(rank.compute, group->size());
    if (group->rank() == 1) EnqueueOnStream(rank.compute.handle, [&] { beside.wait(); });
    CopyBytes(rank.compute, &mine, sum.data, sizeof(mine));
    reduction.Begin(rank.compute, {{group.get(), {sum}}});
    if (group->rank() == 0) EnqueueOnStream(rank.compute.handle, [&] { beside.count_down(); });
    reduction.Finish(rank.compute);
    if (!OwnedSlices(std::vector<int64_t>{1}, 2, group->rank()).empty()) CopyBytes(rank.compute, sum.data, &total, sizeof(total));
    std::latch done(1);
    EnqueueOnStream(rank.compute.handle, [&] { done.count_down(); });
    done.wait();
  });
  EXPECT_EQ(total, 3);
  EXPECT_EQ(HostSynchronizations(), waits);
  SetWatchdogDeadline(300);
}

// A stream that computes for longer than the deadline before a transfer can begin is no hang.
TEST(NcclTest, TheDeadlineCountsFromWhenATransferCanBegin) {
  SetWatchdogDeadline(0.3);
  RunFakeNccl(2, [](FakeRank& rank) {
    const auto group = rank.Connect();
    StreamMemory memory(rank.compute);
    EnqueueOnStream(rank.compute.handle, [] { std::this_thread::sleep_for(std::chrono::milliseconds(700)); });
    const std::vector<int64_t> bytes(2, 4);
    const auto send = memory.PutBytes(std::vector<std::byte>(8, std::byte{1}));
    const auto recv = memory.PutBytes(std::vector<std::byte>(8));
    group->AllToAllV(rank.compute, send, bytes, recv, bytes);
    group->AllToAllV(rank.compute, recv, bytes, send, bytes);
    EXPECT_EQ(memory.GetBytes(send), std::vector<std::byte>(8, std::byte{1}));
  });
  SetWatchdogDeadline(300);
}

TEST(NcclTest, ATeardownThatFailsAbortsTheCommunicatorAndGoesOn) {
  RunFakeNccl(2, [](FakeRank& rank) {
    {
      const auto group = rank.Connect();
      rank.nccl.script.finalize = FakeNccl::kRemoteError;
    }
    EXPECT_EQ(rank.nccl.counts.destroyed, 0);
    EXPECT_EQ(rank.nccl.counts.aborted, 1);
  });
}

}  // namespace
}  // namespace jevons
