// SIGTERM, SIGUSR1 and SIGINT, for commands that commit a checkpoint before they end.
#ifndef JEVONS_LAUNCH_STOP_SIGNAL_H_
#define JEVONS_LAUNCH_STOP_SIGNAL_H_

#include <atomic>

namespace jevons {

// Seconds from the first SIGINT after which another one ends the process at once.
inline constexpr int kInterruptPatience = 3;

// From here on a signal only sets what this returns to its number. Later ones, of the same or another kind, change nothing: the
// checkpoint is on its way. Only SIGINT twice, kInterruptPatience apart, ends the process at once. Call it before anything that
// takes time: a job may be told to stop while it starts.
const std::atomic<int>* CatchStopSignals();

}  // namespace jevons

#endif  // JEVONS_LAUNCH_STOP_SIGNAL_H_
