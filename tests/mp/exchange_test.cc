// Dispatch and the collectives of ZeRO over MPI, by the checks that loopback passes too.
#include "gtest/gtest.h"
#include "tests/parallel/dispatcher_checks.h"
#include "tests/parallel/exchange_checks.h"
#include "tests/support/mpi_world.h"

namespace jevons {
namespace {

TEST(MpiTest, EveryRowReachesItsExpertAndComesBack) { CheckDispatchCases(TestWorld()); }

TEST(MpiTest, ForwardedTokensDo) { CheckForwardedCases(TestWorld()); }

TEST(MpiTest, RanksOfOneMachineKnowIt) {
  for (int r = 0; r < TestWorld().size(); ++r) EXPECT_EQ(TestWorld().NodeOf(r), TestWorld().NodeOf(0));
}

TEST(MpiTest, TheStepsGradientHasTheSameBitsOnEveryLayout) { CheckExchangeCases(TestWorld()); }

}  // namespace
}  // namespace jevons
