// DeepSeek's claim, checked: 2,788K H800 hours and $5.576M for DeepSeek-V3 (report, table 1).
#ifndef JEVONS_TRAINER_PLAN_REPRODUCE_H_
#define JEVONS_TRAINER_PLAN_REPRODUCE_H_

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "trainer/plan/planner.h"

namespace jevons {

struct ClaimLine {
  std::string name, unit;
  double published = 0, predicted = 0;
  std::string note;  // what of it is no prediction
  double error() const { return predicted / published - 1; }
};

// What if: one thing changed, all else equal.
struct ClaimVariant {
  std::string name;
  absl::Status status;  // why it cannot be
  double gpu_hours = 0, dollars = 0, memory_gib = 0;
  bool fits = true;
};

struct Claim {
  Plan plan;                     // of pre-training
  std::vector<ClaimLine> hours;  // table 1
  std::vector<ClaimLine> step;   // arXiv 2505.09343, table 4
  std::vector<ClaimVariant> variants;
};
// config, cluster: the preset deepseek_v3_671b and h800_2048; h100: another GPU's table to compare with.
absl::StatusOr<Claim> ReproduceDeepSeekV3(const RunConfig& config, const ClusterConfig& cluster, const ClusterConfig& h100,
                                          const Constants& constants = {});
std::string ClaimText(const Claim& claim);
nlohmann::ordered_json ClaimJson(const Claim& claim);

}  // namespace jevons

#endif  // JEVONS_TRAINER_PLAN_REPRODUCE_H_
