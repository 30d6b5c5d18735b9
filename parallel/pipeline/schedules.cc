#include "parallel/pipeline/schedules.h"

#include <algorithm>
#include <deque>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace jevons {
namespace {

constexpr int kMaxStages = 4096;
constexpr int kMaxForwards = 1 << 22;  // stages x micro-batches: some 300 MB of lists

constexpr std::array<const char*, kAllScheduleKinds.size()> kNames = {"gpipe", "1f1b",     "interleaved",
                                                                      "zb-h1", "dualpipe", "dualpipev"};

// The list of one rank. A phase is a stage of this rank and the micro-batches that pass it; every phase takes
// them in order, forward and backward, so that a schedule only says what kind of action of which phase comes
// next.
class RankList {
 public:
  void AddPhase(int stage, int first_micro_batch = 0) { phases_.push_back({stage, first_micro_batch, first_micro_batch}); }
  void Forward(int phase = 0) { actions_.emplace_back(NextForward(phase)); }
  void Backward(int phase = 0) { actions_.emplace_back(NextBackward(phase, TaskKind::kBackward)); }
  void Overlap(int forward_phase, int backward_phase) {
    const Task forward = NextForward(forward_phase);
    actions_.push_back(Action::Overlap(forward, NextBackward(backward_phase, TaskKind::kBackward)));
  }
  // The input part; its weight part queues up, first in, first out.
  void BackwardInput(int phase = 0) {
    const Task task = NextBackward(phase, TaskKind::kBackwardInput);
    actions_.emplace_back(task);
    deferred_.push_back({TaskKind::kBackwardWeight, task.stage, task.micro_batch});
  }
  void BackwardWeight() {
    actions_.emplace_back(deferred_.front());
    deferred_.pop_front();
  }
  bool has_deferred() const { return !deferred_.empty(); }
  std::vector<Action> Take() { return std::move(actions_); }

 private:
  struct Phase {
    int stage;
    int next_forward, next_backward;  // micro-batches
  };

  Task NextForward(int phase) { return {TaskKind::kForward, phases_[phase].stage, phases_[phase].next_forward++}; }
  Task NextBackward(int phase, TaskKind kind) { return {kind, phases_[phase].stage, phases_[phase].next_backward++}; }

