// Steps as files: traces for chrome://tracing and Perfetto, and one HTML page of a simulated step that needs nothing else.
#ifndef JEVONS_TRAINER_PLAN_TIMELINE_FILES_H_
#define JEVONS_TRAINER_PLAN_TIMELINE_FILES_H_

#include <string>
#include <vector>

#include "trainer/plan/planner.h"

namespace jevons {

struct TraceEvent {
  std::string name;
  TimeSpan at;  // seconds
};
struct TraceThread {
  std::string name;
  std::vector<TraceEvent> events;
};
struct TraceProcess {
  std::string name;  // may be empty
  std::vector<TraceThread> threads;
};
std::string TraceJson(const std::vector<TraceProcess>& processes);
std::string TraceJson(const Plan& plan);
// run: PlanRun's; an empty one leaves its lines out.
std::string PlanHtml(const Plan& plan, const RunPlan& run);

}  // namespace jevons

#endif  // JEVONS_TRAINER_PLAN_TIMELINE_FILES_H_
