// The collectives over MPI, by the checks that loopback passes too.
#include "gtest/gtest.h"
#include "parallel/comm/mpi.h"
#include "tests/parallel/collective_checks.h"
#include "tests/support/mpi_world.h"

namespace jevons {
namespace {

TEST(MpiTest, EveryCollectiveMatchesAPlainComputation) { CheckEverything(TestWorld()); }

TEST(MpiTest, DataArrivesOnTheHost) { CheckDataPlane(TestWorld(), {}); }

TEST(MpiTest, LongMessagesTravelInPieces) {
  internal::SetMaxMessageBytes(100);  // parts of up to 300 bytes: one, two or three pieces, full and not
  CheckAllGather(TestWorld());
  CheckAllToAllV(TestWorld());
  CheckInterleaved(TestWorld());
  CheckBroadcast(TestWorld());
  internal::SetMaxMessageBytes(1 << 20);
  CheckLargeParts(TestWorld());
  internal::SetMaxMessageBytes(int64_t{1} << 30);
}

}  // namespace
}  // namespace jevons
