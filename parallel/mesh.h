// Mesh: named axes as views over one world; arithmetic, and the communicators of the axes.
//   world = pp x dp;  dp = edp x ep, ep varying fastest: the ep ranks of a group are neighbours (on one node
//   first). ep = nodes x ranks of a node, where it spans several.
// Dense parameters are replicated over dp; an expert lives on one rank of ep and is replicated over edp.
#ifndef JEVONS_PARALLEL_MESH_H_
#define JEVONS_PARALLEL_MESH_H_

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "parallel/comm/communicator.h"

namespace jevons {

struct MeshShape {
  int world = 1, pp = 1, ep = 1;
  int ep_nodes = 1;       // over which the ranks of each ep group lie evenly, neighbours first; divides ep
  bool forwards = false;  // tokens cross the network once for each node, and are forwarded there (ep/forward_plan.h)
  int dp() const { return world / pp; }
  int edp() const { return dp() / ep; }
  // UsageError naming field, value, rule and the nearest legal values, unless pp divides world and ep divides
  // dp.
  absl::Status Validate() const;
};

struct MeshRank {
  int pp, dp, ep, edp;
};
MeshRank RankOf(const MeshShape& shape, int world_rank);

// Over how many machines of `world` the ranks of each ep group lie, evenly and neighbours first; 0: unevenly.
int NodesOf(const Communicator& world, const MeshShape& shape);

// The communicators of one rank. Collective over `world` when built.
class Mesh {
 public:
  Mesh(Communicator& world, const MeshShape& shape);  // shape must be valid and shape.world == world.size()
  // Of any rank of a world that is not there: all its communicators pretend (comm/pretend.h).
  Mesh(const MeshShape& shape, int world_rank);
  const MeshShape& shape() const { return shape_; }
  const MeshRank& rank() const { return rank_; }
  Communicator& world() { return world_; }
  Communicator& pp() { return *pp_; }  // the ranks of equal dp, by pp
  Communicator& dp() { return *dp_; }
  Communicator& ep() { return *ep_; }
  Communicator& edp() { return *edp_; }
  // Where the shape forwards, of an ep group: the ranks of the same place in each node, by node; the ranks of one node.
  Communicator& ep_rail() { return *ep_rail_; }
  Communicator& ep_local() { return *ep_local_; }

  // Several pp ranks may hold copies of something: a stage of DualPipe, the embedding of a prediction module. Each set
  // of `holder_sets` (pp ranks, ascending) gets its groups. Collective over the world, with one list on all ranks; who
  // is in no set takes part too. Sets of one and sets that have their groups already cost nothing.
  void MakeHolderGroups(const std::vector<std::vector<int>>& holder_sets);
  // The groups that replicate what `holders` hold, for a caller among them: all dp ranks of the holders, by (pp, dp),
  // and those of the caller's ep rank, by (pp, edp). Of the own pp rank alone, dp() and edp().
  Communicator& dp_of(std::span<const int> holders);
  Communicator& edp_of(std::span<const int> holders);

 private:
  struct HolderGroups {
    std::unique_ptr<Communicator> dp, edp;
  };
  bool IsOwn(std::span<const int> holders) const { return holders.size() == 1 && holders[0] == rank_.pp; }
  HolderGroups& GroupsOf(std::span<const int> holders);
  Mesh(std::unique_ptr<Communicator> pretended, Communicator* world, const MeshShape& shape);  // one of the two
  // This rank's group of those that pass the same color, in which arithmetic says that it is `rank` of `size`. Collective.
  std::unique_ptr<Communicator> Group(int color, const std::string& name, int rank, int size);

  const std::unique_ptr<Communicator> pretended_;  // the world, where it is not there
  Communicator& world_;
  MeshShape shape_;
  MeshRank rank_;
  std::unique_ptr<Communicator> pp_, dp_, ep_, edp_, ep_rail_, ep_local_;
  std::map<std::vector<int>, HolderGroups> holder_groups_;  // null where this rank holds nothing
};

}  // namespace jevons

#endif  // JEVONS_PARALLEL_MESH_H_
