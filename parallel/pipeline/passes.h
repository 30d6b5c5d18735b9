// From one schedule to another. The order: split or join backward passes, insert recomputation, then
// communication, then reductions. The passes before the last take a valid schedule without either (checked); all give a valid one.
#ifndef JEVONS_PARALLEL_PIPELINE_PASSES_H_
#define JEVONS_PARALLEL_PIPELINE_PASSES_H_

#include <functional>

#include "kernels/base/status.h"
#include "parallel/pipeline/action.h"
#include "parallel/pipeline/schedules.h"

namespace jevons {

// Whether a pass touches `task` on `rank`.
using TaskFilter = std::function<bool(int rank, const Task& task)>;

// B -> I W, and F&B -> F&I W: the stage before need not wait for the weight part.
Schedule SplitBackward(Schedule schedule, const TaskFilter& filter);
// I W -> B, and F&I W -> F&B, where the W follows at once and `filter` takes the I: one action less to
// launch.
Schedule JoinBackward(Schedule schedule, const TaskFilter& filter);

// R right before the B or I of every forward that `filter` takes; it runs while the gradient is on its way.
Schedule InsertRecompute(Schedule schedule, const TaskFilter& filter);

// A send right after each result that another rank reads, and its receive on that rank: where the reader is
// when the result is made, if F, I and W take equal time. Sends and receives of two ranks come in one order
// on both, and every rank may begin its own strictly one after the other, each waiting for its partner: there
// is a total order of all actions in which each send stands beside its receive, so that no cycle of waits
// exists. (NCCL needs this; buffered or tagged messages are content with less.) A task waits for the arrival
// of what it reads, not for the receives between.
Schedule InsertCommunication(const Schedule& schedule);

// A G for each stage of each rank, where it may stand first: after the last W or B of the stage, and the messages next to it, which others wait
// for; stages in descending order, which is that in which backward passes leave them. So on all ranks reductions begin in one
// order, and no circle of waits exists among them.
Schedule InsertReductions(Schedule schedule);

// The forwards of a valid schedule with their messages, in the same order: an evaluation. Communication may be inserted
// already: forwards read forwards alone, so what is left over completes in the order in which the whole did.
Schedule ForwardOnly(Schedule schedule);

// What an executor takes: the schedule with communication and reductions inserted, and before every backward the recomputation of its
// forward if asked for.
absl::StatusOr<Schedule> ExecutableSchedule(const ScheduleShape& shape, bool recompute);

}  // namespace jevons

#endif  // JEVONS_PARALLEL_PIPELINE_PASSES_H_
