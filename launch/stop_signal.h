// SIGTERM, SIGUSR1 and SIGINT, for commands that commit a checkpoint before they end.
#ifndef JEVONS_LAUNCH_STOP_SIGNAL_H_
#define JEVONS_LAUNCH_STOP_SIGNAL_H_

#include <atomic>

namespace jevons {

// From here on the first signal only sets what this returns to its number; the second ends the process at once. Call it before
// anything that takes time: a job may be told to stop while it starts.
const std::atomic<int>* CatchStopSignals();

}  // namespace jevons

#endif  // JEVONS_LAUNCH_STOP_SIGNAL_H_
