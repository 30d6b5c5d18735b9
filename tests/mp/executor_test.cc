// Pipeline schedules over MPI, by the checks that loopback passes too.
#include "parallel/pipeline/executor.h"

#include "gtest/gtest.h"
#include "parallel/comm/watchdog.h"
#include "parallel/pipeline/passes.h"
#include "tests/parallel/pipeline/executor_checks.h"
#include "tests/support/mpi_world.h"

namespace jevons {
namespace {

TEST(MpiTest, EveryScheduleGivesWhatASerialRunGives) {
  SetWatchdogDeadline(20);
  const auto pp = TestWorld().Split(0, "pp");
  for (const Schedule& schedule : ExecutableSchedules(pp->size())) {
    CheckExecutor(*pp, schedule);
    CheckExecutor(*pp, ForwardOnly(schedule));
  }
  SetWatchdogDeadline(300);
}

// Messages past every eager limit: a send ends when its receiver has taken it.
TEST(MpiTest, AnyValidListRunsWithLongMessages) {
  SetWatchdogDeadline(20);
  const auto pp = TestWorld().Split(0, "pp");
  std::mt19937 random(1);
  for (int round = 0; round < 40; ++round)
    CheckExecutor(*pp, InsertCommunication(RandomSchedule(random, pp->size())), {.width = 20'000});
  SetWatchdogDeadline(300);
}

}  // namespace
}  // namespace jevons
