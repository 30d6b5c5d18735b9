#include "launch/supervise/quarantine.h"

#include <algorithm>

namespace jevons {

bool Quarantine::Holds(const std::string& host, double now) const {
  const auto found = failures_.find(host);
  if (found == failures_.end()) return false;
  return std::count_if(found->second.begin(), found->second.end(), [&](double time) { return now - time < kMemory; }) >=
         kFailures;
}

}  // namespace jevons
