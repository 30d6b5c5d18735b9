// A cluster's description: text format in, ClusterConfig out, every rule on it checked.
#ifndef JEVONS_CONFIGS_CLUSTER_H_
#define JEVONS_CONFIGS_CLUSTER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "configs/cluster.pb.h"
#include "configs/validate.h"

namespace jevons {

// Usage errors name the file, and each field that is unknown, missing or out of range with the nearest legal
// value.
absl::StatusOr<ClusterConfig> LoadCluster(const std::string& path);
// The same from text; `name` stands for the file in messages.
absl::StatusOr<ClusterConfig> ParseCluster(const std::string& text, const std::string& name);

// Every broken rule, in the order of the fields.
std::vector<Violation> Validate(const ClusterConfig& cluster);

}  // namespace jevons

#endif  // JEVONS_CONFIGS_CLUSTER_H_
