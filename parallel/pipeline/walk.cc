#include "parallel/pipeline/walk.h"

namespace jevons {
namespace {

class Walker {
 public:
  explicit Walker(const Schedule& schedule)
      : schedule_(schedule),
        next_(schedule.ranks()),
        forward_done_(Size()),
        backward_done_(Size()),
        communicates_(schedule.communicates()) {}

  Walk Run() {
    walk_.order.reserve(schedule_.action_count());
    for (int rank = schedule_.ranks() - 1; rank >= 0; --rank) awake_.push_back(rank);
    while (!awake_.empty()) {
      const int rank = awake_.back();
      awake_.pop_back();
      while (Step(rank)) {
      }
    }
    walk_.complete = static_cast<int64_t>(walk_.order.size()) == schedule_.action_count();
    walk_.stopped_at = std::move(next_);
    return std::move(walk_);
  }

 private:
  size_t Size() const { return static_cast<size_t>(schedule_.stages) * schedule_.micro_batches; }
  size_t Slot(const Task& task) const { return static_cast<size_t>(task.stage) * schedule_.micro_batches + task.micro_batch; }
  const Action* Next(int rank) const {
    const auto& list = schedule_.actions[rank];
    return next_[rank] < static_cast<int>(list.size()) ? &list[next_[rank]] : nullptr;
  }

  bool Done(const Task& task) const { return (task.kind == TaskKind::kForward ? forward_done_ : backward_done_)[Slot(task)]; }
  bool Ready(const Action& action) const {
    for (const Task& task : action.tasks()) {
      const auto input = InputOf(schedule_, task);
      if (input && !Done(*input)) return false;
    }
    return true;
  }

  bool Step(int rank) {
    const Action* action = Next(rank);
    if (action == nullptr) return false;
    if (action->communicates()) return Exchange(rank, action->first());
    if (!Ready(*action)) return false;
    Complete(rank);
    for (const Task& task : action->tasks()) Publish(task);
    return true;
  }

  // Both ends at once, the send first in the order, or neither yet.
  bool Exchange(int rank, const Task& task) {
    const Task peer = PeerOf(task);
    const int peer_rank = schedule_.RankOf(peer.stage, peer.micro_batch);
    const Action* other = Next(peer_rank);
    if (other == nullptr || other->first() != peer || peer_rank == rank) return false;
    const bool sends = task.kind == TaskKind::kSendForward || task.kind == TaskKind::kSendBackward;
    Complete(sends ? rank : peer_rank);
    Complete(sends ? peer_rank : rank);
    awake_.push_back(peer_rank);
    return true;
  }

  void Complete(int rank) { walk_.order.push_back({rank, next_[rank]++}); }

  // Marks a result as there and wakes the rank that may wait for it. With explicit communication the exchange
  // does that: a rank comes to a task only after its receive.
  void Publish(const Task& task) {
    const bool forward = task.kind == TaskKind::kForward;
    if (!forward && !MakesInputGradient(task.kind)) return;
    (forward ? forward_done_ : backward_done_)[Slot(task)] = true;
    const int reader = task.stage + (forward ? 1 : -1);
    if (communicates_ || reader < 0 || reader >= schedule_.stages) return;
    awake_.push_back(schedule_.RankOf(reader, task.micro_batch));
  }

  const Schedule& schedule_;
  Walk walk_;
  std::vector<int> next_;                           // [ranks]
  std::vector<int> awake_;                          // ranks to try, last first
  std::vector<bool> forward_done_, backward_done_;  // [stages][micro-batches]
  bool communicates_;
};

}  // namespace

std::optional<Task> InputOf(const Schedule& schedule, const Task& computing) {
  const auto [kind, stage, micro_batch] = computing;
  if (kind == TaskKind::kReduce) return std::nullopt;
  if (kind == TaskKind::kForward) {
    if (stage == 0) return std::nullopt;
    return Task{TaskKind::kForward, stage - 1, micro_batch};
  }
  if (MakesInputGradient(kind) && stage + 1 < schedule.stages) {
    return Task{TaskKind::kBackwardInput, stage + 1, micro_batch};
  }
  if (kind == TaskKind::kBackwardWeight) return Task{TaskKind::kBackwardInput, stage, micro_batch};
  return Task{TaskKind::kForward, stage, micro_batch};
}

Task PeerOf(const Task& communicating) {
  const auto [kind, stage, micro_batch] = communicating;
  switch (kind) {
    case TaskKind::kSendForward: return {TaskKind::kRecvForward, stage + 1, micro_batch};
    case TaskKind::kRecvForward: return {TaskKind::kSendForward, stage - 1, micro_batch};
    case TaskKind::kSendBackward: return {TaskKind::kRecvBackward, stage - 1, micro_batch};
    default: return {TaskKind::kSendBackward, stage + 1, micro_batch};
  }
}

Walk WalkGrid(const Schedule& schedule) { return Walker(schedule).Run(); }

}  // namespace jevons
