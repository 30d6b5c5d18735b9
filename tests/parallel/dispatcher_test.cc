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

TEST(DispatcherTest, TransfersOverlap) {
  RunLoopback(3, [](Communicator& ep) {
    Dispatcher dispatcher(ep, 3);
    std::vector<float> first = {1, 2, 3}, second = {10, 20, 30}, a(3), b(3);
    std::vector<int64_t> counts = {1, 1, 1};
    const DispatchHandle handle = dispatcher.Plan(Tensor::Of(counts.data(), {3}), 3);
    const CommRequest r =
        dispatcher.BeginDispatch(handle, Tensor::Of(first.data(), {3, 1}), Tensor::Of(a.data(), {3, 1}));
    const CommRequest s =
        dispatcher.BeginCombine(handle, Tensor::Of(second.data(), {3, 1}), Tensor::Of(b.data(), {3, 1}));
    dispatcher.Finish(s);
    dispatcher.Finish(r);
    EXPECT_EQ(a, std::vector<float>(3, first[ep.rank()]));
    EXPECT_EQ(b, std::vector<float>(3, second[ep.rank()]));
  });
}

TEST(DispatcherDeathTest, ACallThatContradictsItsHandleAborts) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(RunLoopback(1,
                           [](Communicator& ep) {
                             Dispatcher dispatcher(ep, 1);
                             std::vector<float> rows(2);
                             int64_t count = 1;
                             const DispatchHandle handle = dispatcher.Plan(Tensor::Of(&count, {1}), 1);
                             dispatcher.BeginDispatch(handle, Tensor::Of(rows.data(), {2, 1}),
                                                      Tensor::Of(rows.data(), {1, 1}));
                           }),
               "dispatch F32");
}

}  // namespace
}  // namespace jevons
