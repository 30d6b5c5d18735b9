#include "parallel/ep/dispatcher.h"

#include <vector>

#include "gtest/gtest.h"
#include "parallel/comm/loopback.h"
#include "tests/parallel/dispatcher_checks.h"

namespace jevons {
namespace {

class DispatcherTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, DispatcherTest, testing::Values(1, 2, 3, 4, 6, 8));

TEST_P(DispatcherTest, EveryRowReachesItsExpertAndComesBack) {
  RunLoopback(GetParam(), [](Communicator& ep) { CheckDispatchCases(ep); });
}

// One token for each of three experts.
struct ThreeTokens {
  std::vector<int32_t> indices = {0, 1, 2};
  std::vector<int64_t> counts = {1, 1, 1};
  Arena memory{"memory", 1 << 20};
  OpContext ops{.stream = {}, .scratch = &memory};
  DispatchHandle Plan(Dispatcher& dispatcher) {
    dispatcher.BeginPlan(ops, Tensor::Of(indices.data(), {3, 1}), Tensor::Of(counts.data(), {3}), memory);
    return dispatcher.FinishPlan(memory);
  }
};

TEST(DispatcherTest, TransfersOverlap) {
  RunLoopback(3, [](Communicator& ep) {
    Dispatcher dispatcher(ep, {.experts = 3});
    ThreeTokens tokens;
    std::vector<float> first = {1, 2, 3}, second = {10, 20, 30}, a(3), b(3);
    const DispatchHandle handle = tokens.Plan(dispatcher);
    RowTransfer r, s;
    dispatcher.BeginDispatch(tokens.ops, handle, {.rows = {{Tensor::Of(first.data(), {3, 1}), Tensor::Of(a.data(), {3, 1})}}}, r);
    dispatcher.BeginCombine(tokens.ops, handle, Tensor::Of(second.data(), {3, 1}), Tensor(), s);
    dispatcher.FinishCombine(tokens.ops, handle, s, Tensor::Of(b.data(), {3, 1}), Tensor());
    dispatcher.FinishDispatch(tokens.ops, handle, r);
    EXPECT_EQ(a, std::vector<float>(3, first[ep.rank()]));
    EXPECT_EQ(b, std::vector<float>(3, second[ep.rank()]));
  });
}

// Rows to other ranks, there and back; nothing else counts.
TEST(DispatcherTest, CountsTheBytesThatTravel) {
  RunLoopback(3, [](Communicator& ep) {
    Dispatcher dispatcher(ep, {.experts = 7});
    const auto rows = [](int rank, int64_t e) { return (rank * 5 + e * 3) % 4; };
    CheckDispatch(ep, dispatcher, OneSlot(7, rows));
    int64_t away = 0, back = 0;
    for (int64_t e = 0; e < 7; ++e) {
      const bool here = BlockOwner(7, 3, e) == ep.rank();
      if (!here) away += rows(ep.rank(), e);
      for (int source = 0; source < 3; ++source)
        if (here && source != ep.rank()) back += rows(source, e);
    }
    EXPECT_EQ(dispatcher.traffic().dispatch.local_bytes, away * (12 + 12 + 4));
    EXPECT_EQ(dispatcher.traffic().combine.local_bytes, back * (12 + 4 + 6 + 4));
  });
}

TEST(DispatcherDeathTest, ACallThatContradictsItsHandleAborts) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(RunLoopback(1,
                           [](Communicator& ep) {
                             Dispatcher dispatcher(ep, {.experts = 3});
                             ThreeTokens tokens;
                             std::vector<float> rows(3);
                             RowTransfer transfer;
                             dispatcher.BeginDispatch(
                                 tokens.ops, tokens.Plan(dispatcher),
                                 {.rows = {{Tensor::Of(rows.data(), {2, 1}), Tensor::Of(rows.data(), {3, 1})}}}, transfer);
                           }),
               "dispatch F32");
}

}  // namespace
}  // namespace jevons
