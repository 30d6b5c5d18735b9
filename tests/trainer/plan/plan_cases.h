// What the planner's tests start from.
#ifndef JEVONS_TESTS_TRAINER_PLAN_PLAN_CASES_H_
#define JEVONS_TESTS_TRAINER_PLAN_PLAN_CASES_H_

#include <gtest/gtest.h>

#include <string>

#include "configs/cluster.h"
#include "tests/configs/presets.h"
#include "tests/support/paths.h"
#include "trainer/plan/planner.h"

namespace jevons {

inline ClusterConfig ClusterNamed(const std::string& name) {
  const absl::StatusOr<ClusterConfig> cluster = LoadCluster(SourcePath("configs/clusters/") + name + ".textproto");
  EXPECT_TRUE(cluster.ok()) << cluster.status();
  return cluster.ok() ? *cluster : ClusterConfig();
}

inline ClusterConfig H800() { return ClusterNamed("h800_2048"); }
inline ModelShape DeepSeekV3() { return ShapeOf(Preset("deepseek_v3_671b").model()); }
inline Layout PublishedLayout() { return LayoutOf(Preset("deepseek_v3_671b"), 2048); }

inline Plan PlanOf(const Layout& layout, const ClusterConfig& cluster = H800(), const Constants& constants = {},
                   const ModelShape& model = DeepSeekV3()) {
  const absl::StatusOr<Plan> plan = MakePlan(model, layout, cluster, constants);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return plan.ok() ? *plan : Plan();
}

}  // namespace jevons

#endif  // JEVONS_TESTS_TRAINER_PLAN_PLAN_CASES_H_
