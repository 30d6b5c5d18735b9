// A plan, told: for people and for programs.
#ifndef JEVONS_TRAINER_PLAN_REPORT_H_
#define JEVONS_TRAINER_PLAN_REPORT_H_

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "trainer/plan/planner.h"

namespace jevons {

// run: PlanRun's; an empty one leaves its lines out.
std::string PlanText(const Plan& plan, const RunPlan& run);
nlohmann::ordered_json PlanJson(const Plan& plan, const RunPlan& run);
// One line each: where the layers lie.
std::string StagesText(const Plan& plan);
std::string ConstantsText(const Constants& constants);

}  // namespace jevons

#endif  // JEVONS_TRAINER_PLAN_REPORT_H_
