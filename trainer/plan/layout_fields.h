// From a layout back to the run that has it: the fields that make it, and whether `jevons train` takes them.
#ifndef JEVONS_TRAINER_PLAN_LAYOUT_FIELDS_H_
#define JEVONS_TRAINER_PLAN_LAYOUT_FIELDS_H_

#include <string>
#include <vector>

#include "trainer/plan/layout.h"

namespace jevons {

// The assignments "parallel.pp=4" (as of --set) that turn a run of `config`'s layout into one of this; those alone that change
// something. Of pp, ep, schedule, stages per rank and their cut, micro-batch and recomputation: what a search varies.
std::vector<std::string> LayoutAssignments(const RunConfig& config, const Layout& layout);

// The run with this layout.
RunConfig WithLayout(const RunConfig& config, const Layout& layout);

// Why `jevons train` refuses the run with this layout on its GPUs; "" where it does not. The rules are those of
// configs/validate.h.
std::string TrainRefusal(const RunConfig& config, const Layout& layout);

}  // namespace jevons

#endif  // JEVONS_TRAINER_PLAN_LAYOUT_FIELDS_H_
