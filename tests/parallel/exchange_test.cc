#include "parallel/zero/exchange.h"

#include "gtest/gtest.h"
#include "parallel/comm/loopback.h"
#include "tests/parallel/exchange_checks.h"

namespace jevons {
namespace {

class ExchangeTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, ExchangeTest, testing::Values(1, 2, 3, 4, 6, 8));

TEST_P(ExchangeTest, TheStepsGradientHasTheSameBitsOnEveryLayout) {
  RunLoopback(GetParam(), [](Communicator& group) { CheckExchangeCases(group); });
}

}  // namespace
}  // namespace jevons
