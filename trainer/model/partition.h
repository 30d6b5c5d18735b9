// Which rank of a pipeline computes and holds what, from the config alone.
#ifndef JEVONS_TRAINER_MODEL_PARTITION_H_
#define JEVONS_TRAINER_MODEL_PARTITION_H_

#include <optional>
#include <vector>

#include "parallel/pipeline/schedules.h"
#include "trainer/model/weights.h"
#include "trainer/spec/stage_cut.h"

namespace jevons {

class Partition {
 public:
  // UsageError where the pipeline's shape is not legal, or the cut does not fit the model.
  static absl::StatusOr<Partition> Of(const RunConfig& config);

  int ranks() const { return static_cast<int>(stages_of_.size()); }
  const std::vector<StagePart>& parts() const { return parts_; }  // by virtual stage
  const std::vector<int>& StagesOf(int pp_rank) const { return stages_of_[static_cast<size_t>(pp_rank)]; }
  // The pp ranks that hold the parameters at a place in the order of execution (ParamSpec::layer), ascending: more than one have
  // copies of the stage, or read the embedding.
  std::vector<int> HoldersOf(int layer) const;
  // The one stage that computes with them; nothing where several do, as with the embedding that MTP modules read.
  std::optional<int> OnlyStageOf(int layer) const;
  // For a WeightStore of this rank. The partition outlives it.
  HeldLayers HeldBy(int pp_rank) const;
  // All sets of holders, each once, in an order that is the same on all ranks.
  std::vector<std::vector<int>> HolderSets() const;

  // The schedule of a step of so many micro-batches per pipeline: at pp = 1 one after the other, in the pairs of DUALPIPEV, or through the
  // stages of INTERLEAVED.
  ScheduleShape Shape(int64_t micro_batches) const;

 private:
  ModelConfig model_;
  ScheduleShape shape_;
  std::vector<StagePart> parts_;
  std::vector<std::vector<int>> stages_of_;
};

ScheduleKind KindOf(ScheduleType type);

}  // namespace jevons

#endif  // JEVONS_TRAINER_MODEL_PARTITION_H_
