// Mesh: named axes as views over one world; arithmetic, and the communicators of the axes.
//   world = pp x dp;  dp = edp x ep, ep varying fastest: the ep ranks of a group are neighbours (on one node
//   first).
// Dense parameters are replicated over dp; an expert lives on one rank of ep and is replicated over edp.
#ifndef JEVONS_PARALLEL_MESH_H_
#define JEVONS_PARALLEL_MESH_H_

#include <memory>

#include "kernels/base/status.h"
#include "parallel/comm/communicator.h"

namespace jevons {

struct MeshShape {
  int world = 1, pp = 1, ep = 1;
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

// The communicators of one rank. Collective over `world` when built.
class Mesh {
 public:
  Mesh(Communicator& world, const MeshShape& shape);  // shape must be valid and shape.world == world.size()
  const MeshShape& shape() const { return shape_; }
  const MeshRank& rank() const { return rank_; }
  Communicator& world() { return world_; }
  Communicator& dp() { return *dp_; }
  Communicator& ep() { return *ep_; }
  Communicator& edp() { return *edp_; }

 private:
  Communicator& world_;
  MeshShape shape_;
  MeshRank rank_;
  std::unique_ptr<Communicator> dp_, ep_, edp_;
};

}  // namespace jevons

#endif  // JEVONS_PARALLEL_MESH_H_
