// The supervisor's process on another host: tells what the ranks there do, and does what it is asked (agent_messages.h).
#ifndef JEVONS_LAUNCH_SUPERVISE_AGENT_H_
#define JEVONS_LAUNCH_SUPERVISE_AGENT_H_

#include <string>

#include "launch/supervise/host.h"

namespace jevons {

// Seconds without a word from the supervisor, after which an agent ends its ranks and itself: whoever is cut off stops.
inline constexpr double kAgentPatience = 10;

// Serves over the two streams until the first has ended. What is in memory then stays for the next supervisor.
void ServeAsAgent(Host& host, int in, int out);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_SUPERVISE_AGENT_H_
