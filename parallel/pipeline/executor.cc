#include "parallel/pipeline/executor.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <iterator>
#include <string>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/tensor/device.h"
#include "parallel/comm/heartbeat.h"
#include "parallel/pipeline/validate.h"
#include "parallel/pipeline/walk.h"

namespace jevons {
namespace {

using Kind = TaskKind;

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

MessageNames NamesOf(const Task& task) { return {ToString(task), ToString(PeerOf(task))}; }

// Whether a result goes from one rank to another.
bool CrossesRanks(const Schedule& schedule) {
  return std::any_of(schedule.routes.begin(), schedule.routes.end(), [](const std::vector<int>& route) {
    return std::adjacent_find(route.begin(), route.end(), std::not_equal_to<>()) != route.end();
  });
}

}  // namespace

Executor::Executor(Schedule schedule, Communicator& pp, const Stream& stream, std::vector<Stage*> stages,
                   ActionObserver* observer)
    : schedule_(std::move(schedule)), pp_(pp), stream_(stream), stages_(std::move(stages)), observer_(observer) {
  const absl::Status valid = Validate(schedule_);
  JEVONS_CHECK(valid.ok(), "%s", std::string(valid.message()).c_str());
  JEVONS_CHECK(schedule_.communicates() || !CrossesRanks(schedule_), "schedule %s has no communication inserted",
               schedule_.name.c_str());
  JEVONS_CHECK(schedule_.ranks() == pp_.size(), "schedule %s of %d ranks on %d", schedule_.name.c_str(), schedule_.ranks(),
               pp_.size());
  std::vector<int> given;
  for (int stage = 0; stage < static_cast<int>(stages_.size()); ++stage)
    if (stages_[stage] != nullptr) given.push_back(stage);
  JEVONS_CHECK(static_cast<int>(stages_.size()) == schedule_.stages && given == schedule_.StagesOf(pp_.rank()),
               "rank %d was not given exactly its stages of schedule %s", pp_.rank(), schedule_.name.c_str());
}

void Executor::Run() {
  for (const Action& action : schedule_.actions[pp_.rank()]) {
    const double begin = observer_ != nullptr ? Now() : 0;
    waited_ = 0;
    if (HeartbeatIsOpen()) HeartbeatAction(ToString(action));
    Do(action);
    if (observer_ != nullptr) observer_->Ran(action, begin, Now(), waited_);
    MoveOn();
  }
  HeartbeatAction("");
  for (auto send = sends_.begin(); send != sends_.end();) send = EndSend(send);
}

void Executor::Do(const Action& action) {
  if (action.overlapped()) {
    Phases forward = PhasesOf(action.tasks()[0]), backward = PhasesOf(action.tasks()[1]);
    return RunPair(std::move(forward), std::move(backward));
  }
  const Task& task = action.first();
  switch (task.kind) {
    case Kind::kRecvForward:
    case Kind::kRecvBackward: return Receive(task);
    case Kind::kSendForward:
    case Kind::kSendBackward: return Send(task);
    case Kind::kForward:
    case Kind::kBackward:
    case Kind::kBackwardInput: return PhasesOf(task).Finish();
    case Kind::kBackwardWeight: return stages_[task.stage]->BackwardWeight(task.micro_batch);
    case Kind::kReduce: return stages_[task.stage]->ReduceGradients();
    case Kind::kRecompute: return stages_[task.stage]->Recompute(task.micro_batch).Finish();
  }
}

Phases Executor::PhasesOf(const Task& task) {
  const auto [kind, stage, micro_batch] = task;
  Stage& here = *stages_[stage];
  if (kind == Kind::kForward) {
    Fetch({Kind::kRecvForward, stage, micro_batch});
    return here.Forward(micro_batch);
  }
  Fetch({Kind::kRecvBackward, stage, micro_batch});
  return kind == Kind::kBackward ? here.Backward(micro_batch) : here.BackwardInput(micro_batch);
}

void Executor::Receive(const Task& task) {
  const int peer = RankOf(PeerOf(task));
  receives_.push_back({task, peer, pp_.BeginReceive(stream_, PlaceOf(task), peer, NamesOf(task))});
}

void Executor::Send(const Task& task) {
  const int peer = RankOf(PeerOf(task));
  const auto to_peer = [peer](const Message& send) { return send.peer == peer; };
  if (std::count_if(sends_.begin(), sends_.end(), to_peer) == kSends)
    EndSend(std::find_if(sends_.begin(), sends_.end(), to_peer));
  sends_.push_back({task, peer, pp_.BeginSend(stream_, ResultOf(task), peer, NamesOf(task))});
}

void Executor::Fetch(const Task& receive) {
  const Task send = PeerOf(receive);
  if (send.stage < 0 || send.stage == schedule_.stages) return;  // the first stage's input, the last one's gradient
  if (RankOf(send) != pp_.rank()) return Await(receive);
  const Communicator::ConstBytes from = ResultOf(send);
  const Communicator::Bytes to = PlaceOf(receive);
  JEVONS_CHECK(from.size() == to.size(), "%s of %zu bytes for %s of %zu", ToString(send).c_str(), from.size(),
               ToString(receive).c_str(), to.size());
  if (!from.empty()) CopyBytes(stream_, from.data(), to.data(), static_cast<int64_t>(from.size()));
  Release(send);
}

void Executor::Await(const Task& receive) {
  const auto message =
      std::find_if(receives_.begin(), receives_.end(), [&](const Message& message) { return message.task == receive; });
  WaitFor(message->request);
  receives_.erase(message);
}

void Executor::WaitFor(CommRequest request) {
  const double begin = observer_ != nullptr ? Now() : 0;
  pp_.Wait(stream_, request);
  if (observer_ != nullptr) waited_ += Now() - begin;
}

std::list<Executor::Message>::iterator Executor::EndSend(std::list<Message>::iterator send) {
  WaitFor(send->request);
  Release(send->task);
  return sends_.erase(send);
}

// On the host messages travel while somebody asks. What is done ends by number all the same: the memory of a step is to tell nothing
// of its timing.
void Executor::MoveOn() {
  if (stream_.device != Device::kCpu) return;
  if (!receives_.empty()) {
    pp_.Done(stream_, receives_.front().request);
  } else if (!sends_.empty()) {
    pp_.Done(stream_, sends_.front().request);
  }
}

Communicator::Bytes Executor::PlaceOf(const Task& receive) {
  Stage& stage = *stages_[receive.stage];
  return receive.kind == Kind::kRecvForward ? stage.Input(receive.micro_batch) : stage.OutputGradient(receive.micro_batch);
}

Communicator::ConstBytes Executor::ResultOf(const Task& send) {
  Stage& stage = *stages_[send.stage];
  return send.kind == Kind::kSendForward ? stage.Output(send.micro_batch) : stage.InputGradient(send.micro_batch);
}

void Executor::Release(const Task& send) {
  Stage& stage = *stages_[send.stage];
  send.kind == Kind::kSendForward ? stage.ReleaseOutput(send.micro_batch) : stage.ReleaseInputGradient(send.micro_batch);
}

}  // namespace jevons
