// What one host of a job has: looked up by the one rank on it that `jevons doctor --hosts` starts.
#ifndef JEVONS_LAUNCH_HOST_FACTS_H_
#define JEVONS_LAUNCH_HOST_FACTS_H_

#include <string>

#include "launch/host_table.h"
#include "parallel/comm/communicator.h"

namespace jevons {

// Folders of a run; empty = not asked about.
struct RunFolders {
  std::string output;  // must be one folder that all hosts share and write
  std::string data;    // must have the same files everywhere, as copies or as one folder
};

// Program, libraries, cores, GPUs and their links, InfiniBand, limits, folders. One rank of `world` is on each host. Collective.
HostFacts ExamineHost(Communicator& world, const RunFolders& folders);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_HOST_FACTS_H_
