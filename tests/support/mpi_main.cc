// main() of the tests that run under mpirun. Rank 0 reports; the verdict is the worst of all ranks.
#include <cstdio>
#include <memory>

#include "gtest/gtest.h"
#include "parallel/comm/mpi.h"
#include "parallel/comm/watchdog.h"
#include "tests/support/mpi_world.h"

namespace jevons {
namespace {

Communicator* g_world = nullptr;

// Prints failures only, with the rank.
class RankPrinter : public testing::EmptyTestEventListener {
 public:
  explicit RankPrinter(int rank) : rank_(rank) {}
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "rank %d: %s:%d: %s\n", rank_, result.file_name() == nullptr ? "" : result.file_name(),
                 result.line_number(), result.message());
  }

 private:
  int rank_;
};

}  // namespace

Communicator& TestWorld() { return *g_world; }

int RunTests(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  auto session = MpiSession::Start(&argc, &argv);
  if (!session.ok()) {
    std::fprintf(stderr, "%s\n", session.status().ToString().c_str());
    return static_cast<int>(ExitCodeOf(session.status()));
  }
  SetWatchdogDeadline(60);  // an assertion that fails on one rank alone leaves the others waiting
  g_world = &(*session)->world();
  if (g_world->rank() > 0) {
    testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new RankPrinter(g_world->rank()));
  }
  int64_t verdict = RUN_ALL_TESTS();
  g_world->AllReduceMax({&verdict, 1});
  return static_cast<int>(verdict);
}

}  // namespace jevons

int main(int argc, char** argv) { return jevons::RunTests(argc, argv); }
