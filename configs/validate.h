// The rules that a run's description keeps. Cheap: it computes with the numbers and allocates nothing of
// their size.
#ifndef JEVONS_CONFIGS_VALIDATE_H_
#define JEVONS_CONFIGS_VALIDATE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "configs/run.pb.h"

namespace jevons {

// One broken rule: "model.moe.routed_experts = 7: must be divisible by model.moe.groups = 4; nearest legal:
// 8".
struct Violation {
  std::string field;    // path, as in --set
  std::string value;    // as given, or "not set"
  std::string rule;     // "must be ..."
  std::string nearest;  // a legal value; "" where none can be named
  std::string ToString() const;
};

// Every broken rule, in the order of the fields. `world_size` is the number of ranks; 0 = not known yet (a
// config that is only inspected): then the rules on ranks are left out. Paths in `data` are not looked up.
std::vector<Violation> Validate(const RunConfig& config, int world_size);

// OK, or a usage error with one line per violation.
absl::Status ValidationStatus(const RunConfig& config, int world_size);

}  // namespace jevons

#endif  // JEVONS_CONFIGS_VALIDATE_H_
