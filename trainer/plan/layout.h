// How a model is laid on a cluster.
#ifndef JEVONS_TRAINER_PLAN_LAYOUT_H_
#define JEVONS_TRAINER_PLAN_LAYOUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "configs/cluster.pb.h"
#include "configs/run.pb.h"
#include "parallel/pipeline/schedules.h"
#include "trainer/spec/model_shape.h"
#include "trainer/spec/stage_cut.h"

namespace jevons {

enum class Precision { kFp32, kBf16, kFp8Block, kFp8Tensor };  // of products
inline bool IsFp8(Precision precision) { return precision == Precision::kFp8Block || precision == Precision::kFp8Tensor; }
// What backward computes again instead of keeping: nothing; outputs of norms and SwiGLU (the least that our runs do); these and
// up-projections of latents (DeepSeek-V3 report, 3.2.3); whole blocks from their inputs, which `train` does a stage at a time.
enum class Recompute { kNone, kElementwise, kSelective, kFull };
// A row travels once per node and is forwarded there as one stream, and a sum per node comes back; the same, as `train` does it: hop
// after hop, and a sum for each group of experts comes back, of which every node has whole ones; once per expert.
enum class Dispatch { kForwarding, kTwoHops, kFlat };

const char* Name(Precision precision);
const char* Name(Recompute recompute);
const char* Name(Dispatch dispatch);

struct Layout {
  int64_t gpus = 1;
  int64_t pp = 1, ep = 1;
  int64_t tp = 1, cp = 1;  // for predictions of other trainers: ours has neither
  ScheduleKind schedule = ScheduleKind::k1F1B;
  int64_t virtual_stages = 1;
  std::vector<StagePart> cut = {};  // the layers of each stage; empty: so that the slowest stage is as fast as can be
  int64_t sequence = 0, batch = 0, micro_batch = 1;  // tokens; sequences per step, and per micro-batch
  Precision precision = Precision::kBf16;
  double value_bytes = 2;  // of weights and activations that are not FP8: BF16, or 4 of FP32
  Recompute recompute = Recompute::kSelective;
  Dispatch dispatch = Dispatch::kForwarding;
  bool overlap = true;          // in pairs of the schedule: experts' communication beside the other micro-batch's computation
  bool overlap_all = false;     // every forward beside a backward, as other trainers pair them in any schedule
  int weight_codes = 1;         // copies of a weight in FP8: as it is, and turned where the backend's products take it so
  bool values_of_codes = true;  // weights in FP8 are kept in the compute type too
  bool bf16_moments = false;
  double gradient_bytes = 4;  // of a sum over micro-batches and replicas: FP32, 8 of exact sums, 2 of BF16 as of some trainers
  bool rings = true;          // collectives are NCCL's; else each rank sends to each other, as over MPI
  bool limit_nodes = true;    // false: the gate's limit on groups is ignored
  // With cp > 1: attention of the context rank that has most of it, relative to the mean: 1 where each has an early and a late
  // part of the sequence, 2 - 1/cp where they lie in order.
  double context_imbalance = 1;

  int64_t dp() const { return gpus / (pp * tp * cp); }  // replicas of a dense parameter
  int64_t edp() const { return dp() * tp * cp / ep; }   // of an expert
  int64_t micro_batches() const { return batch / (dp() * micro_batch); }
  int64_t micro_batch_tokens() const { return micro_batch * sequence / cp; }  // per tensor-parallel group
  double tokens_per_step() const { return static_cast<double>(batch) * static_cast<double>(sequence); }
  // Of products that are never in FP8: gate and head.
  Precision plain() const { return value_bytes > 2 ? Precision::kFp32 : Precision::kBf16; }
  ScheduleShape schedule_shape() const;
  // "PP16 EP64 DP128 dualpipe, micro-batch 1, FP8, selective recomputation"
  std::string ToString() const;
};

// From the config's parallel, train and precision parts, but for its cut; `gpus` of the cluster.
Layout LayoutOf(const RunConfig& config, int64_t gpus);

// The same, cut as `train` cuts it. UsageError naming parallel.stages.
absl::StatusOr<Layout> CutLayoutOf(const RunConfig& config, int64_t gpus);

// OK, or which constraint fails: field, value, what is legal.
absl::Status CheckLayout(const Layout& layout, const ModelShape& model, const ClusterConfig& cluster);
// The same with the fewest and smallest changes of pp, ep and batch that make a legal layout; they pass the same check.
absl::Status ValidateLayout(const Layout& layout, const ModelShape& model, const ClusterConfig& cluster);

}  // namespace jevons

#endif  // JEVONS_TRAINER_PLAN_LAYOUT_H_
