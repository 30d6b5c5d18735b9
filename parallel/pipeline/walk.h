// Runs the grid of a schedule: every rank takes its actions in order, each as soon as what it reads is there.
// What does not finish is in a deadlock. Shared by validate, passes and simulate.
#ifndef JEVONS_PARALLEL_PIPELINE_WALK_H_
#define JEVONS_PARALLEL_PIPELINE_WALK_H_

#include <optional>
#include <vector>

#include "parallel/pipeline/action.h"

namespace jevons {

struct Position {
  int rank = 0;
  int index = 0;  // in the list of the rank
  bool operator==(const Position&) const = default;
};

// The task whose result `task` reads, on whichever rank it runs; nullopt where it reads none (the forward of
// the first stage). The input part of a backward stands for the whole: B and I both answer to kBackwardInput.
//   F(s) reads F(s-1);  B(s), I(s) read I(s+1), at the last stage F(s);  W(s) reads I(s);  R(s) reads F(s);  G(s) reads none
// B(s) and I(s) also read F(s), W(s) and R(s), G(s) all W(s): those run on the same rank, where the validator compares
// positions.
std::optional<Task> InputOf(const Schedule& schedule, const Task& computing);

// The other end of a send or receive: 2SF0 <-> 3RF0, 3SB0 <-> 2RB0.
Task PeerOf(const Task& communicating);

struct Walk {
  std::vector<Position> order;  // a topological order of the grid; a send before its receive
  std::vector<int> stopped_at;  // [ranks] the index of the action that cannot run; the list's size where none
  bool complete = false;
};
// Requires what Validate checks action by action: stages, micro-batches and ranks in range. A send and its
// receive complete together, each when both ranks have come to it: the strictest way to run them, so what
// completes here completes however a backend buffers. Linear in the number of actions.
Walk WalkGrid(const Schedule& schedule);

}  // namespace jevons

#endif  // JEVONS_PARALLEL_PIPELINE_WALK_H_