  std::vector<Phase> phases_;
  std::deque<Task> deferred_;
  std::vector<Action> actions_;
};

void GPipe(int micro_batches, RankList& list) {
  for (int i = 0; i < micro_batches; ++i) list.Forward();
  for (int i = 0; i < micro_batches; ++i) list.Backward();
}

void OneForwardOneBackward(int pp, int rank, int micro_batches, RankList& list) {
  const int warm_up = std::min(pp - rank - 1, micro_batches);
  for (int i = 0; i < warm_up; ++i) list.Forward();
  for (int i = warm_up; i < micro_batches; ++i) {
    list.Forward();
    list.Backward();
  }
  for (int i = 0; i < warm_up; ++i) list.Backward();
}

// 1F1B whose rank r puts the weight part off by r micro-batches: each rank then holds PP of them, as rank 0
// does anyway, and the gradient of the input reaches the rank before it sooner. What is put off fills the
// end.
void ZeroBubbleH1(int pp, int rank, int micro_batches, RankList& list) {
  const int warm_up = std::min(pp - rank - 1, micro_batches);
  for (int i = 0; i < warm_up; ++i) list.Forward();
  for (int i = warm_up; i < micro_batches; ++i) {
    list.Forward();
    list.BackwardInput();
    if (i - warm_up >= rank) list.BackwardWeight();
  }
  for (int i = 0; i < warm_up; ++i) {
    list.BackwardInput();
    list.BackwardWeight();
  }
  while (list.has_deferred()) list.BackwardWeight();
}

// Micro-batches go in groups of PP through the stages of a rank: a group through one stage, then through the
// next.
void Interleaved(int pp, int rank, int micro_batches, int virtual_stages, RankList& list) {
  const int total = micro_batches * virtual_stages;
  const int warm_up = std::min(2 * (pp - rank - 1) + (virtual_stages - 1) * pp, total);
  const auto forward = [&](int i) { list.Forward(i / pp % virtual_stages); };
  const auto backward = [&](int i) { list.Backward(virtual_stages - 1 - i / pp % virtual_stages); };
  for (int i = 0; i < warm_up; ++i) forward(i);
  for (int i = warm_up; i < total; ++i) {
    forward(i);
    backward(i - warm_up);
  }
  for (int i = total - warm_up; i < total; ++i) backward(i);
}

// The eight steps. `half`: ranks from the outermost, where micro-batches enter, to the middle, where the two
// directions meet (DualPipe) or the pipeline turns (DualPipeV); `depth`: 0 on the outermost. Phase 0 has its
// early stages on the outer side. `micro_batches`: of each phase.
void BothDirections(int half, int depth, int micro_batches, RankList& list) {
  const int outside = half - depth - 1;  // ranks between this one and the middle
  for (int i = 0; i < 2 * outside; ++i) list.Forward(0);
  for (int i = 0; i < depth + 1; ++i) {
    list.Forward(0);
    list.Forward(1);
  }
  for (int i = 0; i < outside; ++i) {
    list.BackwardInput(1);
    list.BackwardWeight();
    list.Forward(1);
  }
  for (int i = 0; i < micro_batches - 2 * half + depth + 1; ++i) {
    if (i == 0 && outside == 0) {  // in the middle the backward would wait for its partner: less bubble without
      list.Forward(0);
      list.Backward(1);
    } else {
      list.Overlap(0, 1);
    }
    list.Overlap(1, 0);
  }
  for (int i = 0; i < outside; ++i) {
    list.Backward(1);
    list.Overlap(1, 0);
  }
  for (int i = 0; i < 2 * (depth + 1); ++i) {  // alternating B1 B0; the second half puts off the weight part
    const int phase = i % 2 == 0 ? 1 : 0;
    i < depth + 1 ? list.Backward(phase) : list.BackwardInput(phase);
  }
  for (int i = 0; i < outside; ++i) {
    list.BackwardWeight();
    list.BackwardInput(0);
  }
  while (list.has_deferred()) list.BackwardWeight();
}

// Stage PP-1-r lies on rank r as well as r: one copy for each direction. The first half of the micro-batches
// enters at rank 0, the second at rank PP-1.
void DualPipe(int pp, int rank, int micro_batches, RankList& list) {
  const int per_direction = micro_batches / 2;
  const bool upper = rank >= pp / 2;
  const int own = upper ? pp - 1 - rank : rank;
  list.AddPhase(own, upper ? per_direction : 0);
  list.AddPhase(pp - 1 - own, upper ? 0 : per_direction);
  BothDirections(pp / 2, own, per_direction, list);
}

void DualPipeV(int pp, int rank, int micro_batches, RankList& list) {
  list.AddPhase(rank);
  list.AddPhase(2 * pp - 1 - rank);
  BothDirections(pp, rank, micro_batches, list);
}

std::vector<Action> ListOf(const ScheduleShape& shape, int rank) {
  const auto [kind, pp, micro_batches, virtual_stages] = shape;
  RankList list;
  if (kind == ScheduleKind::kDualPipe) {
    DualPipe(pp, rank, micro_batches, list);
    return list.Take();
  }
  if (kind == ScheduleKind::kDualPipeV) {
    DualPipeV(pp, rank, micro_batches, list);
    return list.Take();
  }
  for (int stage = rank; stage < shape.stages(); stage += pp) list.AddPhase(stage);
  if (kind == ScheduleKind::kGPipe) GPipe(micro_batches, list);
  if (kind == ScheduleKind::k1F1B) OneForwardOneBackward(pp, rank, micro_batches, list);
  if (kind == ScheduleKind::kZBH1) ZeroBubbleH1(pp, rank, micro_batches, list);
  if (kind == ScheduleKind::kInterleaved) Interleaved(pp, rank, micro_batches, virtual_stages, list);
  return list.Take();
}

std::vector<std::vector<int>> RoutesOf(const ScheduleShape& shape) {
  std::vector<int> route(shape.stages());
  for (int stage = 0; stage < shape.stages(); ++stage) route[stage] = stage % shape.pp;
  if (shape.kind == ScheduleKind::kDualPipe) return {route, std::vector<int>(route.rbegin(), route.rend())};
  if (shape.kind == ScheduleKind::kDualPipeV) std::reverse(route.begin() + shape.pp, route.end());
  return {route};
}

absl::Status Refuse(const ScheduleShape& shape, const char* field, int value, const std::string& legal) {
  return UsageError(absl::StrFormat("%s = %d: schedule %s %s", field, value, Name(shape.kind), legal));
}

// The multiples of `step` next to `value`, none under `least`: "16" or "16 or 24".
std::string NearestMultiples(int64_t value, int64_t step, int64_t least) {
  const int64_t below = value / step * step;
  if (below < least) return absl::StrFormat("%d", least);
  return absl::StrFormat("%d or %d", below, below + step);
}

absl::Status CheckMicroBatches(const ScheduleShape& shape) {
  const int m = shape.micro_batches;
  const auto refuse = [&](const std::string& legal, int64_t step, int64_t least) {
    return Refuse(shape, "micro_batches", m, legal + "; nearest: " + NearestMultiples(m, step, least));
  };
  if (shape.kind == ScheduleKind::kInterleaved && m % shape.pp != 0) {
    return refuse(absl::StrFormat("takes them in groups of pp = %d", shape.pp), shape.pp, shape.pp);
  }
  const int64_t least = 2 * int64_t{shape.pp};
  if (shape.kind == ScheduleKind::kDualPipe && (m % 2 != 0 || m < least)) {
    return refuse(absl::StrFormat("sends half of them in from each end: even, at least 2 pp = %d", least), 2, least);
  }
  if (shape.kind == ScheduleKind::kDualPipeV && m < least) {
    return refuse(absl::StrFormat("needs at least 2 pp = %d", least), 1, least);
  }
  return absl::OkStatus();
}

}  // namespace

