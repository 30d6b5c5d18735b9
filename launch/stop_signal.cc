#include "launch/stop_signal.h"

#include <csignal>
#include <cstdlib>
#include <ctime>

namespace jevons {
namespace {

std::atomic<int> stop_signal{0};
std::atomic<int64_t> first_interrupt{0};  // when SIGINT came first, in milliseconds of the monotonic clock; 0: it has not

int64_t Milliseconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);  // may be called in a handler
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000 + 1;
}

// Launchers repeat themselves: GNU timeout signals its child and then the child's group, Slurm sends SIGUSR1 and SIGTERM.
// So only somebody at a terminal, who presses Ctrl-C again after waiting, is taken to mean "do not save".
void OnSignal(int signal) {
  int none = 0;
  stop_signal.compare_exchange_strong(none, signal);
  if (signal != SIGINT) return;
  int64_t first = 0;
  const int64_t now = Milliseconds();
  if (!first_interrupt.compare_exchange_strong(first, now) && now - first >= 1000 * kInterruptPatience) std::_Exit(128 + signal);
}

}  // namespace

const std::atomic<int>* CatchStopSignals() {
  struct sigaction action {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  for (int signal : {SIGTERM, SIGUSR1, SIGINT}) sigaction(signal, &action, nullptr);
  return &stop_signal;
}

}  // namespace jevons
