// A search's layouts, ranked by formulas, verified by counting (planned_memory.h), which takes some hundredths of a second for each rank.
#ifndef JEVONS_TRAINER_PLAN_COUNTED_SEARCH_H_
#define JEVONS_TRAINER_PLAN_COUNTED_SEARCH_H_

#include "configs/run.pb.h"
#include "parallel/mesh.h"
#include "trainer/plan/search.h"

namespace jevons {

// The mesh of a layout, its ep groups over the cluster's nodes, as `train` would make it there. UsageError where that refuses.
absl::StatusOr<MeshShape> MeshOn(const RunConfig& config, const ClusterConfig& cluster, const Layout& layout);

// Counts the layouts that `jevons train` takes in their order until `wanted` fit; those that do not stand behind the others that it takes.
void CountBest(const RunConfig& config, const ClusterConfig& cluster, int wanted, SearchResult& result);

// The nearest (ByNearness) that fits: counted where `jevons train` takes it, else by formulas; nullptr where none does.
const Candidate* NearestThatFits(const RunConfig& config, const ClusterConfig& cluster, SearchResult& result, const Layout& base);

}  // namespace jevons

#endif  // JEVONS_TRAINER_PLAN_COUNTED_SEARCH_H_
