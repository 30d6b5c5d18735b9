// The machine under this process: its name, and how much of its processor the process may use.
#ifndef JEVONS_KERNELS_BASE_MACHINE_H_
#define JEVONS_KERNELS_BASE_MACHINE_H_

#include <cstddef>
#include <string>
#include <vector>

namespace jevons {

std::string HostName();

// Logical cores of the machine, whoever may use them.
int MachineCores();

// The numbers of the logical cores in this process's affinity mask: what taskset, a launcher's binding or a cpuset leave it.
std::vector<int> AffinityCores();

// Cores' worth of time that the control groups of this process grant (cgroup v1 and v2; the least of the group and those above
// it); 0 without a limit. `root` stands before /proc and /sys, for tests.
double CoreQuota(const std::string& root = "");

// Cores' worth of time of process `self` where masks[i] holds the cores that process i may use: each core is shared equally by all
// that may use it. Processes that are bound apart get their own cores, unbound ones equal parts of all.
double ShareOfCores(const std::vector<std::vector<int>>& masks, size_t self);

// What both grant: the cores of the mask, no more than the quota's whole part; at least 1.
int UsableCores();

}  // namespace jevons

#endif  // JEVONS_KERNELS_BASE_MACHINE_H_
