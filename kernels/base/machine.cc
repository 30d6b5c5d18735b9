#include "kernels/base/machine.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace jevons {
namespace {

std::string ReadLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// quota / period, 0 where either is missing, "max" or -1.
double Cores(const std::string& quota, const std::string& period) {
  double time = 0, of = 0;
  const bool limited = absl::SimpleAtod(quota, &time) && absl::SimpleAtod(period, &of) && time > 0 && of > 0;
  return limited ? time / of : 0;
}

// The limit of one group's folder, as version 2 or 1 writes it.
double LimitOf(const std::string& folder) {
  const std::vector<std::string> fields = absl::StrSplit(ReadLine(folder + "/cpu.max"), ' ');
  if (fields.size() == 2) return Cores(fields[0], fields[1]);
  return Cores(ReadLine(folder + "/cpu.cfs_quota_us"), ReadLine(folder + "/cpu.cfs_period_us"));
}

}  // namespace

std::string HostName() {
  char name[256] = "localhost";
  gethostname(name, sizeof name - 1);  // on failure the name stays
  return name;
}

int MachineCores() { return std::max(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN))); }

std::vector<int> AffinityCores() {
  // The kernel refuses a set smaller than its own.
  for (int cores = 1024; cores <= (1 << 20); cores *= 2) {
    cpu_set_t* const set = CPU_ALLOC(static_cast<size_t>(cores));
    const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(cores));
    std::vector<int> found;
    if (sched_getaffinity(0, bytes, set) == 0)
      for (int core = 0; core < cores; ++core)
        if (CPU_ISSET_S(static_cast<size_t>(core), bytes, set)) found.push_back(core);
    CPU_FREE(set);
    if (!found.empty()) return found;
  }
  return {0};
}

double CoreQuota(const std::string& root) {
  double least = 0;
  const auto consider = [&](const std::string& folder) {
    const double limit = LimitOf(folder);
    if (limit > 0) least = least == 0 ? limit : std::min(least, limit);
  };
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // "0::/path", or "4:cpu,cpuacct:/path" in version 1
    const std::vector<std::string> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) continue;
    const std::set<std::string> controllers = absl::StrSplit(fields[1], ',');
    const bool v2 = fields[1].empty();
    if (!v2 && controllers.count("cpu") == 0) continue;
    const std::string mount = root + "/sys/fs/cgroup" + (v2 ? "" : "/cpu");
    for (std::filesystem::path path = fields[2]; path.has_relative_path(); path = path.parent_path())
      consider(mount + path.string());
    // In a container the path may be the host's, which is not mounted here: then the mount's own root is the group.
    consider(mount);
  }
  return least;
}

double ShareOfCores(const std::vector<std::vector<int>>& masks, size_t self) {
  std::map<int, int> users;  // of a core
  for (const std::vector<int>& mask : masks)
    for (const int core : mask) ++users[core];
  double share = 0;
  for (const int core : masks[self]) share += 1.0 / users[core];
  return share;
}

int UsableCores() {
  const int mask = static_cast<int>(AffinityCores().size());
  const double quota = CoreQuota();
  return quota > 0 ? std::clamp(static_cast<int>(quota), 1, mask) : mask;
}

}  // namespace jevons
