#include "trainer/step/layout.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/stages.h"
#include "kernels/ops/gemm.h"
#include "trainer/model/model.h"
#include "trainer/model/partition.h"
#include "trainer/spec/params.h"
#include "trainer/spec/stage_cut.h"

namespace jevons {
namespace {

// DualPipe's ranks come in twos. Of the even numbers of stages that this many ranks can have, the nearest.
absl::Status CheckHalves(const ParallelConfig& parallel, int world) {
  if (parallel.schedule() != DUALPIPE || parallel.pp() % 2 == 0 || parallel.pp() == 1) return absl::OkStatus();
  int64_t nearest = 0;
  for (int64_t pp = 2; pp <= world; pp += 2)
    if (world % pp == 0 && world / pp % parallel.ep() == 0 &&
        (nearest == 0 || std::abs(pp - parallel.pp()) < std::abs(nearest - parallel.pp())))
      nearest = pp;
  return UsageError(absl::StrFormat(
      "parallel.pp = %d: schedule DUALPIPE pairs each rank with one of the other half: even; nearest legal: %s", parallel.pp(),
      nearest > 0 ? absl::StrCat(nearest) : absl::StrFormat("none for %d ranks, but parallel.schedule = DUALPIPEV", world)));
}

absl::Status CheckBatch(const RunConfig& config, int world) {
  const MeshShape mesh = MeshShapeOf(config, world);
  const Partition partition = Partition::Of(config).value();
  const auto takes = [&](int64_t count) { return partition.Shape(Rounds(mesh, count)).Validate(); };
  const int64_t count = MicroBatchCounts(config).back();
  const absl::Status legal = takes(count);
  if (legal.ok()) return legal;
  int64_t more = count, fewer = count;
  while (!takes(more).ok()) ++more;
  while (fewer > 0 && !takes(fewer).ok()) --fewer;
  const int64_t nearest = fewer > 0 && count - fewer < more - count ? fewer : more;
  return UsageError(
      absl::StrFormat("train.batch_sequences = %d: brings %d micro-batches to each of %d pipelines, and %s; nearest legal: %d",
                      config.train().batch_sequences(), Rounds(mesh, count), mesh.dp(), legal.message(),
                      nearest * config.train().micro_batch_sequences()));
}

}  // namespace

DType ComputeDType(const RunConfig& config) { return config.precision().compute() == BF16 ? DType::kBF16 : DType::kF32; }

Device DeviceOf(const RunConfig& config) { return config.parallel().backend() == CUDA ? Device::kCuda : Device::kCpu; }

std::string ProductsText(const RunConfig& config) {
  const DType compute = ComputeDType(config);
  const Device device = DeviceOf(config);
  const std::vector<ParamSpec> specs = ParameterTable(config.model());
  const bool fp8 =
      std::any_of(specs.begin(), specs.end(), [&](const ParamSpec& spec) { return PlanOf(spec, config.precision()).fp8; });
  if (device == Device::kCuda)
    return absl::StrFormat("%s%s: %s", fp8 ? "FP8 over " : "", NameOf(compute), GemmImplementation(compute, device));
  if (!fp8) return absl::StrFormat("%s: %s", NameOf(compute), GemmImplementation(compute));
  return absl::StrFormat("FP8 over %s: %s, codes as %s", NameOf(compute), GemmImplementation(compute),
                         GemmImplementation(DType::kBF16));
}

MeshShape MeshShapeOf(const RunConfig& config, int world) {
  return {.world = world, .pp = static_cast<int>(config.parallel().pp()), .ep = static_cast<int>(config.parallel().ep())};
}

absl::StatusOr<MeshShape> OverNodes(const RunConfig& config, MeshShape shape, int nodes_found) {
  const ParallelConfig& parallel = config.parallel();
  const int nodes = parallel.ep_nodes() > 0 ? static_cast<int>(parallel.ep_nodes()) : nodes_found;
  const bool asked = parallel.dispatch() == FORWARDING;
  if (nodes == 0) {
    if (asked)
      return UsageError(
          absl::StrFormat("parallel.dispatch = FORWARDING: the parallel.ep = %d ranks of a group do not lie evenly on machines, "
                          "neighbours first; start as many ranks on each, or say FLAT",
                          shape.ep));
    return shape;
  }
  shape.ep_nodes = nodes;
  JEVONS_RETURN_IF_ERROR(shape.Validate());
  const int64_t groups = std::max<int64_t>(1, config.model().moe().groups());
  const bool whole = groups % nodes == 0;
  if (asked && !whole)
    return UsageError(
        absl::StrFormat("parallel.dispatch = FORWARDING: the %d nodes of an ep group have to divide model.moe.groups = %d, so "
                        "that each has whole groups of experts, whose results it adds; say FLAT",
                        nodes, groups));
  shape.forwards = asked || (parallel.dispatch() == AUTO && nodes > 1 && whole);
  return shape;
}

absl::StatusOr<MeshShape> MeshShapeOn(const RunConfig& config, const Communicator& world) {
  const MeshShape shape = MeshShapeOf(config, world.size());
  return OverNodes(config, shape, NodesOf(world, shape));
}

absl::Status CheckCut(const RunConfig& config, int world) {
  JEVONS_RETURN_IF_ERROR(CheckHalves(config.parallel(), world));
  JEVONS_ASSIGN_OR_RETURN(const Partition partition, Partition::Of(config));
  if (partition.parts().size() > 1) return absl::OkStatus();
  // One part reads no cut: one that is meant for more stages is refused all the same.
  return CutIntoStages(config.model(), 1, config.parallel().stages()).status();
}

absl::Status CheckPipeline(const RunConfig& config, int world) {
  JEVONS_RETURN_IF_ERROR(CheckCut(config, world));
  for (const RunConfig& stage : StageConfigs(config)) JEVONS_RETURN_IF_ERROR(CheckBatch(stage, world));
  return absl::OkStatus();
}

std::vector<int64_t> MicroBatchCounts(const RunConfig& config) {
  const TrainConfig& train = config.train();
  const int64_t micro = train.micro_batch_sequences();
  std::vector<int64_t> counts;
  if (train.batch_ramp_start() > 0)
    for (int64_t sequences = train.batch_ramp_start(); sequences < train.batch_sequences(); sequences += micro)
      counts.push_back(std::max<int64_t>(1, sequences / micro));
  counts.push_back(train.batch_sequences() / micro);
  counts.erase(std::unique(counts.begin(), counts.end()), counts.end());
  return counts;
}

}  // namespace jevons
