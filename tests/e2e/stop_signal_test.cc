#include "launch/stop_signal.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

namespace jevons {
namespace {

// In a process of its own, which the handlers stay in.
[[noreturn]] void After(int first, int second, int seconds_between) {
  const std::atomic<int>* stop = CatchStopSignals();
  raise(first);
  sleep(static_cast<unsigned>(seconds_between));
  raise(second);
  raise(second);
  std::_Exit(stop->load() == first ? 75 : 1);
}

TEST(StopSignal, LaterOnesChangeNothing) {
  for (const int first : {SIGTERM, SIGUSR1, SIGINT})
    for (const int second : {SIGTERM, SIGUSR1, SIGINT}) EXPECT_EXIT(After(first, second, 0), testing::ExitedWithCode(75), "");
  EXPECT_EXIT(After(SIGTERM, SIGUSR1, kInterruptPatience + 1), testing::ExitedWithCode(75), "");
}

TEST(StopSignal, InterruptedAgainAfterSomeSecondsItEndsAtOnce) {
  EXPECT_EXIT(After(SIGINT, SIGINT, kInterruptPatience + 1), testing::ExitedWithCode(128 + SIGINT), "");
}

}  // namespace
}  // namespace jevons
