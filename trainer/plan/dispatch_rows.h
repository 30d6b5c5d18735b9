// How many rows a dispatch moves: the counts that messages are made of, and that counters of a run must show.
#ifndef JEVONS_TRAINER_PLAN_DISPATCH_ROWS_H_
#define JEVONS_TRAINER_PLAN_DISPATCH_ROWS_H_

#include "trainer/plan/layout.h"

namespace jevons {

// On how many of `parts` a token has an expert, on average over all choices that the gate may make; the experts lie on the parts in
// contiguous shares. Of N nodes with K of E experts that is N (1 - C(E - E/N, K) / C(E, K)); where the gate keeps some of its groups, the mean
// of such terms over the choices of groups.
double PartsOfToken(double parts, const ModelShape& model, bool limit_groups);

// Rows that a token sends, those that stay where they are left out.
struct DispatchRows {
  double network = 0;  // to other nodes
  double links = 0;    // inside a node, forwarded ones included
};
// Flat: one row for each expert that lies elsewhere. Else one for each node, and in it one for each GPU with an expert.
DispatchRows RowsOfToken(const ModelShape& model, const Layout& layout, int64_t gpus_per_node);
// What comes back: as many; in two hops over the network a sum for each group, and inside a node a sum for each group that one GPU has whole,
// else every expert's row.
DispatchRows SumsOfToken(const ModelShape& model, const Layout& layout, int64_t gpus_per_node);

}  // namespace jevons

#endif  // JEVONS_TRAINER_PLAN_DISPATCH_ROWS_H_
