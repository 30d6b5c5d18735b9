#include "trainer/model/partition.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"

namespace jevons {

ScheduleKind KindOf(ScheduleType type) {
  switch (type) {
    case GPIPE: return ScheduleKind::kGPipe;
    case ONE_F_ONE_B: return ScheduleKind::k1F1B;
    case INTERLEAVED: return ScheduleKind::kInterleaved;
    case ZB_H1: return ScheduleKind::kZBH1;
    case DUALPIPE: return ScheduleKind::kDualPipe;
    case DUALPIPEV: return ScheduleKind::kDualPipeV;
  }
  JEVONS_CHECK(false, "schedule %d", static_cast<int>(type));
  return ScheduleKind::k1F1B;
}

absl::StatusOr<Partition> Partition::Of(const RunConfig& config) {
  Partition partition;
  const int pp = static_cast<int>(config.parallel().pp());
  // One rank takes micro-batches one after the other; or in pairs: the two stages of DUALPIPEV are what it has to pair; or cut into the
  // stages of INTERLEAVED, each of which may run again by itself.
  const ScheduleType type = config.parallel().schedule();
  const bool one_by_one = pp == 1 && type != DUALPIPEV && type != INTERLEAVED;
  partition.model_ = config.model();
  partition.shape_ = {.kind = one_by_one ? ScheduleKind::k1F1B : KindOf(config.parallel().schedule()),
                      .pp = pp,
                      .micro_batches = 4 * pp,  // every kind takes so many: who holds what does not depend on it
                      .virtual_stages = one_by_one ? 1 : static_cast<int>(config.parallel().virtual_stages())};
  const absl::StatusOr<Schedule> made = MakeSchedule(partition.shape_);
  if (!made.ok()) return UsageError(absl::StrCat("parallel.", made.status().message()));  // its fields are called the same
  const Schedule& schedule = *made;
  JEVONS_ASSIGN_OR_RETURN(partition.parts_,
                          CutIntoStages(config.model(), schedule.stages, one_by_one ? "" : config.parallel().stages()));
  for (int rank = 0; rank < pp; ++rank) partition.stages_of_.push_back(schedule.StagesOf(rank));
  return partition;
}

HeldLayers Partition::HeldBy(int pp_rank) const {
  return [this, pp_rank](int layer) {
    const std::vector<int>& stages = StagesOf(pp_rank);
    return std::any_of(stages.begin(), stages.end(),
                       [&](int stage) { return Holds(parts_[static_cast<size_t>(stage)], layer, model_); });
  };
}

std::vector<int> Partition::HoldersOf(int layer) const {
  std::vector<int> holders;
  for (int rank = 0; rank < ranks(); ++rank)
    if (HeldBy(rank)(layer)) holders.push_back(rank);
  return holders;
}

std::optional<int> Partition::OnlyStageOf(int layer) const {
  std::optional<int> only;
  for (size_t stage = 0; stage < parts_.size(); ++stage) {
    if (!Holds(parts_[stage], layer, model_)) continue;
    if (only.has_value()) return std::nullopt;
    only = static_cast<int>(stage);
  }
  return only;
}

std::vector<std::vector<int>> Partition::HolderSets() const {
  std::vector<std::vector<int>> sets;
  for (const ParamSpec& spec : ParameterTable(model_))
    if (const std::vector<int> holders = HoldersOf(spec.layer); std::find(sets.begin(), sets.end(), holders) == sets.end())
      sets.push_back(holders);
  return sets;
}

ScheduleShape Partition::Shape(int64_t micro_batches) const {
  ScheduleShape shape = shape_;
  shape.micro_batches = static_cast<int>(micro_batches);
  return shape;
}

}  // namespace jevons
