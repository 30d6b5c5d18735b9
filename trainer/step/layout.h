// What a run's config makes of its ranks: the mesh, the micro-batches of a pipeline, types and devices.
#ifndef JEVONS_TRAINER_STEP_LAYOUT_H_
#define JEVONS_TRAINER_STEP_LAYOUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "configs/run.pb.h"
#include "kernels/base/status.h"
#include "kernels/tensor/device.h"
#include "kernels/tensor/dtype.h"
#include "parallel/mesh.h"

namespace jevons {

// A step's micro-batches are given to the dp ranks in contiguous blocks. This many rounds it takes until the longest is done.
inline int64_t Rounds(const MeshShape& mesh, int64_t count) { return (count + mesh.dp() - 1) / mesh.dp(); }

MeshShape MeshShapeOf(const RunConfig& config, int world);  // all on one node
// A shape over the nodes that parallel.ep_nodes says, or else those found for each ep group, 0 if unevenly; and whether it forwards, as
// parallel.dispatch says. UsageError naming the field, its value and the way out, where that cannot be. Whole groups of experts lie on
// one node: what forwarders add are their sums (trainer/DESIGN.md, contract 8).
absl::StatusOr<MeshShape> OverNodes(const RunConfig& config, MeshShape shape, int nodes_found);
// The mesh of a run.
absl::StatusOr<MeshShape> MeshShapeOn(const RunConfig& config, const Communicator& world);

// UsageError naming the field, its value and the nearest legal ones, unless the model can be cut into the pipeline's stages. config: valid
// for `world` ranks.
absl::Status CheckCut(const RunConfig& config, int world);
// Likewise, and unless the schedule takes the micro-batches of the whole batch, in every stage of the run; smaller ones, while it grows, are
// made up with empty ones.
absl::Status CheckPipeline(const RunConfig& config, int world);

// Every number of micro-batches that a step of this stage may have.
std::vector<int64_t> MicroBatchCounts(const RunConfig& config);
DType ComputeDType(const RunConfig& config);
Device DeviceOf(const RunConfig& config);
// What computes the matrix products of a run, for the log: "BF16: cpu AVX3 vdpbf16ps", "FP8 over FP32: ...".
std::string ProductsText(const RunConfig& config);

}  // namespace jevons

#endif  // JEVONS_TRAINER_STEP_LAYOUT_H_
