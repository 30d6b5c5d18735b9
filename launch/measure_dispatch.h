// How fast the ranks of a machine, or of several, send each other what a run's dispatch sends: measurements for `jevons plan`'s table.
#ifndef JEVONS_LAUNCH_MEASURE_DISPATCH_H_
#define JEVONS_LAUNCH_MEASURE_DISPATCH_H_

#include "configs/run.pb.h"
#include "parallel/comm/communicator.h"
#include "trainer/plan/calibration.h"

namespace jevons {

// Fills exchanges' starts and rates, and what it takes to plan a forwarded dispatch; m.ranks and ranks_per_node are known. config: valid, or
// null: then messages have 1 MiB. Messages are as long as those of the run's flat dispatch, for speed depends on it. Collective over world,
// whose machines have as many ranks each.
void MeasureDispatch(const RunConfig* config, Communicator& world, Measurements& m);

}  // namespace jevons

#endif  // JEVONS_LAUNCH_MEASURE_DISPATCH_H_