absl::string_view Name(ScheduleKind kind) { return kNames[static_cast<size_t>(kind)]; }

absl::StatusOr<ScheduleKind> ParseScheduleKind(absl::string_view name) {
  for (const ScheduleKind kind : kAllScheduleKinds) {
    if (name == Name(kind)) return kind;
  }
  return UsageError(absl::StrFormat("'%s' is no pipeline schedule; known: %s", name, absl::StrJoin(kNames, ", ")));
}

int ScheduleShape::stages() const {
  if (kind == ScheduleKind::kDualPipeV) return 2 * pp;
  return kind == ScheduleKind::kInterleaved ? pp * virtual_stages : pp;
}

absl::Status ScheduleShape::Validate() const {
  if (pp < 1) return Refuse(*this, "pp", pp, "needs at least one rank; nearest: 1");
  if (micro_batches < 1) return Refuse(*this, "micro_batches", micro_batches, "needs at least one; nearest: 1");
  const bool interleaved = kind == ScheduleKind::kInterleaved;
  if (interleaved && virtual_stages < 2) {
    return Refuse(*this, "virtual_stages", virtual_stages, "cuts each rank into at least 2 stages; nearest: 2");
  }
  if (!interleaved && virtual_stages != 1) {
    return Refuse(*this, "virtual_stages", virtual_stages,
                  "fixes the stages of a rank itself: leave it at 1, or take schedule interleaved; nearest: 1");
  }
  if (kind == ScheduleKind::kDualPipe && pp % 2 != 0) {
    return Refuse(*this, "pp", pp, "pairs each rank with one of the other half: even; nearest: " + NearestMultiples(pp, 2, 2));
  }
  const int stages_per_rank = kind == ScheduleKind::kDualPipeV ? 2 : virtual_stages;
  if (pp > kMaxStages / stages_per_rank) {
    const bool too_deep = pp <= kMaxStages;
    return Refuse(
        *this, too_deep ? "virtual_stages" : "pp", too_deep ? virtual_stages : pp,
        absl::StrFormat("may have %d stages in all; nearest: %d", kMaxStages, kMaxStages / (too_deep ? pp : stages_per_rank)));
  }
  if (micro_batches > kMaxForwards / stages()) {
    const int step = kind == ScheduleKind::kInterleaved ? pp : 2;
    return Refuse(*this, "micro_batches", micro_batches,
                  absl::StrFormat("may have %d forwards (stages x micro-batches); nearest: %d", kMaxForwards,
                                  kMaxForwards / stages() / step * step));
  }
  return CheckMicroBatches(*this);
}

absl::StatusOr<Schedule> MakeSchedule(const ScheduleShape& shape) {
  JEVONS_RETURN_IF_ERROR(shape.Validate());
  Schedule schedule{.name = std::string(Name(shape.kind)),
                    .stages = shape.stages(),
                    .micro_batches = shape.micro_batches,
                    .routes = RoutesOf(shape),
                    .actions = {}};
  for (int rank = 0; rank < shape.pp; ++rank) schedule.actions.push_back(ListOf(shape, rank));
  return schedule;
}

}  // namespace jevons
