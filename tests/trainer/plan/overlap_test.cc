// What a pair of micro-batches waits for, executed over links that are slow, is what the plan says of it: LayerModel::Overlapped.
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "parallel/comm/loopback.h"
#include "parallel/ep/dispatcher.h"
#include "parallel/pipeline/phases.h"
#include "tests/support/link_group.h"
#include "tests/trainer/plan/plan_cases.h"
#include "trainer/plan/layer_model.h"

namespace jevons {
namespace {

constexpr int kNodes = 2, kLocals = 2, kRanks = kNodes * kLocals, kBlocks = 6;
// A token's row on its way to the experts in FP8, and back in BF16, as floats of as many bytes. Each rank has one token, and each token goes
// to the one expert of each rank, a group of its own.
constexpr int64_t kThere = 25, kBack = 50;
constexpr double kThereBytes = 4.0 * kThere, kBackBytes = 4.0 * kBack;

// Blocks of a stage that do nothing but take their time and send their rows, cut into phases as model/block.cc is.
class SlowStage {
 public:
  SlowStage(Dispatcher& dispatcher, const DispatchHandle& handle, double& computed, const BlockTimes& times)
      : dispatcher_(dispatcher), handle_(handle), computed_(computed), times_(times) {}

  Phases Forward() {
    for (int block = 0; block < kBlocks; ++block) {
      const ArenaScope scope(scratch_);
      computed_ += times_.attention_f.sum();
      co_await NextPhase();
      BeginDispatch();
      computed_ += times_.shared_f.sum();
      co_await NextPhase();
      Advance();
      co_await NextPhase();
      FinishDispatch();
      computed_ += times_.experts_f.sum();
      BeginCombine();
      co_await NextPhase();
      Advance();
      co_await NextPhase();
      FinishCombine();
      co_await NextPhase();
    }
  }
  Phases Backward() {
    for (int block = 0; block < kBlocks; ++block) {
      const ArenaScope scope(scratch_);
      BeginDispatch();
      co_await NextPhase();
      computed_ += times_.shared_i.sum();
      Advance();
      co_await NextPhase();
      FinishDispatch();
      computed_ += times_.experts_i.sum();
      BeginCombine();
      computed_ += times_.experts_w.sum() / 3;
      co_await NextPhase();
      Advance();
      computed_ += times_.experts_w.sum() * 2 / 3;
      co_await NextPhase();
      FinishCombine();
      co_await NextPhase();
      computed_ += times_.attention_i.sum() + times_.attention_w.sum();
      co_await NextPhase();
    }
  }

 private:
  void BeginDispatch() {
    rows_ = scratch_.Allocate("rows", DType::kF32, {handle_.receive_rows, kThere});
    dispatcher_.BeginDispatch(ops_, handle_, {.rows = {{x_, rows_}}}, transfer_);
  }
  void FinishDispatch() { dispatcher_.FinishDispatch(ops_, handle_, transfer_); }
  void BeginCombine() {
    const Tensor results = scratch_.Allocate("results", DType::kF32, {handle_.receive_rows, kBack});
    Zero(Stream(), results);
    dispatcher_.BeginCombine(ops_, handle_, results, {}, transfer_);
  }
  void FinishCombine() { dispatcher_.FinishCombine(ops_, handle_, transfer_, y_, {}); }
  void Advance() { dispatcher_.Advance(ops_, handle_, transfer_); }

