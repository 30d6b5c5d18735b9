// What a pair of micro-batches waits for, executed over links that are slow, is what the plan says of it: LayerModel::Overlapped.
#include <gtest/gtest.h>

#include <vector>

#include "parallel/comm/loopback.h"
#include "parallel/pipeline/phases.h"
#include "tests/support/link_group.h"
#include "tests/trainer/plan/plan_cases.h"
#include "trainer/plan/layer_model.h"

namespace jevons {
namespace {

constexpr int kRanks = 4, kBlocks = 6;

// Bytes that go to each other rank, so that a link of one byte per second is busy for as many seconds.
struct BlockBytes {
  int64_t dispatch_f = 0, combine_f = 0, dispatch_b = 0, combine_b = 0;
};

// Blocks of a stage that do nothing but take their time, cut into phases as model/block.cc is.
class SlowStage {
 public:
  SlowStage(LinkGroup& ep, double& computed, const BlockTimes& times, const BlockBytes& bytes)
      : ep_(ep), computed_(computed), times_(times), bytes_(bytes), memory_(static_cast<size_t>(2 * 2 * kRanks * 4096)) {}

  Phases Forward() {
    for (int block = 0; block < kBlocks; ++block) {
      computed_ += times_.attention_f.sum();
      co_await NextPhase();
      const CommRequest dispatch = Begin(bytes_.dispatch_f, 0);
      co_await NextPhase();
      ep_.Wait(Stream(), dispatch);
      computed_ += times_.experts_f.sum();
      const CommRequest combine = Begin(bytes_.combine_f, 0);
      co_await NextPhase();
      ep_.Wait(Stream(), combine);
    }
  }
  Phases Backward() {
    for (int block = 0; block < kBlocks; ++block) {
      const CommRequest dispatch = Begin(bytes_.dispatch_b, 1);
      co_await NextPhase();
      co_await NextPhase();
      ep_.Wait(Stream(), dispatch);
      computed_ += times_.experts_i.sum();
      const CommRequest combine = Begin(bytes_.combine_b, 1);
      computed_ += times_.experts_w.sum();
      co_await NextPhase();
      ep_.Wait(Stream(), combine);
      computed_ += times_.attention_i.sum() + times_.attention_w.sum();
    }
  }

 private:
  CommRequest Begin(int64_t bytes, int micro_batch) {
    std::byte* const place = memory_.data() + micro_batch * 2 * kRanks * 4096;
    const auto all = static_cast<size_t>(bytes * kRanks);
    const std::vector<int64_t> sizes(kRanks, bytes);
    const Exchange exchange{.send = {place, all}, .send_bytes = sizes, .recv = {place + kRanks * 4096, all}, .recv_bytes = sizes};
    return ep_.BeginAllToAllV(Stream(), {&exchange, 1});
  }

  LinkGroup& ep_;
  double& computed_;
  const BlockTimes times_;
  const BlockBytes bytes_;
  std::vector<std::byte> memory_;
};

BlockTimes TimesOf(double attention_f, double attention_b, double experts_f, double experts_b) {
  BlockTimes times;
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
PairTimes RunOverLinks(const BlockTimes& times, const BlockBytes& bytes, LinkRates rates) {
  LinkMeeting meeting;
  std::vector<PairTimes> ranks(kRanks);
  RunLoopback(kRanks, [&](Communicator& world) {
    double computed = 0;
    LinkGroup ep(world, meeting, rates, [&] { return computed; });
    SlowStage stage(ep, computed, times, bytes);
    RunPair(stage.Forward(), stage.Backward());
    ranks[static_cast<size_t>(world.rank())] = {.waited = ep.waited, .all = ep.Now()};
  });
  for (const PairTimes& rank : ranks) EXPECT_DOUBLE_EQ(rank.all, ranks[0].all);
  return ranks[0];
}

// The plan's, where communication takes nothing from computation, as on these links.
PairTimes Planned(BlockTimes times, const BlockBytes& bytes, double seconds_per_byte) {
  ClusterConfig cluster = H800();
  cluster.mutable_gpu()->set_communication_sms(0);
  Constants constants;
  constants.overlap_slowdown = 1;
  times.dispatch_f = static_cast<double>(bytes.dispatch_f) * seconds_per_byte;
  times.combine_f = static_cast<double>(bytes.combine_f) * seconds_per_byte;
  times.dispatch_b = static_cast<double>(bytes.dispatch_b) * seconds_per_byte;
  times.combine_b = static_cast<double>(bytes.combine_b) * seconds_per_byte;
  const double all =
      kBlocks * LayerModel(DeepSeekV3(), PublishedLayout(), KernelModel(cluster, constants)).Overlapped(times, times);
  const double computed =
      kBlocks *
      (times.attention_f + times.attention_i + times.attention_w + times.experts_f + times.experts_i + times.experts_w).sum();
  return {.waited = all - computed, .all = all};
}

TEST(Overlap, WhatIsExposedIsWhatThePlanSays) {
  for (const double slowness : {0.01, 0.3, 0.5, 1.0, 2.0, 5.0}) {
    for (const BlockTimes& times : {TimesOf(300, 700, 200, 400), TimesOf(100, 150, 600, 1200), TimesOf(500, 500, 500, 1000)}) {
      // FP8 on the way there, BF16 on the way back.
      const BlockBytes bytes{.dispatch_f = 100, .combine_f = 200, .dispatch_b = 100, .combine_b = 200};
      // All in one node: a rank's link carries the rows of its three peers.
      const PairTimes executed = RunOverLinks(times, bytes, {.local = 1 / slowness, .network = 1});
      const PairTimes planned = Planned(times, bytes, (kRanks - 1) * slowness);
      EXPECT_NEAR(executed.waited, planned.waited, 0.1 * planned.waited + 1e-9) << "slowness " << slowness;
      EXPECT_NEAR(executed.all, planned.all, 0.01 * planned.all) << "slowness " << slowness;
    }
  }
}

}  // namespace
}  // namespace jevons
