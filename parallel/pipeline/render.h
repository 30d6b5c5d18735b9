// Schedules as text for people: the lists as a grid, and a time line for a terminal.
#ifndef JEVONS_PARALLEL_PIPELINE_RENDER_H_
#define JEVONS_PARALLEL_PIPELINE_RENDER_H_

#include <string>
#include <vector>

#include "parallel/pipeline/action.h"
#include "parallel/pipeline/simulate.h"
#include "parallel/pipeline/walk.h"

namespace jevons {

// The lists around the marked places, marked cells as >>2B0<<; a mark at the end of a list shows as >>end<<.
// Rows without a mark of their own are shown around the first mark's place, and only those next to a marked
// one.
std::string RenderGrid(const Schedule& schedule, const std::vector<Position>& marks);

// A line per rank, `width` characters for the makespan:
//   rank  0 |F0 F1 ......B0--- F2 ...
// Labels name the stage where a rank holds several and there is room; an action too short for that shows as
// F2, or as its kind's letter (X: an overlapped pair). Dots are idle time. Sends and receives are left out.
std::string RenderTimeline(const Schedule& schedule, const Timeline& timeline, int width);

}  // namespace jevons

#endif  // JEVONS_PARALLEL_PIPELINE_RENDER_H_
