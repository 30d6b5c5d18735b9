#include "trainer/plan/layout_fields.h"

#include <google/protobuf/descriptor.h>

#include "absl/strings/str_cat.h"
#include "configs/overrides.h"
#include "configs/validate.h"
#include "kernels/base/check.h"

namespace jevons {
namespace {

// The value of parallel.schedule that LayoutOf reads as this schedule.
ScheduleType TypeOf(ScheduleKind kind) {
  const google::protobuf::EnumDescriptor& types = *ScheduleType_descriptor();
  for (int i = 0; i < types.value_count(); ++i) {
    RunConfig config;
    config.mutable_parallel()->set_schedule(static_cast<ScheduleType>(types.value(i)->number()));
    if (LayoutOf(config, 1).schedule == kind) return config.parallel().schedule();
  }
  JEVONS_CHECK(false, "no parallel.schedule for schedule %d", static_cast<int>(kind));
}

// What parallel.stages must say for this cut. A layout without one leaves it to `train`, as does one that is cut evenly.
std::string StagesOf(const RunConfig& config, const std::vector<StagePart>& cut) {
  const auto makes = [&](const std::string& text) {
    const auto made = CutIntoStages(config.model(), static_cast<int>(cut.size()), text);
    return made.ok() && *made == cut;
  };
  if (cut.empty() || makes("")) return "";
  return makes(config.parallel().stages()) ? config.parallel().stages() : StagesText(cut);
}

}  // namespace

std::vector<std::string> LayoutAssignments(const RunConfig& config, const Layout& layout) {
  const Layout is = LayoutOf(config, layout.gpus);
  std::vector<std::string> assignments;
  const auto set = [&](const char* path, int64_t was, int64_t wanted) {
    if (was != wanted) assignments.push_back(absl::StrCat(path, "=", wanted));
  };
  set("parallel.pp", is.pp, layout.pp);
  set("parallel.ep", is.ep, layout.ep);
  if (is.schedule != layout.schedule)
    assignments.push_back(absl::StrCat("parallel.schedule=", ScheduleType_Name(TypeOf(layout.schedule))));
  set("parallel.virtual_stages", is.virtual_stages, layout.virtual_stages);
  if (const std::string stages = StagesOf(config, layout.cut); stages != config.parallel().stages())
    assignments.push_back(absl::StrCat("parallel.stages=", stages));
  set("train.micro_batch_sequences", is.micro_batch, layout.micro_batch);
  const auto set_bool = [&](const char* path, bool was, bool wanted) {
    if (was != wanted) assignments.push_back(absl::StrCat(path, "=", wanted ? "true" : "false"));
  };
  const bool whole = layout.recompute == Recompute::kFull;
  if (!whole)
    set_bool("train.recompute_up_projections", config.train().recompute_up_projections(),
             layout.recompute == Recompute::kSelective);
  set_bool("train.recompute_stages", config.train().recompute_stages(), whole);
  return assignments;
}

RunConfig WithLayout(const RunConfig& config, const Layout& layout) {
  RunConfig changed = config;
  for (const std::string& assignment : LayoutAssignments(config, layout))
    JEVONS_CHECK(ApplyOverride(assignment, changed).ok(), "%s is no assignment", assignment.c_str());
  return changed;
}

std::string TrainRefusal(const RunConfig& config, const Layout& layout) {
  const std::vector<Violation> violations = Validate(WithLayout(config, layout), static_cast<int>(layout.gpus));
  return violations.empty() ? "" : violations.front().ToString();
}

}  // namespace jevons
