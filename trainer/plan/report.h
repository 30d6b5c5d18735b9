// A plan, told: for people and for programs.
#ifndef JEVONS_TRAINER_PLAN_REPORT_H_
#define JEVONS_TRAINER_PLAN_REPORT_H_

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "trainer/plan/planner.h"

namespace jevons {

// tokens: of the whole run; 0 leaves the run's lines out.
std::string PlanText(const Plan& plan, double tokens);
nlohmann::ordered_json PlanJson(const Plan& plan, double tokens);
// One line each: where the layers lie.
std::string StagesText(const Plan& plan);
std::string ConstantsText(const Constants& constants);

}  // namespace jevons

#endif  // JEVONS_TRAINER_PLAN_REPORT_H_
