#include "launch/stop_signal.h"

#include <csignal>
#include <cstdlib>

namespace jevons {
namespace {

std::atomic<int> stop_signal{0};

void OnSignal(int signal) {
  if (stop_signal.exchange(signal) != 0) std::_Exit(128 + signal);
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
