// Whether hosts that shall train together are alike, and which two of them are slow: what `jevons doctor --hosts` concludes from what
// its ranks have found, one on each host (host_facts.h).
#ifndef JEVONS_LAUNCH_HOST_TABLE_H_
#define JEVONS_LAUNCH_HOST_TABLE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "launch/machine.h"
#include "parallel/comm/pairs.h"

namespace jevons {

struct HostFacts {
  std::string host;
  std::vector<Finding> facts;  // the same topics on every host; a value is what must be equal
};

struct HostReport {
  std::vector<HostFacts> hosts;       // by rank
  std::vector<double> clock_offsets;  // seconds ahead of the first host, by rank
  std::vector<PairSpeed> pairs;
};

// As ranks tell it: JSON, one document for the facts of a host, one for a whole report. FailureError where `text` is not one.
std::string TextOf(const HostFacts& host);
absl::StatusOr<HostFacts> ParseHostFacts(const std::string& text);
std::string TextOf(const HostReport& report);
absl::StatusOr<HostReport> ParseHostReport(const std::string& text);

struct HostSlots {
  std::string name;
  int64_t slots = 1;  // ranks
  bool operator==(const HostSlots&) const = default;
};

// The hosts in a hostfile of mpirun: the first word of each line, without user and comments, and its slots; a host of several lines once, with the
// sum. `path` is for the message: UsageError where there is none.
absl::StatusOr<std::vector<HostSlots>> ParseHostfile(const std::string& text, const std::string& path);
// The same from the file itself.
absl::StatusOr<std::vector<HostSlots>> ReadHostfile(const std::string& path);

// A finding for each topic, bad where a host has a bad one or hosts differ: then its value says which hosts have which. Then "clocks",
// bad where one is a second off, and "pairs", bad where the slowest has less than half of the median's bytes/s.
std::vector<Finding> CompareHosts(const HostReport& report);

// Every pair in a line: the two hosts, microseconds, GB/s there and back, and "slow" where it has less than half of the median's.
std::string PairTable(const HostReport& report);

// What `nvidia-smi topo -m` says, in a line: "GPU to GPU NV18 x 56, GPU to NIC PIX x 8 SYS x 56"; empty where it names no GPU.
std::string TopologyText(const std::string& matrix);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_HOST_TABLE_H_
