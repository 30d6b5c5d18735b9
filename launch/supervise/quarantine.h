// Which hosts a run does without for a while: those on which something fails again and again.
#ifndef JEVONS_LAUNCH_SUPERVISE_QUARANTINE_H_
#define JEVONS_LAUNCH_SUPERVISE_QUARANTINE_H_

#include <map>
#include <string>
#include <vector>

namespace jevons {

class Quarantine {
 public:
  static constexpr int kFailures = 2;      // within kMemory
  static constexpr double kMemory = 3600;  // seconds for which a failure counts

  // A rank on `host` died, hung or was found to compute other bits, or the host was lost. `now` in seconds.
  void Failed(const std::string& host, double now) { failures_[host].push_back(now); }
  bool Holds(const std::string& host, double now) const;

 private:
  std::map<std::string, std::vector<double>> failures_;
};

}  // namespace jevons

#endif  // JEVONS_LAUNCH_SUPERVISE_QUARANTINE_H_