  Dispatcher& dispatcher_;
  const DispatchHandle& handle_;
  double& computed_;
  const BlockTimes times_;
  Arena scratch_{"scratch", int64_t{1} << 20, Device::kCpu};
  const OpContext ops_{.stream = Stream(), .scratch = &scratch_};
  std::vector<float> token_ = std::vector<float>(kThere), sum_ = std::vector<float>(kBack);
  const Tensor x_ = Tensor::Of(token_.data(), {1, kThere}), y_ = Tensor::Of(sum_.data(), {1, kBack});
  Tensor rows_;
  RowTransfer transfer_;
};

BlockTimes TimesOf(double attention_f, double attention_b, double experts_f, double experts_b, double shared = 0) {
  BlockTimes times;
  times.shared_f[Cost::kProducts] = times.shared_i[Cost::kProducts] = shared;
  times.attention_f[Cost::kProducts] = attention_f;
  times.attention_i[Cost::kProducts] = times.attention_w[Cost::kProducts] = attention_b / 2;
  times.experts_f[Cost::kExperts] = experts_f;
  times.experts_i[Cost::kExperts] = times.experts_w[Cost::kExperts] = experts_b / 2;
  return times;
}

// Seconds that each rank waits in a pair, and all seconds of it.
struct PairTimes {
  double waited = 0, all = 0;
};
PairTimes RunOverLinks(const BlockTimes& times, LinkRates rates, bool forwarded) {
  LinkMeeting ep_meeting;
  std::array<LinkMeeting, kLocals> rail_meetings;
  std::array<LinkMeeting, kNodes> local_meetings;
  std::vector<PairTimes> ranks(kRanks);
  RunLoopback(kRanks, [&](Communicator& world) {
    const int node = world.rank() / kLocals, place = world.rank() % kLocals;
    double computed = 0;
    LinkClock clock([&] { return computed; });
    const auto rails = world.Split(place, "rail"), locals = world.Split(node, "local");
    LinkGroup ep(world, ep_meeting, rates, clock);
    LinkGroup rail(*rails, rail_meetings[static_cast<size_t>(place)], rates, clock, /*asks=*/false, /*across=*/true);
    LinkGroup local(*locals, local_meetings[static_cast<size_t>(node)], rates, clock);
    Dispatcher dispatcher(forwarded ? EpGroups(ep, kNodes, &rail, &local) : EpGroups(ep),
                          {.experts = kRanks, .groups = kRanks, .kept = kRanks, .slots = kRanks});
    Arena kept("kept", int64_t{1} << 20, Device::kCpu), scratch("scratch", int64_t{1} << 20, Device::kCpu);
    std::vector<int32_t> indices = {0, 1, 2, 3};
    std::vector<int64_t> counts(kRanks, 1);
    dispatcher.BeginPlan({.stream = Stream(), .scratch = &scratch}, Tensor::Of(indices.data(), {1, kRanks}),
                         Tensor::Of(counts.data(), {kRanks}), kept);
    const DispatchHandle handle = dispatcher.FinishPlan(kept);
    SlowStage f(dispatcher, handle, computed, times), b(dispatcher, handle, computed, times);
    const double begin = clock.Now(), waited = clock.waited;
    RunPair(f.Forward(), b.Backward());
    ranks[static_cast<size_t>(world.rank())] = {.waited = clock.waited - waited, .all = clock.Now() - begin};
  });
  for (const PairTimes& rank : ranks) EXPECT_DOUBLE_EQ(rank.all, ranks[0].all);
  return ranks[0];
}

// The plan's, where communication takes nothing from computation, as on these links.
PairTimes Planned(BlockTimes times, const Hops& there, const Hops& back) {
  ClusterConfig cluster = H800();
  cluster.mutable_gpu()->set_communication_sms(0);
  Constants constants;
  constants.overlap_slowdown = 1;
  times.dispatch_f = times.dispatch_b = there;
  times.combine_f = times.combine_b = back;
  const double all =
      kBlocks * LayerModel(DeepSeekV3(), PublishedLayout(), KernelModel(cluster, constants)).Overlapped(times, times);
  const double computed = kBlocks * (times.attention_f + times.attention_i + times.attention_w + times.experts_f +
                                     times.experts_i + times.experts_w + times.shared_f + times.shared_i)
                                        .sum();
  return {.waited = all - computed, .all = all};
}

const std::vector<BlockTimes>& Models() {
  static const std::vector<BlockTimes> models = {TimesOf(300, 700, 200, 400), TimesOf(100, 150, 600, 1200),
                                                 TimesOf(500, 500, 500, 1000, 100)};
  return models;
}

void ExpectAsPlanned(const PairTimes& executed, const PairTimes& planned) {
  EXPECT_NEAR(executed.waited, planned.waited, 0.1 * planned.waited + 1e-9);
  EXPECT_NEAR(executed.all, planned.all, 0.01 * planned.all);
}

TEST(Overlap, WhatIsExposedIsWhatThePlanSays) {
  for (const double slowness : {0.01, 0.3, 0.5, 1.0, 2.0, 5.0}) {
    for (const BlockTimes& times : Models()) {
      SCOPED_TRACE(testing::Message() << "slowness " << slowness);
      // All in one node: a rank's link carries the rows of its three peers.
      const double rows = (kRanks - 1) * slowness;
      ExpectAsPlanned(RunOverLinks(times, {.local = 1 / slowness, .network = 1}, false),
                      Planned(times, {.network = rows * kThereBytes}, {.network = rows * kBackBytes}));
    }
  }
}

// A token crosses the network once and comes back as two sums of groups; inside the node two sources' rows go to the other rank.
TEST(Overlap, SoIsItWhereRowsAreForwarded) {
  for (const double network : {0.01, 0.5, 1.0, 2.0, 5.0}) {
    for (const double node : {0.01, 0.3, 1.0}) {
      for (const BlockTimes& times : Models()) {
        SCOPED_TRACE(testing::Message() << "network " << network << ", node " << node);
        ExpectAsPlanned(RunOverLinks(times, {.local = 1 / node, .network = 1 / network}, true),
                        Planned(times, {.network = network * kThereBytes, .node = 2 * node * kThereBytes},
                                {.network = 2 * network * kBackBytes, .node = 2 * node * kBackBytes}));
      }
    }
  }
}

// Rails are hidden wherever there is as much to compute: of a combine, too, whose second hop they are.
TEST(Overlap, NothingIsExposedOfAForwardedPairWithEnoughToCompute) {
  const BlockTimes times = TimesOf(500, 500, 500, 1000);
  EXPECT_LT(RunOverLinks(times, {.local = 1e6, .network = 1}, true).waited, 0.001 * kBlocks * 2000);
}

}  // namespace
}  // namespace jevons
