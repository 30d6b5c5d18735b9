// The simulated step as files: a trace for chrome://tracing and Perfetto, and one HTML page that needs nothing else.
#ifndef JEVONS_TRAINER_PLAN_TIMELINE_FILES_H_
#define JEVONS_TRAINER_PLAN_TIMELINE_FILES_H_

#include <string>

#include "trainer/plan/planner.h"

namespace jevons {

std::string TraceJson(const Plan& plan);
// tokens: of the whole run; 0 leaves its lines out.
std::string PlanHtml(const Plan& plan, double tokens);

}  // namespace jevons

#endif  // JEVONS_TRAINER_PLAN_TIMELINE_FILES_H_
