// jevons doctor --hosts: the hosts of a job, before it starts.
#ifndef JEVONS_LAUNCH_DOCTOR_HOSTS_H_
#define JEVONS_LAUNCH_DOCTOR_HOSTS_H_

#include <string>

#include "kernels/base/status.h"
#include "launch/host_facts.h"

namespace jevons {

// Starts `program` (a path that all hosts have) through mpirun on each host of mpirun's `hostfile` alone, then one rank on each for
// what only all together can say. UsageError where the hostfile is unusable; FailureError where a host cannot be reached or does not
// run the program, naming it; PeerLostError where one stops answering.
absl::StatusOr<HostReport> ExamineHosts(const std::string& program, const std::string& hostfile, const RunFolders& folders);

// One of these ranks; the first writes the report to stdout. Returns the exit code.
int BeHost(const RunFolders& folders);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_DOCTOR_HOSTS_H_
